"""Promises of the tenacity hooks: which attempt a request belongs to, in every form of retrying."""

import asyncio
import contextlib
import time
from typing import Any

import pybreaker
import pytest
import tenacity
from opentelemetry.trace import StatusCode

from origin import Answer, Origin
from retrospan_instrumentation import frames, waits
from retrospan_instrumentation import semconv as sc

from .conftest import Spans
from .scenario import HTTP, call

COUNT = (sc.HTTP_REQUEST_RESEND_COUNT, sc.RETRY_SOURCE)
THREE = [(0, None), (1, "frame"), (2, "frame")]
FORMS = ["call", "decorator", "loop"]


class Failed(Exception):
    pass


async def retried(http: HTTP, form: str, body: Any, **policy: Any) -> Any:
    """Run a body under a policy, in one of the forms."""
    policy = {"stop": tenacity.stop_after_attempt(3), "reraise": True, **policy}
    if form == "call":
        return await http.retry(body, **policy)
    if form == "decorator":
        return await call(tenacity.retry(**policy)(http.function(body))())
    if http.is_async:
        async for one in tenacity.AsyncRetrying(**policy):
            with one:
                return await body()
    else:
        for one in tenacity.Retrying(**policy):
            with one:
                return await body()
    return None


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_form_tells_its_attempts(http: HTTP, spans: Spans, origin: Origin, form: str) -> None:
    url = origin.script("/", Answer(503), Answer(429), Answer(200))

    async def scenario() -> Any:
        client = http.client()

        async def fetch() -> Any:
            return (await call(client.get(url))).raise_for_status().status_code

        status = await retried(http, form, fetch)
        await call(http.close(client))
        return status

    assert http.run(scenario()) == 200
    assert spans.sends(*COUNT) == THREE


def test_async_with_of_an_attempt_is_hooked(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "asyncio")
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        async with http.client() as client:
            async for one in tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3)):
                async with one:
                    (await client.get(url)).raise_for_status()

    asyncio.run(scenario())
    assert spans.sends(*COUNT) == THREE[:2]


@pytest.mark.parametrize("reraise", [True, False])
def test_giving_up_raises_what_the_policy_says(
    http: HTTP, spans: Spans, origin: Origin, form: str, reraise: bool
) -> None:
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        client = http.client()

        async def fetch() -> None:
            (await call(client.get(url))).raise_for_status()

        with pytest.raises(http.module.HTTPStatusError if reraise else tenacity.RetryError):
            await retried(http, form, fetch, reraise=reraise)
        assert frames.current() is None
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == THREE


def test_a_retry_of_results_counts_its_attempts(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(202), Answer(202), Answer(200))

    async def scenario() -> None:
        client = http.client()

        async def fetch() -> Any:
            return (await call(client.get(url))).status_code

        await http.retry(fetch, retry=tenacity.retry_if_result(lambda status: status == 202))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == THREE


def test_a_loop_that_retries_results_counts_its_attempts(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "sync")
    url = origin.script("/", Answer(202), Answer(202), Answer(200))
    with http.client() as client:
        for one in tenacity.Retrying(retry=tenacity.retry_if_result(lambda status: status == 202)):
            with one:
                status = client.get(url).status_code
            one.retry_state.set_result(status)
    assert spans.sends(*COUNT) == THREE


def test_a_loop_that_goes_on_after_a_clean_end_is_one_trace(spans: Spans, origin: Origin) -> None:
    http, answers = HTTP("httpx2", "sync"), iter((202, 200))
    with http.client() as client:
        for one in tenacity.Retrying(retry=tenacity.retry_if_result(lambda status: status == 202)):
            with one:
                for _ in range(2):
                    client.get(origin.url("/"))
            one.retry_state.set_result(next(answers))
    assert len({span.context.trace_id for span in spans.all()}) == 1
    assert [span.name for span in spans.all()] == ["GET", "GET", "GET", "GET", "retry"]


def test_a_loop_that_is_left_before_the_attempt_that_it_scheduled_ends_its_span(spans: Spans) -> None:
    for one in tenacity.Retrying(retry=tenacity.retry_if_result(lambda status: status == 202)):
        if one.retry_state.attempt_number == 2:
            break
        with one:
            pass
        one.retry_state.set_result(202)
    del one
    waits.sweep(time.time_ns())
    assert len(spans.all("retry")) == 1


def test_the_context_is_as_before_after_every_end(http: HTTP, spans: Spans, form: str) -> None:
    async def scenario() -> list[Any]:
        async def fail() -> None:
            raise Failed

        async def succeed() -> None:
            assert isinstance(frames.current(), frames.RetryFrame)

        seen = [frames.current()]
        await retried(http, form, succeed)
        seen.append(frames.current())
        with pytest.raises(Failed):
            await retried(http, form, fail)
        return [*seen, frames.current()]

    assert http.run(scenario()) == [None, None, None]


def test_a_retry_outside_every_span_goes_on_below_its_first_request(
    http: HTTP, spans: Spans, origin: Origin, form: str
) -> None:
    url = origin.script("/", Answer(503), Answer(503), Answer(200))

    async def scenario() -> None:
        client = http.client()

        async def fetch() -> None:
            (await call(client.get(url))).raise_for_status()

        await retried(http, form, fetch)
        await call(http.close(client))

    http.run(scenario())
    (retry,), (first, *others) = spans.all("retry"), spans.clients()
    assert [first.parent, retry.parent] == [None, first.context]
    assert [span.parent for span in others] == [retry.context] * 2
    assert (first.end_time or 0) <= (retry.start_time or 0) <= (others[0].start_time or 0)
    assert retry.end_time == max(span.end_time or 0 for span in spans.all())
    assert retry.status.status_code is StatusCode.UNSET
    assert [(name, facts[sc.RETRY_ATTEMPT]) for name, facts in spans.events("retry.scheduled")] == [
        ("retry", 1),
        ("retry", 2),
    ]


def test_the_requests_of_a_call_outside_every_span_are_one_trace_without_a_span_for_it(
    http: HTTP, spans: Spans, origin: Origin, form: str
) -> None:
    url = origin.script("/", Answer(200))

    async def scenario() -> None:
        client = http.client()

        async def fetch() -> None:
            for _ in range(3):
                await call(client.get(url))

        await retried(http, form, fetch)
        await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())
    first, *others, later = spans.clients()
    assert [span.name for span in spans.all()] == ["GET"] * 4
    assert [first.parent, later.parent] == [None, None]
    assert [span.parent for span in others] == [first.context] * 2


def test_what_is_told_inside_a_call_outside_every_span_is_in_its_trace(spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503))
    breaker = pybreaker.CircuitBreaker(name="127.0.0.1", fail_max=1)

    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    def fetch() -> None:
        for _ in range(2):
            with contextlib.suppress(pybreaker.CircuitBreakerError):
                breaker.call(lambda: client.get(url).raise_for_status())
        raise Failed

    with HTTP("httpx2", "sync").client() as client, pytest.raises(tenacity.RetryError):
        fetch()
    assert [span.name for span in spans.all()] == [
        *("circuit_breaker.state_change", "GET", *["circuit_breaker.rejected"] * 3, "retry")
    ]
    assert len({span.context.trace_id for span in spans.all()}) == 1


def test_a_retry_under_a_recording_span_opens_none(http: HTTP, spans: Spans, form: str) -> None:
    async def nothing() -> None:
        pass

    with spans.provider.get_tracer("program").start_as_current_span("program"):
        http.run(retried(http, form, nothing))
    assert [span.name for span in spans.all()] == ["program"]


def test_a_retry_inside_a_transport_opens_no_span(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        wire = http.wire()

        async def retrying(request: Any) -> Any:
            async def once() -> Any:
                response = await call(http.handle(wire, request))
                if response.status_code == 503:
                    await call(http.close(response))
                    raise Failed
                return response

            return await http.retry(once)

        client = http.client(transport=http.through(retrying, wire))
        await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())
    assert [span.name for span in spans.all()] == ["GET", "GET"]
    assert spans.sends(*COUNT, sc.HTTP_REQUEST_HOP_LAST) == [(0, None, False), (1, "frame", True)]


def test_a_send_that_failed_inside_a_transport_is_told_before_the_policy_sleeps(http: HTTP, spans: Spans) -> None:
    ended: list[int] = []

    async def scenario() -> None:
        wire = http.wire()

        async def retrying(request: Any) -> Any:
            async def once() -> Any:
                return await call(http.handle(wire, request))

            async def sleep(seconds: float) -> None:
                ended.append(len(spans.clients()))

            return await http.retry(once, sleep=http.function(sleep))

        with pytest.raises(http.module.ConnectError):
            await call(http.client(transport=http.through(retrying, wire)).get("http://127.0.0.1:9/"))

    http.run(scenario())
    assert ended == [1, 2]
    assert spans.sends(*COUNT, sc.HTTP_REQUEST_HOP_LAST) == [(*facts, False) for facts in THREE]


def test_each_scheduled_retry_is_an_event_on_the_current_span(http: HTTP, spans: Spans, form: str) -> None:
    errors = iter([Failed("secret"), None])

    async def once() -> None:
        if error := next(errors):
            raise error

    with spans.provider.get_tracer("program").start_as_current_span("program"):
        http.run(retried(http, form, once, wait=tenacity.wait_fixed(0.01)))
    assert spans.events("retry.scheduled") == [
        ("program", {sc.RETRY_ATTEMPT: 1, sc.RETRY_WAIT: 0.01, sc.ERROR_TYPE: "Failed"})
    ]


def test_a_retry_that_goes_on_after_its_span_has_ended_has_one_of_its_own(
    spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    errors = iter([Failed(), None])
    tracer = spans.provider.get_tracer("program")

    def once() -> None:
        if error := next(errors):
            program.end()
            raise error

    with tracer.start_as_current_span("program", end_on_exit=False) as program:
        tenacity.Retrying(stop=tenacity.stop_after_attempt(2))(once)

    assert [name for name, _ in spans.events("retry.scheduled")] == ["retry"]
    assert [span.parent for span in spans.all("retry")] == [program.get_span_context()]
    assert caplog.records == []


def test_a_cancelled_retry_ends_and_leaves_no_frame(spans: Spans) -> None:
    seen: list[frames.Frame | None] = []

    async def hang() -> None:
        seen.append(frames.current())
        if len(seen) == 1:
            raise Failed
        await asyncio.sleep(60)

    async def scenario() -> frames.Frame | None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await HTTP("httpx2", "asyncio").retry(hang)
        return frames.current()

    assert asyncio.run(scenario()) is None
    assert [frame is not None and not frame.is_open for frame in seen] == [True, True]
    assert len(spans.all("retry")) == 1


def test_a_loop_left_after_a_failure_ends_its_span(spans: Spans) -> None:
    for one in tenacity.Retrying(stop=tenacity.stop_after_attempt(3)):
        with one:
            raise Failed
        if one.retry_state.attempt_number == 2:
            break
    del one
    waits.sweep(time.time_ns())
    assert len(spans.all("retry")) == 1


def test_the_policys_own_callbacks_are_left_alone(http: HTTP, spans: Spans) -> None:
    seen: list[str] = []
    errors = iter([Failed(), None])

    async def once() -> None:
        if error := next(errors):
            raise error

    def note(name: str) -> Any:
        return lambda state: seen.append(f"{name} {state.attempt_number}")

    http.run(retried(http, "call", once, before=note("before"), after=note("after"), before_sleep=note("before_sleep")))
    assert seen == ["before 1", "after 1", "before_sleep 1", "before 2"]


def test_a_disabled_policy_works(http: HTTP, spans: Spans, form: str) -> None:
    async def nothing() -> int:
        return 7

    assert http.run(retried(http, form, nothing, enabled=False)) == 7
