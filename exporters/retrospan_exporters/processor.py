"""The span processor of a recorder: nothing of it is in the program's way, and a killed program loses 50 ms at most.

    exporter = SQLiteSpanExporter("telemetry.sqlite")
    provider.add_span_processor(RecorderSpanProcessor(exporter))

A span that ends is appended to a queue: no lock, no I/O, no thread woken but one that sleeps. A thread of the processor's
own hands it to the exporter at most a flush interval later (RETROSPAN_FLUSH_INTERVAL_MS), and sleeps without a timeout when
there is nothing to do. The queue has a bound: spans that find it full, the newest, are counted in `dropped`. What a process
does at its end is in `lifecycle`.
"""

import os
import time
from _thread import LockType, allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import Final, Protocol

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, set_value
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExportResult

from retrospan_instrumentation import metrics, semconv

from . import lifecycle
from .run import Run
from .settings import warn_once

FLUSH_INTERVAL: Final = "RETROSPAN_FLUSH_INTERVAL_MS"
_FLUSH_SECONDS: Final = 0.05
_MOST_QUEUED: Final = 65_536
# Spans that one export takes: more, and their rows no longer stay in the processor's cache until they are written.
BATCH: Final = 512
_RETRY_SECONDS: Final = 1.0
_SAMPLED: Final = 1
# Less than the ten seconds after which container runtimes kill.
_LONGEST_END: Final = 8.0

_logger = getLogger("retrospan")


class RowExporter(Protocol):
    """What the processor asks of an exporter: one that keeps rows that could not be written, and is told in `unqueued` of the
    spans that never came to it."""

    run: Run
    has_own_processor: bool
    unqueued: int

    @property
    def waiting(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    def export(self, spans: Sequence[ReadableSpan], /) -> SpanExportResult: ...
    def retry(self) -> bool: ...
    def release(self) -> None: ...


class RecorderSpanProcessor(SpanProcessor):
    """Queues spans as they end and exports them from a thread of its own.

    `on_close` is called once, when the process that began the run ends, after the last flush: in the second that an exit may
    take, and from the processor's thread.
    """

    def __init__(self, exporter: RowExporter, on_close: Callable[[], object] | None = None) -> None:
        self._exporter, self._on_close = exporter, on_close
        self._seconds = _flush_seconds()
        self._queue: deque[ReadableSpan] = deque()
        self._is_over = False
        self._afresh()
        exporter.has_own_processor = True
        lifecycle.watch(self)
        lifecycle.survive_forks(self)
        metrics.count_by(semconv.METRIC_ROWS_DROPPED, _dropped)

    def _afresh(self) -> None:
        """The state of a process that has recorded nothing."""
        self._queue.clear()
        self.dropped = 0
        self.last_flush: float | None = None
        self._is_armed = False  # a round of the worker is on its way
        self._is_busy = False  # ... and under way
        self._has_worker = False
        self._is_closing = False
        self._batches = 0  # ... that were written
        # The worker sleeps at the first lock without a timeout, and at the second for the flush interval, unless hurried.
        self._go, self._hurry = allocate_lock(), allocate_lock()
        self._go.acquire()
        self._hurry.acquire()
        # Flushes take a number; a round that began later has served it.
        self._asked = self._served = 0

    # -- the program's path: no lock is waited for; it may run in a signal handler, in __del__, during a fork

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span."""
        # _context: the properties that lead to the flags in it cost more than all of this.
        if not span._context[3] & _SAMPLED or self._is_over:  # type: ignore[index]  # a span that ends has one
            return
        queue = self._queue
        if len(queue) >= _MOST_QUEUED:
            self.dropped += 1
            return
        queue.append(span)
        if not self._is_armed:
            self._arm()

    def _arm(self) -> None:
        self._is_armed = True
        if self._start_worker():
            _open(self._go)

    def _start_worker(self) -> bool:
        if not self._has_worker:
            self._has_worker = True
            try:
                start_new_thread(self._work, ())
            except RuntimeError:  # the interpreter is going down: whoever flushes does the work
                self._has_worker = False
        return self._has_worker

    # -- the worker's path

    def _work(self) -> None:
        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        go, hurry = self._go, self._hurry
        while not self._is_over:
            go.acquire(timeout=_RETRY_SECONDS if self._exporter.waiting else -1)
            hurry.acquire(timeout=self._seconds)
            self._round()

    def _round(self) -> None:
        self._is_busy = True
        self._is_armed = False  # before the look at the queue: whoever appends after it arms again
        asked = self._asked
        self._exporter.unqueued = self.dropped
        try:
            self._export(len(self._queue))
            if self._exporter.waiting:
                self._exporter.retry()
            if self._is_closing:
                self._close()
        except Exception as error:
            _logger.error("The recorder failed with %s and goes on. Please report this.", type(error).__name__)
        self.last_flush = time.time()
        self._served = asked
        self._is_busy = False

    def _export(self, count: int) -> None:
        queue = self._queue
        while count > 0:
            size = min(count, BATCH)
            if self._exporter.export([queue.popleft() for _ in range(size)]) is SpanExportResult.SUCCESS:
                self._batches += 1
            count -= size

    def _close(self) -> None:
        self._is_closing = False
        self._exporter.retry()  # the layers that were entered since the last batch
        self._exporter.release()
        on_close = self._on_close
        if on_close is not None and self._exporter.run.is_mine:
            self._on_close = None
            on_close()

    # -- flushes

    @property
    def queued(self) -> int:
        """Spans that wait for the worker."""
        return len(self._queue)

    def flush(self, timeout: float) -> bool:
        """Have everything written that has ended by now; whether it was, within so many seconds."""
        if self._is_over:
            return not self._exporter.waiting
        if not (self._queue or self._is_armed or self._is_busy or self._is_closing or self._exporter.waiting):
            return True
        self._asked += 1
        number = self._asked
        if self._start_worker():
            deadline = time.monotonic() + timeout
            _open(self._hurry)
            _open(self._go)
            while self._served < number:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.0005)
        else:
            self._round()
        return not self._exporter.waiting

    def end(self, timeout: float) -> bool:
        """`flush`, close the file, and `on_close` if the run ends with this process.

        `timeout` is for a record that is stuck: while batches keep being written the end waits for them, though not for ever.
        """
        self._is_closing = True
        start, batches = time.monotonic(), -1
        is_written = False
        while not is_written and batches != self._batches and time.monotonic() - start < _LONGEST_END:
            batches = self._batches
            is_written = self.flush(timeout)
        left = len(self._queue) + self._exporter.waiting
        if not is_written and left:
            _logger.error("The process ends, and %d spans or rows that could not be written in time are lost.", left)
        return is_written

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """`flush`, with the limiter waits that no request has taken."""
        lifecycle.drain_waits()
        return self.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """`flush`, within a second. Spans may still end in the program's exit handlers: they are taken, too."""
        lifecycle.drain_waits(final=True)
        self.flush(lifecycle.EXIT_SECONDS)

    def stop(self) -> bool:
        """End for good, before the process does: spans that end later are not taken. Whether all was written in a second."""
        lifecycle.drain_waits(final=True)
        is_written = self.end(lifecycle.EXIT_SECONDS)
        self._is_over = True
        _open(self._hurry)
        _open(self._go)
        return is_written

    # -- forks

    def before_fork(self) -> None:
        """Nothing: the queue stays the parent's."""

    def after_fork_in_parent(self) -> None:
        """Nothing."""

    def after_fork_in_child(self) -> None:
        """What was queued is the parent's to write, and its worker is not here."""
        self._afresh()


def _open(lock: LockType) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # it is open already: two threads came at once


def _dropped() -> int:
    """Spans and rows that all recorders of this process had to drop."""
    found = [recorder for recorder in lifecycle.recorders() if isinstance(recorder, RecorderSpanProcessor)]
    return sum(recorder.dropped + recorder._exporter.dropped for recorder in found)


def _flush_seconds() -> float:
    text = os.environ.get(FLUSH_INTERVAL)
    if text is None:
        return _FLUSH_SECONDS
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = -1.0
    if not 0 <= milliseconds <= 3_600_000:
        warn_once(f"{FLUSH_INTERVAL}={text!r} is no number of milliseconds: it is {1000 * _FLUSH_SECONDS:.0f}.")
        return _FLUSH_SECONDS
    return milliseconds / 1000
