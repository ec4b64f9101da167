"""Promises of what a retrying call is in a trace: one trace where no span of the program's is there, and nobody else's."""

import asyncio
import contextvars
import gc
import time
from typing import Any

import httpx2
import pytest
import tenacity
from opentelemetry import baggage, trace
from opentelemetry.context import attach
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from origin import Origin
from retrospan_instrumentation import waits

from .conftest import Spans
from .scenario import HTTP

TWICE = {"stop": tenacity.stop_after_attempt(2), "reraise": True}


class Failed(Exception):
    pass


@pytest.mark.parametrize("flags", [0, 1])
def test_what_has_a_parent_of_its_own_is_no_parent_of_later_requests(spans: Spans, origin: Origin, flags: int) -> None:
    elsewhere = NonRecordingSpan(SpanContext(0xABC, 0xDEF, True, TraceFlags(flags)))
    with HTTP("httpx2", "sync").client() as client:

        @tenacity.retry(**TWICE)
        def work() -> None:
            with trace.use_span(elsewhere):
                client.get(origin.url("/job"))
            for _ in range(3):
                client.get(origin.url("/heartbeat"))

        work()
    first, *others = spans.clients()[flags:]
    assert [first.parent, len(others)] == [None, 2]
    assert [span.parent for span in others] == [first.context] * 2


def test_a_span_between_client_and_wire_is_its_requests_parent_in_a_retry_too(spans: Spans, origin: Origin) -> None:
    tracer = spans.provider.get_tracer("program")

    class Traced(httpx2.HTTPTransport):
        def handle_request(self, request: Any) -> Any:
            with tracer.start_as_current_span("transport"):
                return wire.handle_request(request)

    with httpx2.HTTPTransport() as wire, httpx2.Client(transport=Traced()) as client:

        @tenacity.retry(**TWICE)
        def work() -> None:
            for _ in range(2):
                client.get(origin.url("/"))

        work()
    assert [span.parent for span in spans.clients()] == [span.context for span in spans.all("transport")]


def test_a_loop_that_was_lost_leaves_what_is_current_elsewhere_alone(spans: Spans, origin: Origin) -> None:
    tracer = spans.provider.get_tracer("program")

    async def scenario() -> trace.Span:
        asleep, begin, tasks = asyncio.Event(), asyncio.Event(), []
        async with HTTP("httpx2", "asyncio").client() as client:

            async def background() -> trace.Span:
                with tracer.start_as_current_span("background"):
                    await begin.wait()
                    for _ in range(2):
                        await client.get(origin.url("/"))
                    return trace.get_current_span()

            async def sleep(seconds: float) -> None:
                asleep.set()
                await asyncio.Event().wait()

            async def work() -> None:
                async for one in tenacity.AsyncRetrying(sleep=sleep):
                    with one:
                        tasks.append(asyncio.create_task(background()))
                        raise Failed

            lost = asyncio.create_task(work())
            await asleep.wait()
            lost.cancel()
            await asyncio.wait([lost])
            del lost
            gc.collect()
            begin.set()
            return await tasks[0]

    current = asyncio.run(scenario())
    (background,) = spans.all("background")
    assert current.get_span_context() == background.context
    assert [span.parent for span in spans.clients()] == [background.context] * 2


def test_a_program_that_drives_a_policy_where_its_call_is_over_opens_no_span(spans: Spans) -> None:
    policy, contexts = tenacity.Retrying(**TWICE), []
    policy(lambda: contexts.append(contextvars.copy_context()))

    def drive() -> None:
        state = tenacity.RetryCallState(policy, fn=None, args=(), kwargs={})
        policy.iter(state)
        state.set_exception((Failed, Failed(), None))
        policy.iter(state)
        state.prepare_for_next_attempt()

    contexts[0].run(drive)
    assert spans.started == []


def test_what_an_attempt_left_current_stays_so_when_its_span_begins(spans: Spans) -> None:
    seen: list[object] = []

    @tenacity.retry(stop=tenacity.stop_after_attempt(3), reraise=True)
    def work() -> None:
        seen.append(baggage.get_baggage("attempt"))
        attach(baggage.set_baggage("attempt", len(seen)))
        raise Failed

    with pytest.raises(Failed):
        contextvars.copy_context().run(work)
    assert seen == [None, 1, 2]


def test_a_transport_without_a_wire_gets_the_trace_of_its_call(spans: Spans) -> None:
    heard: list[str | None] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        heard.append(request.headers.get("traceparent"))
        return httpx2.Response(200)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        tenacity.retry(**TWICE)(lambda: [client.get("http://a.example/") for _ in range(2)])()
    first = spans.clients()[0].context
    assert first is not None
    assert [header and header[:52] for header in heard] == [None, f"00-{first.trace_id:032x}-{first.span_id:016x}"]


def test_a_refusal_after_a_request_is_in_its_trace(spans: Spans, origin: Origin) -> None:
    with HTTP("httpx2", "sync").client() as client:

        @tenacity.retry(**TWICE)
        def work() -> None:
            client.get(origin.url("/"))
            waits.report(client, "api", False, time.time_ns(), 0)

        work()
    assert [span.parent for span in spans.all("rate_limiter.block")] == [span.context for span in spans.clients()]
