"""Promises where a client's transport is the wire itself, which the hooks take a shorter way for: the same rows as ever, and
the long way wherever somebody has put something between."""

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import FunctionType, ModuleType
from typing import Any

import pybreaker
import pyrate_limiter
import pytest

from origin import Answer, Origin
from retrospan_instrumentation import frames, resends
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.sends import Send

from .conftest import Spans
from .scenario import HTTP, call

KNOWN = (sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_WIRE, sc.HTTP_REQUEST_HOP_LAST, sc.HTTP_REQUEST_RESEND_COUNT)


def get(http: HTTP, url: str, client: Any = None, times: int = 1) -> None:
    client = http.client() if client is None else client

    async def scenario() -> None:
        for _ in range(times):
            await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())


def handler(http: HTTP) -> str:
    return "handle_async_request" if http.is_async else "handle_request"


def answering(http: HTTP, status: int) -> Any:
    async def handle(*_: Any) -> Any:
        return http.module.Response(status)

    return http.function(handle)


def test_a_plain_send_was_on_the_wire_and_its_client_has_its_answer(http: HTTP, spans: Spans, origin: Origin) -> None:
    get(http, origin.script("/", Answer(200), Answer(404)), times=2)
    assert spans.sends(*KNOWN) == [(200, True, True, 0), (404, True, True, 0)]


def test_nothing_went_over_a_wire_that_a_program_has_replaced_in_its_transport(http: HTTP, spans: Spans) -> None:
    transport = http.wire()
    setattr(transport, handler(http), answering(http, 202))
    get(http, "http://a.example/", http.client(transport=transport))
    assert spans.sends(*KNOWN) == [(202, None, True, 0)]


def test_nothing_went_over_a_wire_that_a_program_has_patched(
    http: HTTP, spans: Spans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(http.wire()), handler(http), answering(http, 202))
    get(http, "http://a.example/")
    assert spans.sends(*KNOWN) == [(202, None, True, 0)]


def test_a_patch_that_sends_twice_is_two_rows(
    http: HTTP, spans: Spans, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire = type(http.wire())
    hooked = getattr(wire, handler(http))

    async def twice(transport: Any, request: Any) -> Any:
        await call(http.close(await call(hooked(transport, request))))
        return await call(hooked(transport, request))

    monkeypatch.setattr(wire, handler(http), http.function(twice))
    get(http, origin.script("/", Answer(503), Answer(200)))
    assert spans.sends(*KNOWN) == [(503, True, False, 0), (200, True, True, 1)]


def test_a_transport_of_a_programs_own_class_may_send_as_often_as_it_likes(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    wire = type(http.wire())
    library = getattr(wire, handler(http))

    async def twice(transport: Any, request: Any) -> Any:
        await call(http.close(await call(library(transport, request))))
        return await call(library(transport, request))

    own = type("Own", (wire,), {handler(http): http.function(twice)})
    get(http, origin.script("/", Answer(503), Answer(200)), http.client(transport=own(verify=False)))
    assert spans.sends(*KNOWN) == [(503, True, False, 0), (200, True, True, 1)]


def test_a_client_that_chooses_its_transport_itself_is_seen_as_it_sends(http: HTTP, spans: Spans) -> None:
    class Own(http.module.AsyncClient if http.is_async else http.module.Client):  # type: ignore[misc]
        def _transport_for_url(self, url: Any) -> Any:
            return mock

    mock = http.mock(lambda request: http.module.Response(202))
    get(http, "http://a.example/", Own(verify=False), times=2)
    assert spans.sends(*KNOWN) == [(202, None, True, 0)] * 2


def test_a_request_that_came_to_no_wire_is_kept_for_none(spans: Spans, origin: Origin) -> None:
    sync, asynchronous = HTTP("httpx2", "sync"), HTTP("httpx2", "asyncio")
    client = asynchronous.client()
    request = client.build_request("POST", origin.url("/"), content=asynchronous_body())

    async def scenario() -> None:
        with pytest.raises(RuntimeError), sync.client() as wrong:
            wrong.send(request)
        response = await asynchronous.wire().handle_async_request(request)
        assert response.status_code == 200
        await response.aread()

    asynchronous.run(scenario())
    assert spans.sends(sc.HTTP_REQUEST_WIRE, sc.ERROR_TYPE)[0] == (None, "RuntimeError")
    assert spans.sends(sc.HTTP_REQUEST_WIRE)[1] is True


async def asynchronous_body() -> Any:
    yield b"ab"


def test_one_request_sent_by_two_threads_at_once_is_two_plain_sends(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "sync")
    client, barrier = http.client(), Barrier(2)
    request = client.build_request("GET", origin.url("/"))

    def send() -> int:
        barrier.wait()
        return int(client.send(request).status_code)

    with ThreadPoolExecutor(2) as pool:
        assert [done.result() for done in [pool.submit(send) for _ in range(2)]] == [200, 200]
    client.close()
    assert spans.sends(*KNOWN[:3]) == [(200, True, True)] * 2


def reached(thing: Any) -> Iterator[Any]:
    """All that an object keeps alive."""
    seen: dict[int, Any] = {}
    left = [thing]
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, (type, ModuleType, FunctionType)):
            seen[id(one)] = one
            left += gc.get_referents(one)
            yield one


def test_what_is_remembered_of_a_request_keeps_no_frame_alive(http: HTTP, spans: Spans, origin: Origin) -> None:
    limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(1000, pyrate_limiter.Duration.SECOND))
    breaker = pybreaker.CircuitBreaker(name="api")

    async def scenario() -> None:
        client = http.client()

        async def fetch() -> None:
            with breaker.calling():
                limiter.try_acquire("key")
                await call(client.get(origin.url("/")))

        await http.retry(fetch)
        assert isinstance(resends.last.get(), Send)
        assert [thing for thing in reached(resends.last.get()) if isinstance(thing, frames.Frame)] == []
        await call(http.close(client))

    http.run(scenario())
    assert len(spans.clients()) == 1
