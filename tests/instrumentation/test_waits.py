"""Promises about limiter waits: each is told once, and belongs to the request that it was for, or to none."""

import subprocess
import sys
import threading
import time

import pytest
from opentelemetry import trace

from origin import Origin
from retrospan_instrumentation import asked as asked_module
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation import waits
from retrospan_instrumentation.api import attempt, role

from .conftest import Spans
from .limits import LIMITER, SECOND, delays, granted, refused, sync
from .scenario import HTTP, call

# -- told how


def test_a_grant_at_once_is_an_event_on_its_request_at_its_own_time(http: HTTP, spans: Spans, origin: Origin) -> None:
    times = []

    async def scenario() -> None:
        client = http.client()
        times.append(time.time_ns())
        granted("127.0.0.1:metadata")
        times.append(time.time_ns())
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    (span,) = spans.all()
    (event,) = span.events
    assert event.name == "rate_limiter.acquire"
    assert times[0] <= event.timestamp <= times[1]
    assert dict(event.attributes or {}) == {
        sc.RATE_LIMITER_NAME: "127.0.0.1:metadata",
        sc.RATE_LIMITER_DELAY_MS: 0,
        sc.SERVER_ADDRESS: "127.0.0.1",
        sc.HTTP_REQUEST_ROLE: "metadata",
    }
    assert delays(spans) == [0]


def test_a_delayed_grant_is_a_span_of_its_own_with_its_true_times(http: HTTP, spans: Spans, origin: Origin) -> None:
    start = time.time_ns() - 3 * SECOND

    async def scenario() -> None:
        client = http.client()
        waits.report(LIMITER, "api", True, start, 5000)
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    (wait,) = spans.all("rate_limiter.acquire")
    assert wait.start_time == start
    assert wait.end_time is not None
    assert 3 * SECOND <= wait.end_time - start < 4 * SECOND
    assert wait.attributes is not None
    assert wait.attributes[sc.RATE_LIMITER_MAX_DELAY_MS] == 5000
    assert wait.attributes[sc.RATE_LIMITER_DELAY_MS] == waits.milliseconds(wait.end_time - start)
    assert wait.attributes[sc.SERVER_ADDRESS] == "127.0.0.1"
    assert delays(spans) == [wait.attributes[sc.RATE_LIMITER_DELAY_MS]]
    assert wait.parent == spans.clients()[0].context  # outside every span, nothing else holds the two together


def test_a_request_that_asked_no_limiter_has_no_delay(spans: Spans) -> None:
    sync().get("http://a.example/")
    assert delays(spans) == [None]


def test_a_request_waited_for_all_the_grants_before_it(spans: Spans) -> None:
    granted("day", after=SECOND)
    granted("minute", after=2 * SECOND)
    sync().get("http://a.example/")
    assert delays(spans) == [3000]


def test_no_request_carries_more_than_32_events(spans: Spans) -> None:
    for number in range(40):
        granted(f"key{number}")
    sync().get("http://a.example/")
    (request,) = spans.clients()
    assert len(request.events) == 32
    assert len(spans.all("rate_limiter.acquire")) == 8
    assert len(spans.waits()) == 40


def test_a_wait_is_a_child_of_the_span_that_was_current_when_it_happened(spans: Spans) -> None:
    with trace.use_span(spans.provider.get_tracer("program").start_span("program"), end_on_exit=True) as parent:
        granted(after=SECOND)
        sync().get("http://a.example/")
    (wait,) = spans.all("rate_limiter.acquire")
    assert wait.parent is not None
    assert wait.parent.span_id == parent.get_span_context().span_id


@pytest.mark.parametrize(
    ("key", "said", "found"),
    [("a.example:metadata", "artifact", "metadata"), ("a.example", "artifact", "artifact"), ("a.example", None, None)],
)
def test_the_role_of_a_wait_is_its_keys_else_what_the_program_says(
    spans: Spans, key: str, said: str | None, found: str | None
) -> None:
    if said is None:
        granted(key)
    else:
        with role(said):
            granted(key)
    sync().get("http://a.example/")
    ((_, facts),) = spans.waits()
    assert facts.get(sc.HTTP_REQUEST_ROLE) == found


def test_of_a_key_that_is_a_url_the_host_alone_is_recorded(spans: Spans) -> None:
    granted("https://SECRET@a.example/SECRET?SECRET", after=SECOND)
    sync().get("http://a.example/")
    ((_, facts),) = spans.waits()
    assert (facts[sc.RATE_LIMITER_NAME], facts[sc.SERVER_ADDRESS]) == ("a.example", "a.example")
    assert delays(spans) == [1000]


def test_a_head_skip_is_a_span_of_no_length(spans: Spans) -> None:
    waits.head_skip("a.example", "artifact")
    (span,) = spans.all()
    assert span.name == "rate_limiter.head_skip"
    assert span.start_time == span.end_time
    assert dict(span.attributes or {}) == {
        sc.SERVER_ADDRESS: "a.example",
        sc.HTTP_REQUEST_ROLE: "artifact",
        sc.RATE_LIMITER_DELAY_MS: 0,
    }


# -- told when


def test_a_wait_that_no_request_takes_is_told_when_its_frame_closes(spans: Spans) -> None:
    with attempt("tier", "source"):
        granted("nobody", after=SECOND)
        assert spans.waits() == []
    assert [(action, facts[sc.RATE_LIMITER_DELAY_MS]) for action, facts in spans.waits()] == [("acquire", 1000)]


def test_a_wait_outside_every_frame_is_told_after_a_minute(spans: Spans, clock: list[int]) -> None:
    granted()
    clock[0] += 59 * SECOND
    waits.sweep(time.time_ns() + clock[0])
    assert spans.waits() == []
    clock[0] += 2 * SECOND
    waits.sweep(time.time_ns() + clock[0])
    assert len(spans.waits()) == 1


@pytest.mark.parametrize("report", ["request", "limiter"])
def test_a_clock_that_was_set_back_by_an_hour_delays_no_sweep(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, report: str
) -> None:
    monkeypatch.setattr(waits, "SWEEPS_APART", SECOND // 4)
    waits.swept = ahead = time.time_ns() + 3600 * SECOND
    if report == "request":
        sync().get("http://a.example/")
    else:
        granted()
    assert waits.swept < ahead


def test_a_request_a_minute_later_has_a_wait_told_that_is_not_its_own(
    spans: Spans, origin: Origin, clock: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    granted()
    clock[0] += 61 * SECOND
    monkeypatch.setattr(asked_module, "time_ns", waits.time_ns)
    with HTTP("httpx2", "sync").client() as client:
        client.get(origin.url("/"))
    assert [span.name for span in spans.all()] == ["rate_limiter.acquire", "GET"]


def test_a_wait_is_told_when_its_thread_is_gone_though_an_older_one_still_waits(spans: Spans, clock: list[int]) -> None:
    granted("older")
    thread = threading.Thread(target=granted, args=("gone",))
    thread.start()
    thread.join()
    waits.sweep(time.time_ns() + clock[0])
    assert [facts[sc.RATE_LIMITER_NAME] for _, facts in spans.waits()] == ["gone"]


def test_a_wait_of_more_than_a_minute_ago_is_no_requests_any_more(spans: Spans, clock: list[int]) -> None:
    clock[0] -= 61 * SECOND
    granted(after=SECOND)
    clock[0] += 61 * SECOND
    sync().get("http://a.example/")
    assert delays(spans) == [None]


def test_a_request_keeps_a_wait_that_was_told_early(spans: Spans) -> None:
    granted(after=SECOND)
    waits.drain()
    assert len(spans.waits()) == 1
    sync().get("http://a.example/")
    assert len(spans.waits()) == 1
    assert delays(spans) == [1000]


def test_a_drain_leaves_refusals_that_may_yet_be_followed_by_a_grant(spans: Spans) -> None:
    with attempt("tier", "source"):
        refused()
        waits.drain()
        assert spans.waits() == []
        waits.drain(final=True)
        assert [action for action, _ in spans.waits()] == ["block"]


def test_ten_thousand_grants_that_guard_no_request_are_ten_thousand_told(spans: Spans) -> None:
    for _ in range(10_000):
        granted()
    assert len(waits.alone.get()) <= 64
    waits.drain()
    assert len(spans.waits()) == 10_000


def test_what_waited_before_a_fork_is_told_by_the_parent_alone() -> None:
    program = """
import os, sys
from retrospan_exporters.provider import provider_class
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from retrospan_instrumentation import emit, waits
from retrospan_instrumentation.api import attempt
exporter, provider = InMemorySpanExporter(), provider_class()()
provider.add_span_processor(SimpleSpanProcessor(exporter))
emit.use(provider)
waits.report(1, "alone", False, 0, None)
waits.report(1, "granted", True, 0, None)
with attempt("tier", "source"):
    waits.report(1, "framed", False, 0, None)
    child = os.fork()
waits.drain(final=True)
names = sorted(span.attributes["rate_limiter.name"] for span in exporter.get_finished_spans() if "rate" in span.name)
if child:
    os.waitpid(child, 0)
print("parent" if child else "child", names, flush=True)
os._exit(0)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert ran.stdout.splitlines() == ["child []", "parent ['alone', 'framed', 'granted']"], ran.stderr
