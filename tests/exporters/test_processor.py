"""The processor: out of the program's way, nothing lost, what is dropped is counted, idle when there is nothing."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanKind
from providers import TracerProvider

from retrospan_exporters import lifecycle, processor
from retrospan_exporters.processor import RecorderSpanProcessor
from retrospan_exporters.run import Run
from retrospan_exporters.sqlite import SQLiteSpanExporter

from .conftest import Read

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


class Keeping:
    """An exporter that keeps the names of what it gets, and stands still while `gate` is closed."""

    def __init__(self) -> None:
        self.run, self.has_own_processor = Run("R"), False
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.calls: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.waiting = self.dropped = self.unqueued = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert self.gate.wait(20)
        self.threads.add(threading.get_ident())
        self.batches.append([span.name for span in spans])
        return SUCCESS

    def retry(self) -> bool:
        self.calls.append("retry")
        self.waiting = 0
        return True

    def release(self) -> None:
        self.calls.append("release")

    @property
    def names(self) -> list[str]:
        return [name for batch in self.batches for name in batch]


@pytest.fixture
def exporter() -> Keeping:
    return Keeping()


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.fixture
def recorder(exporter: Keeping, closed: list[str]) -> Iterator[RecorderSpanProcessor]:
    made = RecorderSpanProcessor(exporter, on_close=lambda: closed.append("closed"))
    yield made
    exporter.gate.set()
    made.stop()


@pytest.fixture
def end(recorder: RecorderSpanProcessor) -> Callable[..., None]:
    """Ends spans of these names."""
    provider = TracerProvider()
    provider.add_span_processor(recorder)
    tracer = provider.get_tracer("tests")

    def end(*names: object) -> None:
        for name in names:
            tracer.start_span(str(name)).end()

    return end


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def test_spans_are_exported_without_being_asked_for_and_from_another_thread(
    exporter: Keeping, end: Callable[..., None]
) -> None:
    end(*range(10))
    wait_until(lambda: len(exporter.names) == 10)
    assert exporter.names == [str(number) for number in range(10)]
    assert exporter.threads.isdisjoint({threading.get_ident()})


def test_a_flush_waits_for_what_is_just_being_exported(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None]
) -> None:
    exporter.gate.clear()
    end("a")
    wait_until(lambda: recorder.queued == 0)
    assert not recorder.flush(0.01)
    exporter.gate.set()
    assert recorder.flush(20)
    assert exporter.names == ["a"]


def test_a_flush_does_not_wait_out_the_interval(monkeypatch: pytest.MonkeyPatch, exporter: Keeping) -> None:
    monkeypatch.setenv("RETROSPAN_FLUSH_INTERVAL_MS", "3600000")
    recorder, provider = RecorderSpanProcessor(exporter), TracerProvider()
    provider.add_span_processor(recorder)
    provider.get_tracer("tests").start_span("a").end()
    assert provider.force_flush(20_000)
    assert exporter.names == ["a"]
    recorder.stop()


def test_a_flush_of_nothing_starts_nothing(recorder: RecorderSpanProcessor, exporter: Keeping) -> None:
    before = threading.active_count()
    assert recorder.flush(0)
    assert (threading.active_count(), exporter.batches) == (before, [])


def test_a_flush_ends_although_spans_keep_coming(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None]
) -> None:
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            end("load")

    thread = threading.Thread(target=load)
    thread.start()
    try:
        end("mine")
        assert recorder.flush(20)
        assert "mine" in exporter.names
    finally:
        stop.set()
        thread.join()


def test_nothing_is_lost_of_what_many_threads_end(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None]
) -> None:
    threads = [threading.Thread(target=end, args=[f"{t}-{n}" for n in range(500)]) for t in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recorder.flush(20)
    assert sorted(exporter.names) == sorted(f"{t}-{n}" for t in range(8) for n in range(500))
    assert recorder.dropped == 0


def test_an_idle_processor_is_not_woken(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    end("a")
    assert recorder.flush(20)
    rounds: list[int] = []
    with monkeypatch.context() as patched:
        patched.setattr(recorder, "_round", lambda: rounds.append(1))
        # The worker sleeps at a lock without a timeout: only an ended span opens it.
        wait_until(lambda: recorder._go.locked() and not recorder._is_armed)
        time.sleep(4 * recorder._seconds)
    assert rounds == []


def test_what_finds_the_queue_full_is_dropped_and_counted(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_MOST_QUEUED", 5)
    exporter.gate.clear()
    end("first")
    wait_until(lambda: recorder.queued == 0)
    end(*range(8))
    assert (recorder.queued, recorder.dropped) == (5, 3)
    exporter.gate.set()
    assert recorder.flush(20)
    assert exporter.names == ["first", "0", "1", "2", "3", "4"]


def test_a_span_that_is_not_sampled_is_not_queued(recorder: RecorderSpanProcessor) -> None:
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(recorder)
    provider.get_tracer("tests").start_span("a").end()
    assert recorder.queued == 0


def test_a_fault_of_the_exporters_is_told_and_the_next_batch_goes_on(
    recorder: RecorderSpanProcessor,
    exporter: Keeping,
    end: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(spans: object) -> SpanExportResult:
        raise RuntimeError("planted")

    with monkeypatch.context() as patched:
        patched.setattr(exporter, "export", broken)
        end("a")
        recorder.flush(20)
    end("b")
    assert recorder.flush(20)
    assert exporter.names == ["b"]
    assert "RuntimeError" in caplog.text
    assert "planted" not in caplog.text


def test_rows_that_wait_are_tried_again_although_no_span_ends(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "_RETRY_SECONDS", 0.01)
    exporter.waiting = 1
    end("a")
    wait_until(lambda: exporter.waiting == 0)


def test_spans_that_end_after_a_shutdown_are_still_taken_until_it_is_stopped(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None]
) -> None:
    end("a")
    recorder.shutdown()
    end("b")
    assert recorder.stop()
    end("c")
    assert (exporter.names, recorder.queued) == (["a", "b"], 0)
    # Its worker is gone: the process's end does not wait for it.
    assert recorder.end(3600)


@pytest.mark.parametrize(("owner", "expected"), [(os.getpid(), ["closed"]), (None, [])], ids=["mine", "another's"])
def test_the_end_of_the_run_is_told_once_by_the_process_that_began_it_after_the_last_flush(
    recorder: RecorderSpanProcessor,
    exporter: Keeping,
    end: Callable[..., None],
    closed: list[str],
    owner: int | None,
    expected: list[str],
) -> None:
    exporter.run._owner = owner
    exporter.calls.append("opened")
    end("a")
    recorder.shutdown()
    assert closed == []
    assert recorder.end(20)
    assert recorder.end(20)
    assert closed == expected
    assert exporter.names == ["a"]
    assert exporter.calls[-1] == "release"


def test_a_stuck_exporter_holds_an_end_up_for_the_time_it_is_given(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None], closed: list[str]
) -> None:
    exporter.run._owner = os.getpid()
    exporter.gate.clear()
    end("a")
    assert not recorder.end(0.05)
    assert closed == []


def test_an_end_waits_for_a_backlog_as_long_as_batches_are_written(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = exporter.export

    def export(spans: Sequence[ReadableSpan]) -> SpanExportResult:
        time.sleep(0.05)
        return slow(spans)

    monkeypatch.setattr(processor, "BATCH", 1)
    monkeypatch.setattr(exporter, "export", export)
    end(*range(12))
    assert recorder.end(0.4)
    assert exporter.names == [str(number) for number in range(12)]


def test_what_a_stuck_record_costs_is_told_when_the_process_ends(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    exporter.gate.clear()
    end("first")
    wait_until(lambda: recorder.queued == 0)
    end("a", "b")
    exporter.waiting = 3
    assert not recorder.end(0.05)
    assert "5 spans or rows that could not be written in time are lost" in caplog.text


def test_when_no_thread_can_be_started_the_flush_does_the_work(
    recorder: RecorderSpanProcessor, exporter: Keeping, end: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(processor, "start_new_thread", refuse)
    end("a")
    assert recorder.flush(20)
    assert exporter.names == ["a"]
    assert exporter.threads == {threading.get_ident()}


def test_a_forked_child_begins_with_nothing_and_the_parent_loses_nothing(record: Path, read: Read) -> None:
    exporter = SQLiteSpanExporter(record, "R")
    recorder, provider = RecorderSpanProcessor(exporter), TracerProvider()
    provider.add_span_processor(recorder)
    tracer = provider.get_tracer("tests")

    def end(status: int) -> None:
        attributes = {"http.request.method": "GET", "http.response.status_code": status}
        tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=attributes).end()

    end(1)
    assert recorder.flush(20)
    end(2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if recorder.queued == 0 and exporter.written["http_events"] == 0 else 2
            end(3)
            code = code or (0 if recorder.end(20) else 3)
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert recorder.stop()
    assert sorted(read("SELECT status, process_id FROM http_events")) == [
        (1, os.getpid()),
        (2, os.getpid()),
        (3, child),
    ]


@pytest.mark.parametrize(("text", "seconds"), [("20", 0.02), ("0", 0.0), ("soon", 0.05), ("-1", 0.05), ("nan", 0.05)])
def test_the_flush_interval_is_the_environments(
    monkeypatch: pytest.MonkeyPatch, exporter: Keeping, caplog: pytest.LogCaptureFixture, text: str, seconds: float
) -> None:
    monkeypatch.setenv("RETROSPAN_FLUSH_INTERVAL_MS", text)
    assert RecorderSpanProcessor(exporter)._seconds == seconds
    assert len(caplog.records) == (seconds == 0.05)


def test_a_recorder_is_not_kept_alive_by_what_watches_it(exporter: Keeping) -> None:
    RecorderSpanProcessor(exporter)
    assert all(recorder._exporter is not exporter for recorder in lifecycle.recorders())  # type: ignore[attr-defined]
