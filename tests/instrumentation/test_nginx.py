"""Against a server that nobody here wrote: nginx, whose access log is the truth."""

import ssl
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hishel import AsyncSqliteStorage, SqliteStorage

import retrospan_instrumentation.semconv as sc

from .conftest import Spans
from .nginx import BIG, Nginx
from .scenario import HTTP, call

pytestmark = pytest.mark.debian


@pytest.fixture(
    params=[(library, mode) for library in ("httpx2", "httpx") for mode in ("sync", "asyncio")], ids="-".join
)
def http(request: pytest.FixtureRequest) -> HTTP:
    return HTTP(*request.param)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path / "nginx") as server:
        yield server


def agree(spans: Spans, nginx: Nginx, count: int) -> list[dict[str, Any]]:
    """The log, after it was held against the spans: every request one span, of the same status, in the same order."""
    log = nginx.log(count)
    logged = [(line["traceparent"].split("-")[2], line["status"]) for line in log]
    wires = [span for span in spans.clients() if (span.attributes or {})[sc.HTTP_REQUEST_WIRE]]
    seen = [
        (f"{span.context.span_id:016x}", (span.attributes or {}).get(sc.HTTP_RESPONSE_STATUS_CODE)) for span in wires
    ]  # type: ignore[union-attr]
    assert seen == logged
    assert len(log) == count
    return log


def test_a_limit_of_the_servers_is_a_429_with_its_retry_after_and_the_resend_counts(
    http: HTTP, spans: Spans, nginx: Nginx
) -> None:
    async def scenario() -> None:
        client = http.client()

        async def ask() -> None:
            (await call(client.get(nginx.url("/limited")))).raise_for_status()

        await ask()
        with pytest.raises(http.module.HTTPStatusError):
            await http.retry(ask)
        await call(http.close(client))

    http.run(scenario())
    agree(spans, nginx, 4)
    facts = spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_RESPONSE_RETRY_AFTER, sc.HTTP_REQUEST_RESEND_COUNT)
    assert facts == [(200, None, 0), (429, 3.0, 0), (429, 3.0, 1), (429, 3.0, 2)]


def test_an_etag_is_revalidated_by_the_client_cache(http: HTTP, spans: Spans, nginx: Nginx, tmp_path: Path) -> None:
    async def scenario() -> None:
        hishel = import_module(f"hishel.{http.library}")
        storage = (AsyncSqliteStorage if http.is_async else SqliteStorage)(database_path=tmp_path / "cache.db")
        make = hishel.AsyncCacheTransport if http.is_async else hishel.CacheTransport
        client = http.client(transport=make(http.wire(), storage=storage, rfc=True))
        for _ in range(2):
            assert (await call(client.get(nginx.url("/etag")))).json() == {"kept": True}
        await call(http.close(client))

    http.run(scenario())
    assert [line["status"] for line in agree(spans, nginx, 2)] == [200, 304]
    assert spans.sends(sc.HTTP_CACHE_HIT, sc.HTTP_CACHE_REVALIDATED) == [(False, False), (True, True)]


def test_a_cache_of_the_servers_is_not_taken_for_the_clients(http: HTTP, spans: Spans, nginx: Nginx) -> None:
    async def scenario() -> None:
        client = http.client()
        for _ in range(2):
            await call(client.get(nginx.url("/proxied")))
        await call(http.close(client))

    http.run(scenario())
    assert [line["cache"] for line in agree(spans, nginx, 2)] == ["MISS", "HIT"]
    assert spans.sends(sc.HTTP_CACHE_HIT) == [False, False]


def test_a_zipped_body_is_counted_as_it_came_over_the_wire(http: HTTP, spans: Spans, nginx: Nginx) -> None:
    async def scenario() -> None:
        client = http.client()
        assert (await call(client.get(nginx.url("/zipped")))).text == BIG
        await call(http.close(client))

    http.run(scenario())
    (line,) = agree(spans, nginx, 1)
    (counted,) = spans.sends(sc.HTTP_RESPONSE_BODY_SIZE)
    assert line["encoding"] == "gzip"
    # nginx counts the frames of the chunked encoding too.
    assert counted <= line["bytes"] < counted + 200
    assert counted < len(BIG) / 10


def test_http_2_is_the_same_and_says_so(http: HTTP, spans: Spans, nginx: Nginx) -> None:
    async def scenario() -> None:
        client = http.client(http2=True, verify=ssl.create_default_context(cafile=nginx.certificate))
        for _ in range(2):
            assert (await call(client.get(nginx.tls_url("/etag")))).status_code == 200
        await call(http.close(client))

    http.run(scenario())
    assert [line["protocol"] for line in agree(spans, nginx, 2)] == ["HTTP/2.0", "HTTP/2.0"]
    assert spans.sends(sc.NETWORK_PROTOCOL_VERSION, sc.URL_SCHEME) == [("2", "https"), ("2", "https")]


def test_a_connection_that_is_dropped_without_an_answer_is_an_error_row(http: HTTP, spans: Spans, nginx: Nginx) -> None:
    async def scenario() -> None:
        client = http.client()
        with pytest.raises(http.module.RemoteProtocolError):
            await call(client.get(nginx.url("/gone")))
        assert (await call(client.get(nginx.url("/etag")))).status_code == 200
        await call(http.close(client))

    http.run(scenario())
    (gone, kept) = nginx.log(2)
    assert (gone["status"], kept["status"]) == (444, 200)  # 444 is nginx's own word for an answer that it did not give
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.ERROR_TYPE) == [(None, "RemoteProtocolError"), (200, None)]
    assert [line["traceparent"].split("-")[2] for line in (gone, kept)] == [
        f"{span.context.span_id:016x}"
        for span in spans.clients()  # type: ignore[union-attr]
    ]


def test_an_error_page_gives_no_role_and_a_redirect_is_a_hop_of_its_own(http: HTTP, spans: Spans, nginx: Nginx) -> None:
    async def scenario() -> None:
        client = http.client(follow_redirects=True)
        assert (await call(client.get(nginx.url("/broken")))).status_code == 503
        assert (await call(client.get(nginx.url("/moved")))).status_code == 200
        await call(http.close(client))

    http.run(scenario())
    assert [line["path"] for line in agree(spans, nginx, 3)][1:] == ["/moved", "/etag"]
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_ROLE, sc.HTTP_REQUEST_HOP_LAST) == [
        (503, None, True),
        (302, None, True),
        (200, "metadata", True),
    ]
