"""Promises of the pybreaker hooks: the state at the call, what the breaker took the request for, transitions, refusals."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pybreaker
import pytest

from origin import Answer, Origin
from retrospan_instrumentation import frames, waits
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.pybreaker import PybreakerInstrumentor

from .breakers import BREAKER, get_ok, make, through
from .conftest import Spans
from .scenario import HTTP, call

# -- state and outcome on the request


@pytest.mark.parametrize(("status", "recorded"), [(200, "success"), (503, "failure")])
def test_a_request_has_the_state_it_ran_under_and_what_the_breaker_took_it_for(
    http: HTTP, spans: Spans, origin: Origin, status: int, recorded: str
) -> None:
    url = origin.script("/", Answer(status))

    async def scenario() -> None:
        client = http.client()
        try:
            await through(http, make(), lambda: get_ok(client, url))
        except http.module.HTTPStatusError:
            pass
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BREAKER) == [("closed", recorded)]


def test_a_request_outside_every_breaker_has_neither(http: HTTP, spans: Spans, origin: Origin) -> None:
    async def scenario() -> None:
        client = http.client()
        await get_ok(client, origin.url("/"))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BREAKER) == [(None, None)]


def test_an_error_that_the_breaker_excludes_is_a_success(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(404))

    async def scenario() -> None:
        client = http.client()
        with pytest.raises(http.module.HTTPStatusError):
            await through(http, make(exclude=[http.module.HTTPStatusError]), lambda: get_ok(client, url))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BREAKER) == [("closed", "success")]


def test_the_request_is_told_late_with_its_true_end(http: HTTP, spans: Spans, origin: Origin) -> None:
    seen: list[Any] = []

    async def scenario() -> None:
        client = http.client()

        async def fetch_and_work() -> None:
            await get_ok(client, origin.url("/"))
            seen.extend([list(spans.clients()), time.time_ns()])
            time.sleep(0.05)

        await through(http, make(), fetch_and_work)
        await call(http.close(client))

    http.run(scenario())
    (span,) = spans.clients()
    held_back, read = seen
    assert held_back == []
    assert span.end_time is not None
    assert span.end_time <= read
    assert spans.sends(*BREAKER) == [("closed", "success")]


def test_at_most_one_request_a_breaker_call_is_held_back(http: HTTP, spans: Spans, origin: Origin) -> None:
    ended: list[int] = []

    async def scenario() -> None:
        client = http.client()

        async def three() -> None:
            for _ in range(3):
                await get_ok(client, origin.url("/"))
                ended.append(len(spans.clients()))

        await through(http, make(), three)
        await call(http.close(client))

    http.run(scenario())
    assert ended == [0, 1, 2]
    assert spans.sends(*BREAKER) == [("closed", "none"), ("closed", "none"), ("closed", "success")]


def test_a_breaker_around_a_whole_retry_decides_none_of_its_sends(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))
    ended: list[int] = []

    async def scenario() -> None:
        client = http.client()

        async def fetch() -> None:
            response = await call(client.get(url))
            ended.append(len(spans.clients()))
            response.raise_for_status()

        await through(http, make(), lambda: http.retry(fetch))
        await call(http.close(client))

    http.run(scenario())
    assert ended == [1, 2]
    assert spans.sends(*BREAKER) == [("closed", "none"), ("closed", "none")]


def test_a_breaker_inside_a_retry_decides_each_send(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))
    breaker = make()

    async def scenario() -> None:
        client = http.client()
        await http.retry(lambda: through(http, breaker, lambda: get_ok(client, url)))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BREAKER) == [("closed", "failure"), ("closed", "success")]


def test_the_nearest_breaker_decides(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        client = http.client()

        async def inner() -> None:
            with pytest.raises(http.module.HTTPStatusError):
                await through(http, make("inner"), lambda: get_ok(client, url))

        await through(http, make("outer"), inner)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BREAKER) == [("closed", "failure")]


def test_a_breaker_inside_the_transport_decides_the_send(http: HTTP, spans: Spans, origin: Origin) -> None:
    breaker = make()

    async def scenario() -> None:
        wire = http.wire()

        async def guarded(request: Any) -> Any:
            async def send() -> Any:
                return await call(http.handle(wire, request))

            return await through(http, breaker, send)

        client = http.client(transport=http.through(guarded, wire))
        await get_ok(client, origin.url("/"))
        with pytest.raises(http.module.ConnectError):
            await call(client.get("http://127.0.0.1:9/"))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BREAKER, sc.HTTP_REQUEST_HOP_LAST) == [
        ("closed", "success", True),
        ("closed", "failure", False),
    ]


def test_a_breaker_inside_the_transport_without_a_wire_is_on_the_request_all_the_same(http: HTTP, spans: Spans) -> None:
    async def scenario() -> None:
        async def guarded(request: Any) -> Any:
            async def answer() -> Any:
                return http.module.Response(200)

            return await through(http, make(), answer)

        await call(http.client(transport=http.through(guarded)).get("http://a.example/"))

    http.run(scenario())
    assert spans.sends(*BREAKER, sc.HTTP_REQUEST_WIRE) == [("closed", "success", None)]


def test_a_request_in_a_pool_under_a_breaker_is_decided_by_it(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "sync")
    with http.client() as client, ThreadPoolExecutor(1) as pool:
        make().call(lambda: pool.submit(client.get, origin.url("/")).result())
    assert spans.sends(*BREAKER) == [("closed", "success")]


# -- forms, and leaving the program's own alone


def test_each_way_of_calling_is_one_call(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "sync")
    breaker = make()
    with http.client() as client:
        url = origin.url("/")
        breaker.call(client.get, url)
        breaker(client.get)(url)
        with breaker.calling():
            client.get(url)

        @breaker
        def decorated() -> None:
            client.get(url)

        @breaker.calling()
        def by_context_manager() -> None:
            client.get(url)

        decorated()
        by_context_manager()
        by_context_manager()
    assert spans.sends(*BREAKER) == [("closed", "success")] * 6


def test_a_block_in_a_generator_that_is_closed_ends_with_it(spans: Spans, origin: Origin) -> None:
    http, breaker = HTTP("httpx2", "sync"), make()

    def pages() -> Any:
        with breaker.calling():
            yield client.get(origin.url("/"))

    with http.client() as client:
        iterator = pages()
        assert next(iterator).status_code == 200
        assert isinstance(frames.current(), frames.BreakerFrame)
        iterator.close()
    assert frames.current() is None
    assert spans.sends(*BREAKER) == [("closed", "failure")]  # GeneratorExit is one, as the breaker counts it
    assert breaker.fail_counter == 1


def test_a_generator_through_a_breaker_still_works(spans: Spans) -> None:
    breaker = make()

    def numbers() -> Any:
        yield from (1, 2, 3)

    assert list(breaker.call(numbers)) == [1, 2, 3]
    assert breaker.fail_counter == 0


def test_a_send_before_a_generator_is_returned_is_undecided(spans: Spans, origin: Origin) -> None:
    http, breaker = HTTP("httpx2", "sync"), make()

    def numbers() -> Any:
        client.get(origin.url("/"))
        return (number for number in (1, 2, 3))

    with http.client() as client:
        assert list(breaker.call(numbers)) == [1, 2, 3]
    assert spans.sends(*BREAKER) == [("closed", "none")]  # the breaker decides when the generator ends


def test_a_coroutine_function_through_call_is_decided_before_it_runs_so_its_send_is_none(
    spans: Spans, origin: Origin
) -> None:
    http = HTTP("httpx2", "asyncio")

    async def scenario() -> None:
        async with http.client() as client:
            await make().call(client.get, origin.url("/"))

    asyncio.run(scenario())
    assert spans.sends(*BREAKER) == [(None, None)]


def test_the_context_is_as_before_after_every_end(http: HTTP, spans: Spans) -> None:
    breaker = make(fail_max=1)

    async def scenario() -> list[Any]:
        async def fail() -> None:
            raise LookupError

        async def succeed() -> None:
            assert isinstance(frames.current(), frames.BreakerFrame)

        await through(http, breaker, succeed)
        seen = [frames.current()]
        for _ in range(2):  # one that trips it, one that it refuses
            with pytest.raises(pybreaker.CircuitBreakerError):
                await through(http, breaker, fail)
            seen.append(frames.current())
        return seen

    assert http.run(scenario()) == [None, None, None]


def test_a_cancelled_call_is_a_failure_as_the_breaker_counts_it(spans: Spans) -> None:
    breaker = make()
    http = HTTP("httpx2", "asyncio")

    async def scenario() -> None:
        async def hang(request: Any) -> Any:
            await asyncio.sleep(60)

        client = http.client(transport=http.through(hang))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                with breaker.calling():
                    await client.get("http://a.example/")

    asyncio.run(scenario())
    assert breaker.fail_counter == 1
    assert spans.sends(sc.ERROR_TYPE, *BREAKER) == [("CancelledError", "closed", "failure")]


class Listening(pybreaker.CircuitBreakerListener):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        self.heard.append(new_state.name)


def test_breakers_made_before_the_hooks_are_reached_and_given_back(origin: Origin) -> None:
    foreign = Listening()
    breaker = make(listeners=[foreign])
    recorded = Spans()
    PybreakerInstrumentor().instrument(tracer_provider=recorded.provider)
    breaker.open()
    assert len(breaker.listeners) == 2
    PybreakerInstrumentor().uninstrument()
    assert breaker.listeners == (foreign,)
    breaker.close()
    assert foreign.heard == ["open", "closed"]
    assert len(recorded.all("circuit_breaker.state_change")) == 1


def test_a_breaker_that_is_gone_is_not_kept(spans: Spans) -> None:
    from weakref import ref

    breaker = make()
    breaker.call(lambda: None)
    gone = ref(breaker)
    del breaker
    import gc

    gc.collect()
    waits.sweep(time.time_ns())
    assert gone() is None
