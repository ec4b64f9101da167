"""What was made before the hooks were put on, bound methods too, is reached; taken off again, it works as before."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import httpx2
import pybreaker
import pyrate_limiter
import pytest
import tenacity
from opentelemetry import trace

from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc

from .conftest import recording
from .scenario import HTTP, call

COUNT = (sc.HTTP_REQUEST_RESEND_COUNT, sc.RETRY_SOURCE)
BREAKER = (sc.CIRCUIT_BREAKER_STATE, sc.CIRCUIT_BREAKER_RECORDED)
TWICE = {"stop": tenacity.stop_after_attempt(2), "reraise": True}
AGAIN = [(0, None), (1, "frame")]


@pytest.mark.parametrize("method", ["get", "request", "send", "stream"])
def test_a_bound_method_of_a_client_sends_as_seen(http: HTTP, origin: Origin, method: str) -> None:
    url = origin.url("/")

    async def scenario() -> None:
        client = http.client()
        bound = getattr(client, method)

        async def ask() -> None:
            if method == "stream":
                opened = bound("GET", url)
                response = await opened.__aenter__() if http.is_async else opened.__enter__()
                await http.read(response)
                await call(opened.__aexit__(None, None, None) if http.is_async else opened.__exit__(None, None, None))
            else:
                what = {"get": (url,), "request": ("GET", url), "send": (client.build_request("GET", url),)}[method]
                await call(bound(*what))

        await ask()
        with recording() as spans:
            await ask()
        assert spans.sends(sc.HTTP_REQUEST_WIRE, sc.HTTP_RESPONSE_STATUS_CODE) == [(True, 200)]
        await ask()
        assert len(spans.started) == 1
        await call(http.close(client))

    http.run(scenario())
    assert [bool(entry.span_id) for entry in origin.log] == [False, True, False]


@pytest.mark.parametrize("get", [httpx.get, httpx2.get], ids=["httpx", "httpx2"])
def test_a_function_imported_before_sends_as_seen(origin: Origin, get: Callable[..., Any]) -> None:
    with recording() as spans:
        get(origin.url("/"))
    assert [entry.span_id for entry in origin.log] == [f"{span.context.span_id:016x}" for span in spans.clients()]


def test_a_functions_retry_made_before_is_known(http: HTTP, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        client = http.client()

        async def get() -> Any:
            return (await call(client.get(url))).raise_for_status()

        decorated, policy = tenacity.retry(**TWICE)(http.function(get)), http.retrying_call(**TWICE)
        for retrying in (decorated, lambda: policy(http.function(get))):
            origin.script("/", Answer(503), Answer(200))
            with recording() as spans:
                await call(retrying())
            assert spans.sends(*COUNT) == AGAIN
        await call(http.close(client))

    http.run(scenario())


def test_a_loop_that_began_before_is_known_from_its_next_attempt_on(origin: Origin) -> None:
    url = origin.script("/", Answer(503))
    attempts = iter(tenacity.Retrying(stop=tenacity.stop_after_attempt(3), reraise=True))
    with httpx2.Client() as client:

        def attempt() -> None:
            with next(attempts):
                client.get(url).raise_for_status()

        attempt()
        with recording() as spans:
            attempt()
            with pytest.raises(httpx2.HTTPStatusError):
                attempt()
                next(attempts)
    assert spans.sends(*COUNT) == AGAIN


@pytest.mark.parametrize("http", [HTTP("httpx2", "sync"), HTTP("httpx", "asyncio")], ids=["sync", "asyncio"])
def test_a_limiters_bound_methods_are_known(http: HTTP, origin: Origin) -> None:
    async def scenario() -> None:
        client, limits = http.client(), pyrate_limiter.Limiter(pyrate_limiter.Rate(9, 1000))
        acquire = limits.try_acquire_async if http.is_async else limits.try_acquire
        assert await call(acquire("127.0.0.1"))
        with recording() as spans:
            assert await call(acquire("127.0.0.1"))
            await call(client.get(origin.url("/")))
        (told,) = spans.waits()
        assert told[1] == {sc.RATE_LIMITER_NAME: "127.0.0.1", sc.SERVER_ADDRESS: "127.0.0.1"} | {
            sc.RATE_LIMITER_DELAY_MS: spans.sends(sc.RATE_LIMITER_DELAY_MS)[0]
        }
        await call(http.close(client))

    http.run(scenario())


def test_a_function_that_a_breaker_decorated_before_is_judged_as_seen(origin: Origin) -> None:
    breaker = pybreaker.CircuitBreaker(name="127.0.0.1")
    with httpx2.Client() as client:
        decorated = breaker(lambda: client.get(origin.url("/")))
        with recording() as spans:
            decorated()
    assert spans.sends(*BREAKER) == [("closed", "success")]
    assert breaker.listeners == ()


def test_a_pool_made_before_carries_the_context(origin: Origin) -> None:
    with ThreadPoolExecutor(1) as pool, httpx2.Client() as client:
        pool.submit(client.get, origin.url("/")).result()
        with recording() as spans, spans.provider.get_tracer("program").start_as_current_span("program") as outer:
            pool.submit(client.get, origin.url("/")).result()
        assert [span.parent.span_id for span in spans.clients() if span.parent] == [outer.get_span_context().span_id]
        pool.submit(client.get, origin.url("/")).result()
        assert len(spans.clients()) == 1


def test_an_executor_of_a_loop_made_before_carries_the_context(origin: Origin) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        run, client = loop.run_in_executor, httpx2.Client()
        await run(None, client.get, origin.url("/"))
        with recording() as spans, spans.provider.get_tracer("program").start_as_current_span("program"):
            outer = trace.get_current_span().get_span_context()
            await run(None, client.get, origin.url("/"))
            await asyncio.to_thread(client.get, origin.url("/"))
        assert [span.parent.span_id for span in spans.clients() if span.parent] == [outer.span_id] * 2
        client.close()

    asyncio.run(main())


def test_a_wire_that_was_bound_before_is_one_row_of_an_unknown_transport(http: HTTP, origin: Origin) -> None:
    async def scenario() -> None:
        wire = http.wire()
        send = wire.handle_async_request if http.is_async else wire.handle_request

        async def handle(request: Any) -> Any:
            return await call(send(request))

        client = http.client(transport=http.through(handle, wire))
        with recording() as spans:
            await call(client.get(origin.url("/")))
        keys = (sc.HTTP_REQUEST_WIRE, sc.HTTP_CACHE_HIT, sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_HOP_LAST)
        assert spans.sends(*keys) == [(None, None, 200, True)]
        await call(http.close(client))

    http.run(scenario())


def test_a_retrys_bound_call_is_inferred(http: HTTP, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        client, bound = http.client(), http.retrying_call(**TWICE).__call__

        async def get() -> Any:
            return (await call(client.get(url))).raise_for_status()

        with recording() as spans:
            await call(bound(http.function(get)))
        assert spans.sends(*COUNT) == [(0, None), (1, "inferred")]
        await call(http.close(client))

    http.run(scenario())


def test_a_bound_submit_carries_nothing(origin: Origin) -> None:
    with ThreadPoolExecutor(1) as pool, httpx2.Client() as client:
        submit = pool.submit
        with recording() as spans, spans.provider.get_tracer("program").start_as_current_span("program"):
            submit(client.get, origin.url("/")).result()
    assert [span.parent for span in spans.clients()] == [None]
