"""The exporter that writes lines: finished spans as rows of the same tables, one JSON object a line.

    exporter = JSONLSpanExporter("telemetry.jsonl")
    provider.add_span_processor(RecorderSpanProcessor(exporter, on_close=exporter.finish))

For shipping rows by whatever ships logs; `retrospan import` makes a record of them. Several processes append to one file: each
batch whole, under a lock. A file that would grow beyond RETROSPAN_JSONL_MAX_BYTES is put aside as telemetry.000001.jsonl,
telemetry.000002.jsonl, …, and nothing is ever removed. Every process tells of the run that it takes part in, of the layers
that it enters and of what it had to drop in lines of `run_info`; which of them began the run is for the reader to say. When
lines cannot be written they wait, up to a bound; what finds no room is counted in `dropped`.
"""

import os
import re
import time
from _thread import LockType, allocate_lock
from collections import Counter
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from . import lifecycle
from .lines import encode
from .projection import Projection, plain
from .run import Run, as_list, entered_layers
from .sampling import Sampling
from .settings import most_bytes
from .tables import EVENT_TABLES, RATE_EVENTS, RUN_INFO, RUN_SUMMARY

try:
    import fcntl
except ImportError:  # no locks here: appended lines are whole all the same, but nothing is put aside
    fcntl = None  # type: ignore[assignment]

JSONL: Final = "RETROSPAN_JSONL"
MAX_BYTES: Final = "RETROSPAN_JSONL_MAX_BYTES"
DEFAULT_JSONL: Final = "telemetry.jsonl"
_MOST_WAITING: Final = 65_536
_RETRY_SECONDS: Final = 1.0
_FORK_PATIENCE: Final = 0.5
_LOCK_PATIENCE: Final = 1.0
_NAP: Final = 0.001
_WRITE_BYTES: Final = 8 * 2**20

_logger = getLogger("retrospan")


class LineFile:
    """A file of lines that several processes append to; it is open only while a batch is written."""

    def __init__(self, path: str | os.PathLike[str], most_bytes: int | None = None) -> None:
        """`path` is taken from the present folder; beyond `most_bytes` the file is put aside."""
        self.path = os.path.abspath(path)  # noqa: PTH100  # a link is kept: what it points to may be exchanged
        self._most = most_bytes

    def append(self, lines: Sequence[bytes]) -> int:
        """Write the first of these lines, as many as the file has room for, and one at least; how many. All are whole.

        Raises OSError when they cannot be written; then none is.
        """
        descriptor, is_locked = self._open()
        try:
            size = os.fstat(descriptor).st_size
            count = self._fitting(lines, size)
            if not count and is_locked:
                self._put_aside()
                os.close(descriptor)
                descriptor, is_locked = self._open()
                size = os.fstat(descriptor).st_size
                count = self._fitting(lines, size)
            octets = b"".join(lines[: count or 1])
            # A line that a power loss has cut off stays the only one that is.
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                octets = b"\n" + octets
            if os.write(descriptor, octets) < len(octets):
                os.ftruncate(descriptor, size)
                raise OSError(28, os.strerror(28))
            return count or 1
        finally:
            os.close(descriptor)

    def _open(self) -> tuple[int, bool]:
        """The file's descriptor, locked if that can be had soon; another process may put the file aside meanwhile."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            is_locked = _lock(descriptor)
            try:
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):  # noqa: PTH116
                    return descriptor, is_locked
            except FileNotFoundError:
                pass
            os.close(descriptor)

    def _fitting(self, lines: Sequence[bytes], size: int) -> int:
        """How many of the lines fit; an empty file takes one, however long it is."""
        room = _WRITE_BYTES if self._most is None else min(self._most - size, _WRITE_BYTES)
        count = 0
        for line in lines:
            room -= len(line)
            if room < 0:
                break
            count += 1
        return count or (not size)

    def _put_aside(self) -> None:
        path = Path(self.path)
        numbered = re.compile(rf"{re.escape(path.stem)}\.(\d{{6,}}){re.escape(path.suffix)}")
        numbers = [int(found[1]) for name in os.listdir(path.parent) if (found := numbered.fullmatch(name))]  # noqa: PTH208
        path.rename(path.with_name(f"{path.stem}.{max(numbers, default=0) + 1:06}{path.suffix}"))


class JSONLSpanExporter(SpanExporter):
    """Writes spans as lines; safe to call from any thread.

    `written` counts the rows of each table.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, run_id: str | None = None) -> None:
        """The file at `path`, else RETROSPAN_JSONL, else telemetry.jsonl; of run `run_id`, else RETROSPAN_RUN_ID, else new."""
        self.run = Run(run_id)
        self.run.claim()
        self.written = {table.name: 0 for table in EVENT_TABLES}
        self.has_own_processor = False
        self._file = LineFile(path or os.environ.get(JSONL) or DEFAULT_JSONL, most_bytes(MAX_BYTES))
        self._projection = Projection(self.run.id)
        self._sampling = Sampling.of_environment()
        self._afresh()
        lifecycle.survive_forks(self)

    def _afresh(self) -> None:
        self._lock: LockType = allocate_lock()
        self._dropped = self._projection.unreadable = 0
        self.unqueued = 0  # spans that found the processor's queue full
        # Each line with the name of its table.
        self._waiting: list[tuple[str, bytes]] = []
        self._told: tuple[object, ...] | None = None
        self._is_well = True
        self._retry_at = 0.0
        self._is_finished = False

    @property
    def path(self) -> str:
        """Absolute path of the file."""
        return self._file.path

    @property
    def waiting(self) -> int:
        """Lines that could not be written yet."""
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """Rows that found no room, or that could not be made at all."""
        return self._dropped + self._projection.unreadable

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the rows of these spans, after those that wait; FAILURE when they wait now themselves, or were dropped."""
        with self._lock:
            self._keep(spans)
            if self._is_well or time.monotonic() >= self._retry_at:
                self._write()
            return SpanExportResult.SUCCESS if self._is_well else SpanExportResult.FAILURE

    def retry(self) -> bool:
        """Write what waits, and what there is to tell of the run, now; whether nothing waits any more."""
        with self._lock:
            return self._write()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write what waits."""
        return self.retry()

    def release(self) -> None:
        """Nothing: no file is open between two batches."""

    def finish(self) -> None:
        """Tell, once, that this process has ended."""
        with self._lock:
            if self._is_finished:
                return
            self._is_finished = True
            row = {"run_id": self.run.id, "started_at": self.run.started_at, "finished_at": time.time()}
            self._waiting.append((RUN_SUMMARY.name, encode(RUN_SUMMARY, row)))
            self._write()

    def shutdown(self) -> None:
        """Write what waits, and that the process has ended."""
        self.finish()

    def before_fork(self) -> None:
        """No file is open, and so none locked, while the process forks."""
        self._holds_fork = self._lock.acquire(timeout=_FORK_PATIENCE)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._holds_fork:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """What waits is the parent's to write."""
        self.written = dict.fromkeys(self.written, 0)
        self._afresh()

    def _keep(self, spans: Sequence[ReadableSpan]) -> None:
        """While there is trouble, the bound is kept by letting the newest go: what led to the trouble stays."""
        rows = self._sampling.thin(self._projection.rows(spans, os.getpid()), RATE_EVENTS.name)
        for table in EVENT_TABLES:
            names = [column.name for column in table.inserted()]
            for row in rows[table.name]:
                if not self._is_well and len(self._waiting) >= _MOST_WAITING:
                    self._dropped += 1
                else:
                    self._waiting.append((table.name, encode(table, dict(zip(names, plain(row), strict=True)))))

    def _write(self) -> bool:
        self._tell_of_run()
        try:
            while self._waiting:
                count = self._file.append([line for _, line in self._waiting])
                for name, number in Counter(name for name, _ in self._waiting[:count] if name in self.written).items():
                    self.written[name] += number
                del self._waiting[:count]
        except OSError as error:
            if self._is_well:
                _logger.error(
                    "%s cannot be written (%s): make it writable, or name another file by %s. Up to %d rows wait for that.",
                    self.path,
                    error.strerror,
                    JSONL,
                    _MOST_WAITING,
                )
            self._is_well, self._retry_at = False, time.monotonic() + _RETRY_SECONDS
            return False
        if not self._is_well:
            _logger.warning("%s is written again; %d rows had to be dropped.", self.path, self.dropped)
        self._is_well = True
        return True

    def _tell_of_run(self) -> None:
        """A line of `run_info` goes before everything else, and again when there is more to say."""
        row = {**self.run.row(), "layers": as_list(entered_layers()), "dropped_rows": self.dropped + self.unqueued}
        told = row["layers"], row["sampler"], row["dropped_rows"]
        if self._told != told:
            self._told = told
            has_older = bool(self._waiting) and self._waiting[0][0] == RUN_INFO.name
            self._waiting[: int(has_older)] = [(RUN_INFO.name, encode(RUN_INFO, row))]


def _lock(descriptor: int) -> bool:
    """Lock an open file against other processes and threads; False when that took too long, or cannot be had."""
    if fcntl is None:
        return False
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_NAP)
        except OSError:
            return False
        else:
            return True
