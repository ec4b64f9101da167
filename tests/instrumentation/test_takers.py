"""Promises about which request a limiter wait was for: its own, or one that a helper waited for, and no other."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.api import attempt

from .conftest import Spans
from .limits import SECOND, delays, granted, refused, sync
from .scenario import HTTP, call


def test_a_key_that_names_a_host_is_taken_by_a_request_to_that_host_alone(spans: Spans) -> None:
    with attempt("tier", "source"):
        granted("b.example:metadata", after=SECOND)
        sync().get("http://a.example/")
        assert spans.waits() == []
        sync().get("http://b.example/")
    assert delays(spans) == [None, 1000]


def test_a_wait_is_taken_once(spans: Spans) -> None:
    granted(after=SECOND)
    sync().get("http://a.example/")
    sync().get("http://a.example/")
    assert delays(spans) == [1000, None]


def test_a_wait_outside_every_frame_is_taken_under_the_same_parent_alone(spans: Spans) -> None:
    granted("outer", after=SECOND)
    with spans.provider.get_tracer("program").start_as_current_span("program"):
        sync().get("http://a.example/")
    sync().get("http://a.example/")
    assert delays(spans) == [None, 1000]


def test_a_wait_in_a_frame_around_the_request_is_taken_through_the_frames_between(spans: Spans) -> None:
    http = HTTP("httpx2", "sync")
    with attempt("tier", "source"):
        granted("outer", after=SECOND)
        http.retrying_call()(lambda: (granted("inner", after=2 * SECOND), sync().get("http://a.example/")))
    assert delays(spans) == [3000]


def test_a_wait_left_by_a_failed_attempt_is_not_the_next_attempts(spans: Spans) -> None:
    http = HTTP("httpx2", "sync")
    results = iter([LookupError, None])

    def once() -> None:
        if error := next(results):
            granted("lost", after=SECOND)
            raise error
        sync().get("http://a.example/")

    http.retrying_call()(once)
    assert [facts[sc.RATE_LIMITER_NAME] for _, facts in spans.waits()] == ["lost"]
    assert delays(spans) == [None]


@pytest.mark.parametrize("mode", ["asyncio", "trio"])
def test_a_live_siblings_wait_is_never_taken(spans: Spans, mode: str) -> None:
    http = HTTP("httpx2", mode)

    async def scenario() -> None:
        waited, asked = anyio.Event(), anyio.Event()
        client = http.client(transport=http.mock(lambda request: http.module.Response(200)))

        async def waiting() -> None:
            granted("mine", after=SECOND)
            waited.set()
            await asked.wait()
            await client.get("http://mine.example/")

        async def asking() -> None:
            await waited.wait()
            await client.get("http://other.example/")
            asked.set()

        with attempt("tier", "source"):
            async with anyio.create_task_group() as siblings:
                siblings.start_soon(waiting)
                siblings.start_soon(asking)
        await client.aclose()

    http.run(scenario())
    assert spans.sends(sc.SERVER_ADDRESS, sc.RATE_LIMITER_DELAY_MS) == [("other.example", None), ("mine.example", 1000)]


def test_a_finished_helpers_wait_is_taken_by_the_request_that_follows(spans: Spans) -> None:
    with attempt("tier", "source"):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(granted, "helped", SECOND).result()
        sync().get("http://a.example/")
    assert delays(spans) == [1000]


def test_a_finished_trio_tasks_wait_is_taken_by_the_request_that_follows(spans: Spans) -> None:
    http = HTTP("httpx2", "trio")

    async def scenario() -> None:
        async def helper() -> None:
            granted("helped", after=SECOND)

        with attempt("tier", "source"):
            async with anyio.create_task_group() as helpers:
                helpers.start_soon(helper)
            async with http.client(transport=http.mock(lambda request: http.module.Response(200))) as client:
                await client.get("http://a.example/")

    http.run(scenario())
    assert delays(spans) == [1000]


def test_the_wait_of_one_piece_of_work_is_not_taken_by_the_next_one_in_the_thread(spans: Spans) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(granted, "first", SECOND).result()
        pool.submit(sync().get, "http://a.example/").result()
    assert delays(spans) == [None]


def test_a_wait_of_the_caller_is_taken_by_the_request_that_it_submits(spans: Spans) -> None:
    with ThreadPoolExecutor(1) as pool:
        granted("caller", after=SECOND)
        pool.submit(sync().get, "http://a.example/").result()
        pool.submit(sync().get, "http://a.example/").result()
    assert delays(spans) == [1000, None]


def test_a_limiter_inside_the_transport_reports_to_the_request_around_it(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    async def scenario() -> None:
        wire = http.wire()

        async def limited(request: Any) -> Any:
            time.sleep(0.05)
            granted("inside", after=SECOND // 20)
            return await call(http.handle(wire, request))

        client = http.client(transport=http.through(limited, wire))
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    (wait,) = spans.all("rate_limiter.acquire")
    (request,) = spans.clients()
    assert delays(spans) == [50]
    assert wait.end_time is not None
    assert request.start_time is not None
    assert wait.end_time <= request.start_time


def test_a_request_inside_a_transport_takes_no_wait_of_the_request_around_it(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    async def scenario() -> None:
        wire, other = http.wire(), http.client()

        async def limited(request: Any) -> Any:
            granted("inside", after=SECOND)
            await call(other.get(origin.url("/token")))
            return await call(http.handle(wire, request))

        client = http.client(transport=http.through(limited, wire))
        await call(client.get(origin.url("/")))
        await call(http.close(client))
        await call(http.close(other))

    http.run(scenario())
    assert delays(spans) == [None, 1000]


def test_each_send_of_a_transport_has_the_wait_before_it(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        wire = http.wire()
        seconds = iter([1, 2])

        async def limited(request: Any) -> Any:
            granted("inside", after=next(seconds) * SECOND)
            return await call(http.handle(wire, request))

        client = http.client(transport=http.retrying(http.through(limited, wire)))
        await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())
    assert delays(spans) == [1000, 2000]


def test_a_request_refused_inside_the_transport_is_no_send_of_anything(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        wire = http.wire()
        answers = iter([True, False, True])

        async def limited(request: Any) -> Any:
            if not next(answers):
                refused("inside")
                raise LookupError
            granted("inside")
            return await call(http.handle(wire, request))

        client = http.client(transport=http.through(limited, wire))
        for _ in range(3):
            try:
                await call(client.get(url))
            except LookupError:
                pass
        await call(http.close(client))

    http.run(scenario())
    keys = (sc.HTTP_RESPONSE_STATUS_CODE, sc.ERROR_TYPE, sc.HTTP_REQUEST_WIRE, sc.HTTP_REQUEST_RESEND_COUNT)
    # The refusal lies between the failed send and its resend, and is neither; but for the wait it would be the second one.
    assert spans.sends(*keys) == [(503, "503", True, 0), (None, "LookupError", None, 1), (200, None, True, 1)]
    assert sorted(action for action, _ in spans.waits()) == ["acquire", "acquire", "block"]


def test_a_request_sent_again_after_it_was_refused_inside_the_transport_was_never_sent_before(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    url = origin.script("/", Answer(200))

    async def scenario() -> None:
        wire, answers = http.wire(), iter([False, True])

        async def limited(request: Any) -> Any:
            if not next(answers):
                refused("inside")
                raise LookupError
            return await call(http.handle(wire, request))

        client = http.client(transport=http.through(limited, wire))
        request = client.build_request("GET", url)
        with pytest.raises(LookupError):
            await call(client.send(request))
        await call(client.send(request))
        await call(http.close(client))

    http.run(scenario())
    assert len(origin.log) == 1
    assert spans.sends(sc.HTTP_REQUEST_WIRE, sc.HTTP_REQUEST_RESEND_COUNT, sc.RETRY_SOURCE) == [
        (None, 0, None),
        (True, 0, None),
    ]
