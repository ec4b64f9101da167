"""Promises of the hishel hooks: an answer of the cache is one span; a revalidation is the one send that it took."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hishel import AsyncSqliteStorage, SqliteStorage
from opentelemetry import trace

from origin import Answer, Origin
from retrospan_instrumentation import hishel as hooks
from retrospan_instrumentation import semconv as sc

from .conftest import Spans
from .scenario import HTTP, call

CACHE = (
    sc.HTTP_RESPONSE_STATUS_CODE,
    sc.HTTP_REQUEST_WIRE,
    sc.HTTP_CACHE_HIT,
    sc.HTTP_CACHE_REVALIDATED,
    sc.HTTP_CACHE_STALE,
    sc.HTTP_REQUEST_HOP_LAST,
)
MISS = (200, True, False, False, False, True)
JSON = {"content-type": "application/json"}
Scenario = Callable[[Any], Awaitable[None]]


def cached(http: HTTP, inner: Any, path: Path, rfc: bool = True) -> Any:
    """A cache transport of hishel's for this library and mode."""
    module: Any = import_module(f"hishel.{http.library}")
    if http.is_async:
        return module.AsyncCacheTransport(inner, storage=AsyncSqliteStorage(database_path=path), rfc=rfc)
    return module.CacheTransport(inner, storage=SqliteStorage(database_path=path), rfc=rfc)


@pytest.fixture
def run(http: HTTP, tmp_path: Path) -> Callable[..., None]:
    """Run a scenario with a caching client, whose transport may have something between it and the wire."""

    def run(scenario: Scenario, around: Callable[[Any], Any] = lambda transport: transport, **options: Any) -> None:
        async def whole() -> None:
            client = http.client(transport=cached(http, around(http.wire()), tmp_path / "cache.db", **options))
            await scenario(client)
            await call(http.close(client))

        http.run(whole())

    return run


def gets(url: str, times: int) -> Scenario:
    async def scenario(client: Any) -> None:
        for _ in range(times):
            assert (await call(client.get(url))).status_code == 200

    return scenario


def test_a_miss_is_a_send_and_a_hit_is_an_answer_without_one(
    spans: Spans, origin: Origin, run: Callable[..., None]
) -> None:
    url = origin.script("/", Answer(body=b"{}", headers={**JSON, "cache-control": "max-age=60"}))
    run(gets(url, 3))
    hit = (200, False, True, False, False, True)
    assert spans.sends(*CACHE) == [MISS, hit, hit]
    assert [entry.span_id for entry in origin.log] == [f"{spans.clients()[0].context.span_id:016x}"]
    assert spans.sends(sc.HTTP_RESPONSE_BODY_SIZE) == [2, 2, 2]
    assert spans.sends(sc.HTTP_REQUEST_ROLE) == ["metadata"] * 3
    assert spans.sends(sc.HTTP_REQUEST_RESEND_COUNT) == [0] * 3


def test_a_hit_is_a_child_of_the_span_around_it(spans: Spans, origin: Origin, run: Callable[..., None]) -> None:
    url = origin.script("/", Answer(headers={**JSON, "cache-control": "max-age=60"}))
    with spans.provider.get_tracer("program").start_as_current_span("program"):
        parent = trace.get_current_span().get_span_context().span_id
        run(gets(url, 2))
    assert [span.parent.span_id for span in spans.clients() if span.parent] == [parent, parent]


def test_a_revalidation_is_one_send_of_status_304(spans: Spans, origin: Origin, run: Callable[..., None]) -> None:
    url = origin.script("/", Answer(headers={**JSON, "cache-control": "max-age=0"}, etag='"v1"'))
    run(gets(url, 2))
    assert spans.sends(*CACHE) == [MISS, (304, True, True, True, False, True)]
    assert origin.statuses() == [200, 304]
    assert [entry.span_id for entry in origin.log] == [f"{span.context.span_id:016x}" for span in spans.clients()]
    assert spans.sends(sc.HTTP_REQUEST_ROLE) == ["metadata", "metadata"]


def test_a_revalidation_by_a_cache_that_no_hook_knows_is_one_too(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(headers=JSON, etag='"v1"'))

    async def scenario() -> None:
        wire, kept = http.wire(), b""

        async def confirm(request: Any) -> Any:
            nonlocal kept
            request.headers["if-none-match"] = '"v1"' if kept else '"none"'
            response = await call(http.handle(wire, request))
            if response.status_code == 304:
                await call(http.close(response))
                return http.module.Response(200, headers=JSON, content=kept)
            kept = await http.read(response)
            return response

        client = http.client(transport=http.through(confirm, wire))
        await gets(url, 2)(client)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*CACHE) == [MISS, (304, True, True, True, False, True)]
    assert spans.sends(sc.HTTP_REQUEST_ROLE) == ["metadata", "metadata"]


def test_what_has_changed_is_a_send_like_any_other(spans: Spans, origin: Origin, run: Callable[..., None]) -> None:
    headers = {**JSON, "cache-control": "max-age=0"}
    url = origin.script("/", Answer(headers=headers, etag='"v1"'), Answer(headers=headers, etag='"v2"'))
    run(gets(url, 2))
    assert spans.sends(*CACHE) == [MISS, MISS]


def test_a_cache_without_rfc_answers_too(spans: Spans, origin: Origin, run: Callable[..., None]) -> None:
    run(gets(origin.script("/", Answer(headers=JSON)), 2), rfc=False)
    assert spans.sends(*CACHE) == [MISS, (200, False, True, False, None, True)]
    assert len(origin.log) == 1


def test_a_retry_under_a_cache_counts_its_sends(
    http: HTTP, spans: Spans, origin: Origin, run: Callable[..., None]
) -> None:
    url = origin.script("/", Answer(503), Answer(200, headers={**JSON, "cache-control": "max-age=60"}))
    run(gets(url, 2), http.retrying)
    keys = (sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_WIRE, sc.HTTP_REQUEST_RESEND_COUNT, sc.HTTP_REQUEST_HOP_LAST)
    assert spans.sends(*keys) == [(503, True, 0, False), (200, True, 1, True), (200, False, 0, True)]


def test_a_retry_over_a_cache_counts_its_sends(http: HTTP, spans: Spans, origin: Origin, tmp_path: Path) -> None:
    url = origin.script("/", Answer(503), Answer(200, headers={**JSON, "cache-control": "max-age=60"}))

    async def scenario() -> None:
        client = http.client(transport=http.retrying(cached(http, http.wire(), tmp_path / "cache.db")))
        await gets(url, 2)(client)
        await call(http.close(client))

    http.run(scenario())
    keys = (sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_WIRE, sc.HTTP_REQUEST_RESEND_COUNT, sc.HTTP_REQUEST_HOP_LAST)
    assert spans.sends(*keys) == [(503, True, 0, False), (200, True, 1, True), (200, False, 0, True)]


def test_an_answer_of_the_cache_takes_no_time_of_what_waited_before_it(
    http: HTTP, spans: Spans, origin: Origin, tmp_path: Path
) -> None:
    url = origin.script("/", Answer(headers={**JSON, "cache-control": "max-age=60"}))
    asked: list[int] = []

    async def scenario() -> None:
        cache = cached(http, http.wire(), tmp_path / "cache.db")

        async def limited(request: Any) -> Any:
            time.sleep(0.02)
            asked.append(time.time_ns())
            return await call(http.handle(cache, request))

        client = http.client(transport=http.through(limited, cache))
        await gets(url, 2)(client)
        await call(http.close(client))

    http.run(scenario())
    _, hit = spans.clients()
    assert hit.start_time is not None
    assert hit.start_time >= asked[1]


def test_an_error_under_the_cache_is_an_error_of_its_send(http: HTTP, spans: Spans, run: Callable[..., None]) -> None:
    async def scenario(client: Any) -> None:
        with pytest.raises(http.module.ConnectError):
            await call(client.get("http://127.0.0.1:9/"))

    run(scenario)
    assert spans.sends(sc.ERROR_TYPE, sc.HTTP_REQUEST_WIRE, sc.HTTP_CACHE_HIT) == [("ConnectError", True, False)]


def test_a_broken_body_under_the_cache_is_an_error_of_its_send(
    http: HTTP, spans: Spans, origin: Origin, run: Callable[..., None]
) -> None:
    url = origin.script("/", Answer(body=b"x" * 1000, headers={**JSON, "cache-control": "max-age=60"}, cut=10))

    async def scenario(client: Any) -> None:
        with pytest.raises(http.module.RemoteProtocolError):
            await call(client.get(url))

    run(scenario)
    keys = (sc.HTTP_RESPONSE_STATUS_CODE, sc.ERROR_TYPE, sc.HTTP_RESPONSE_BODY_SIZE)
    assert spans.sends(*keys) == [(200, "RemoteProtocolError", 10)]


def test_gathered_requests_through_one_cache_keep_their_own_answers(
    spans: Spans, origin: Origin, tmp_path: Path
) -> None:
    http = HTTP("httpx2", "asyncio")
    kept = {**JSON, "cache-control": "max-age=60"}
    known = [origin.script(f"/known{n}", Answer(headers=kept)) for n in range(5)]
    new = [origin.script(f"/new{n}", Answer(headers=kept)) for n in range(5)]

    async def scenario() -> None:
        async with http.client(transport=cached(http, http.wire(), tmp_path / "cache.db")) as client:
            for url in known:
                await client.get(url)
            await asyncio.gather(*(client.get(url) for url in (*known, *new)))

    http.run(scenario())
    assert sorted(spans.sends(sc.HTTP_REQUEST_WIRE, sc.HTTP_CACHE_HIT)) == [(False, True)] * 5 + [(True, False)] * 10
    assert len(origin.log) == 10


# -- what a response says of its cache


class Said:
    def __init__(self, headers: dict[str, str] | None = None, **extensions: Any) -> None:
        self.headers, self.extensions = headers or {}, extensions


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (Said(), (False, False, False)),
        (Said(caching={"from_cache": False, "revalidated": False, "stored": True}), (False, False, False)),
        (Said(caching={"from_cache": True, "revalidated": False}), (True, False, None)),
        (Said(caching={"from_cache": True, "revalidated": True}), (True, True, False)),
        (Said(caching={"from_cache": False, "revalidated": True}), (False, False, False)),
        (Said(hishel_from_cache=True, hishel_revalidated=True), (True, True, False)),
        (Said(hishel_from_cache=True), (True, False, None)),
        (Said(from_cache=True, revalidated=False), (True, False, None)),
        (Said({"age": "5", "cache-control": "max-age=9"}, from_cache=True), (True, False, False)),
        (Said({"age": "9", "cache-control": "max-age=9"}, from_cache=True), (True, False, True)),
    ],
)
def test_every_spelling_of_hishel_is_read(said: Said, answer: tuple[bool, bool, bool | None]) -> None:
    assert tuple(hooks.answer_of(said)) == answer


@pytest.mark.parametrize(
    ("headers", "stale"),
    [
        ({"age": "10", "cache-control": "public, Max-Age=60"}, False),
        ({"age": "61", "cache-control": "max-age=60"}, True),
        ({"age": "60", "cache-control": "max-age=60"}, True),
        ({"age": "60", "cache-control": 'max-age="60", private'}, True),
        (
            {"age": "5", "date": "Tue, 24 Nov 2026 10:00:00 GMT", "expires": "Tue, 24 Nov 2026 10:00:10 GMT"},
            False,
        ),
        (
            {"age": "15", "date": "Tue, 24 Nov 2026 10:00:00 GMT", "expires": "Tue, 24 Nov 2026 10:00:10 GMT"},
            True,
        ),
        ({"age": "0", "date": "Tue, 24 Nov 2026 10:00:00 GMT", "expires": "0"}, None),
        ({"cache-control": "max-age=60"}, None),
        ({"age": "60"}, None),
        ({"age": "old", "cache-control": "max-age=60"}, None),
        ({"age": "-1", "cache-control": "max-age=60"}, None),
        ({"age": "60", "cache-control": "max-age=soon"}, None),
        ({}, None),
    ],
)
def test_stale_follows_from_age_and_lifetime_or_is_unknown(headers: dict[str, str], stale: bool | None) -> None:
    assert hooks.is_stale(headers) is stale
