"""Promises about resends that nothing but their likeness shows: when they are inferred, and when never."""

import asyncio
from typing import Any

import pytest
from opentelemetry.trace import use_span

from origin import Answer, Origin
from retrospan_instrumentation import resends
from retrospan_instrumentation import semconv as sc

from .conftest import Spans
from .scenario import HTTP, call

COUNT = (sc.HTTP_REQUEST_RESEND_COUNT, sc.RETRY_SOURCE)
FIRST = (0, None)


async def own_loop(http: HTTP, client: Any, urls: list[str], **options: Any) -> None:
    for url in urls:
        await call(client.request("POST" if options else "GET", url, **options))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_equal_request_right_after_a_failure_is_inferred(
    http: HTTP, spans: Spans, origin: Origin, status: int
) -> None:
    url = origin.script("/", Answer(status), Answer(status), Answer(200))

    async def scenario() -> None:
        client = http.client()
        await own_loop(http, client, [url] * 4)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "inferred"), (2, "inferred"), FIRST]


@pytest.mark.parametrize("status", [200, 302, 400, 401, 404])
def test_nothing_is_inferred_after_any_other_answer(http: HTTP, spans: Spans, origin: Origin, status: int) -> None:
    url = origin.script("/", Answer(status))

    async def scenario() -> None:
        client = http.client()
        await own_loop(http, client, [url] * 2)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, FIRST]


def test_nothing_is_inferred_of_another_url_method_or_body(http: HTTP, spans: Spans, origin: Origin) -> None:
    url, other = origin.script("/a", Answer(503)), origin.script("/b", Answer(503))

    async def scenario() -> None:
        client = http.client()
        await own_loop(http, client, [url, other, url])
        await call(client.post(url, content=b"a"))
        await call(client.post(url, content=b"b"))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST] * 5


def test_nothing_is_inferred_of_a_body_that_cannot_be_compared(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        client = http.client()
        await own_loop(http, client, [url] * 2, files={"file": b"content"})
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, FIRST]


def test_nothing_is_inferred_under_another_parent(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        client = http.client()
        for _ in range(2):
            with use_span(spans.provider.get_tracer("program").start_span("part"), end_on_exit=True):
                await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, FIRST]


def test_nothing_is_inferred_in_another_task(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "asyncio")
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        async with http.client() as client:
            await call(client.get(url))
            for _ in range(8):
                # Each new task may well be at the address of one that is gone.
                await asyncio.create_task(call(client.get(url)))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST] * 9


def test_nothing_is_inferred_of_a_task_that_is_gone_by_its_address(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "asyncio")
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        async with http.client() as client:
            heirs: list[asyncio.Task[Any]] = []

            async def wait_and_pass_on(depth: int) -> None:
                # Inherits the context of a task that failed and is gone by now; sends from a new task.
                await asyncio.sleep(0)
                heirs.extend(asyncio.create_task(call(client.get(url))) for _ in range(20))

            async def fail() -> asyncio.Task[None]:
                await call(client.get(url))
                return asyncio.create_task(wait_and_pass_on(1))

            await (await asyncio.create_task(fail()))
            await asyncio.gather(*heirs)

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST] * 21


def test_an_error_before_any_answer_is_followed_by_an_inferred_resend(http: HTTP, spans: Spans) -> None:
    async def scenario() -> None:
        client = http.client()
        for _ in range(2):
            with pytest.raises(http.module.ConnectError):
                await call(client.get("http://127.0.0.1:9/"))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "inferred")]


def test_resends_of_a_transport_without_client_are_inferred(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        wire = http.wire()
        for _ in range(2):
            response = await call(http.handle(wire, http.module.Request("GET", url)))
            await http.read(response)
            await call(http.close(response))
        await call(http.close(wire))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "inferred")]


def test_no_request_is_kept_by_what_is_remembered_of_it(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "sync")
    kept = len(resends._of_request)
    with http.client() as client:
        for _ in range(3):
            client.get(origin.url("/"))
    assert len(resends._of_request) <= kept + 1
