"""The exporter that writes the record: finished spans into the tables of one SQLite file.

    provider.add_span_processor(RecorderSpanProcessor(SQLiteSpanExporter("telemetry.sqlite")))

It makes rows of a batch and writes them in one transaction, with the id ranges of its run. Nothing is opened before the first
batch, or `start`. When the file cannot be written, one line says why and what to do; the rows wait, up to a bound, and are
written when it heals; what finds no room, the newest, is counted in `dropped` and in the run's row of `run_info`. A damaged
record is kept aside. When to export is the processor's business; another one than ours works, too, but cannot give its
promises.
"""

import os
import sqlite3
import time
from _thread import LockType, allocate_lock
from collections.abc import Sequence
from logging import getLogger
from typing import Final

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from . import lifecycle
from .database import PATIENCE_SECONDS, Database, Refused, advice, is_busy, is_damage
from .projection import INSERTS, Batches, Projection
from .retention import Bound
from .run import Run
from .sampling import Sampling
from .settings import record_path
from .tables import EVENT_TABLES, RATE_EVENTS, RUN_INFO, RUN_RANGES

_MOST_WAITING: Final = 65_536
_FIRST_RETRY: Final = 0.25
_LAST_RETRY: Final = 5.0
_FORK_PATIENCE: Final = 0.5
_START_PATIENCE: Final = 0.5
_RANGE: Final = (
    f"INSERT INTO {RUN_RANGES.name} (run_id, table_name, first_id, last_id) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (run_id, table_name) DO UPDATE SET last_id = max(last_id, excluded.last_id)"
)
_DROPPED: Final = f"UPDATE {RUN_INFO.name} SET dropped_rows = ifnull(dropped_rows, 0) + ? WHERE run_id = ?"
# A disk that damages one file after the other is not to be filled with them.
_MOST_ASIDE: Final = 3

_logger = getLogger("retrospan")


class SQLiteSpanExporter(SpanExporter):
    """Writes spans into a record; safe to call from any thread.

    `written` counts the rows of each table.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, run_id: str | None = None) -> None:
        """The record at `path`, else RETROSPAN_DB, else telemetry.sqlite; of run `run_id`, else RETROSPAN_RUN_ID, else new."""
        self.run = Run(run_id)
        self.written = _no_rows()
        self.has_own_processor = False
        self._database = Database(path or record_path())
        self._projection = Projection(self.run.id)
        self._sampling = Sampling.of_environment()
        self._begun = 0
        self._afresh()
        lifecycle.survive_forks(self)

    def _afresh(self) -> None:
        self._lock: LockType = allocate_lock()
        self._bound = Bound(self._database)
        self._dropped = self._projection.unreadable = 0
        self.unqueued = 0  # spans that found the processor's queue full
        self._noted = 0  # of all that was dropped: what the record tells
        self._put_aside = 0
        self._waiting: Batches = {}
        self._trouble: str | None = None
        self._retry_seconds, self._retry_at = _FIRST_RETRY, 0.0
        self._told_of_processor = False

    @property
    def path(self) -> str:
        """Absolute path of the record."""
        return self._database.path

    @property
    def waiting(self) -> int:
        """Rows that could not be written yet."""
        return sum(map(len, self._waiting.values()))

    @property
    def dropped(self) -> int:
        """Rows that found no room, or that could not be made or written at all."""
        return self._dropped + self._projection.unreadable

    @property
    def has_begun(self) -> bool:
        """Whether the run is in the record."""
        return self._begun > 0

    def start(self) -> bool:
        """Open the record and enter the run, so that it shows while it lives; whether that went well, within a second."""
        with self._lock:
            return self._write(_START_PATIENCE)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the rows of these spans, after those that wait; FAILURE when they wait now themselves, or were dropped."""
        if not (self.has_own_processor or self._told_of_processor):
            self._told_of_processor = True
            _logger.warning(
                "%s is written by another span processor than RecorderSpanProcessor: spans that it still holds are lost"
                " when the process is killed, or ends by a signal or os._exit.",
                self.path,
            )
        with self._lock:
            is_well = self._trouble is None
            self._keep(self._sampling.thin(self._projection.batches(spans, os.getpid()), INSERTS[RATE_EVENTS.name]))
            if is_well or time.monotonic() >= self._retry_at:
                is_well = self._write()
        return SpanExportResult.SUCCESS if is_well else SpanExportResult.FAILURE

    def retry(self) -> bool:
        """Write what waits, now; whether nothing waits any more."""
        with self._lock:
            return self._write()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Write what waits."""
        return self.retry()

    def shutdown(self) -> None:
        """Write what waits, and close the file."""
        self.retry()
        self.release()

    def release(self) -> None:
        """Close the file; the next batch opens it again."""
        with self._lock:
            self._release(PATIENCE_SECONDS)

    def before_fork(self) -> None:
        """No connection is open while the process forks: the child's use of it would lose the parent's rows."""
        self._holds_fork = self._lock.acquire(timeout=_FORK_PATIENCE)
        if self._holds_fork:
            self._release(_FORK_PATIENCE)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._holds_fork:
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """What waits is the parent's to write."""
        self._database.forget()
        self.written = _no_rows()
        self._afresh()

    def _keep(self, made: Batches) -> None:
        """While there is trouble, the bound is kept by letting the newest go: what led to the trouble stays."""
        if not self._waiting and self._trouble is None:
            self._waiting = made
            return
        for insert, rows in made.items():
            kept = rows if self._trouble is None else rows[: max(0, _MOST_WAITING - self.waiting)]
            self._waiting.setdefault(insert, []).extend(kept)
            self._dropped += len(rows) - len(kept)

    def _write(self, patience: float = PATIENCE_SECONDS) -> bool:
        suppressed = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            with self._database.transaction(patience) as connection:
                self._begin(connection)
                self._insert(connection)
                self.run.note(connection)
                dropped = self.dropped + self.unqueued
                if dropped > self._noted:
                    connection.execute(_DROPPED, (dropped - self._noted, self.run.id))
                self._bound.look(connection)
        except Exception as error:
            if is_damage(error) and self._begin_afresh(patience):
                return self._write(patience)
            if not _lies_in_the_file(error):
                return self._give_up(error)
            if patience < PATIENCE_SECONDS and is_busy(error):
                return False  # others are starting, too: the first batch waits longer, and tells
            return self._fail(error)
        finally:
            detach(suppressed)
        self._begun, self._noted = self._database.openings, dropped
        self._bound.keep(self._lock)
        for insert, rows in self._waiting.items():
            self.written[insert.table] += len(rows)
        self._waiting = {}
        if self._trouble is not None:
            _logger.warning("%s is written again; %d rows had to be dropped.", self.path, self.dropped)
        self._trouble, self._retry_seconds = None, _FIRST_RETRY
        return True

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Enter the run in a file that was opened just now; rows made before its id was settled take that id."""
        if self._begun == self._database.openings:
            return
        self.run.begin(connection)
        if self._projection.run_id != self.run.id:
            self._projection.run_id = self.run.id
            for rows in self._waiting.values():
                rows[:] = [(self.run.id, *row[1:]) for row in rows]

    def _begin_afresh(self, patience: float) -> bool:
        """Put a damaged record aside; whether a fresh one can be begun at its place."""
        if self._put_aside >= _MOST_ASIDE:
            return False
        try:
            aside = self._database.put_aside(patience)
        except OSError:
            return False
        if aside is None:
            return False
        self._put_aside += 1
        _logger.error(
            "%s is damaged: it is kept as %s, and a fresh one is begun. `sqlite3 FILE .recover` shows what can be saved.",
            self.path,
            aside,
        )
        return True

    def _insert(self, connection: sqlite3.Connection) -> None:
        ids: dict[str, list[int]] = {}
        for insert, rows in self._waiting.items():
            if not rows:
                continue
            connection.executemany(insert.text, rows)
            (last,) = connection.execute("SELECT last_insert_rowid()").fetchone()
            ids.setdefault(insert.table, []).extend((last - len(rows) + 1, last))
        for name, of_table in ids.items():
            connection.execute(_RANGE, (self.run.id, name, min(of_table), max(of_table)))

    def _fail(self, error: Exception) -> bool:
        """Keep the rows and try again later; say so once a trouble."""
        what = advice(error)
        if what != self._trouble:
            _logger.error("%s cannot be written: %s. Up to %d rows wait for that.", self.path, what, _MOST_WAITING)
        self._trouble = what
        self._retry_at = time.monotonic() + self._retry_seconds
        self._retry_seconds = min(2 * self._retry_seconds, _LAST_RETRY)
        return False

    def _give_up(self, error: Exception) -> bool:
        """These rows will never be taken: let go of them, so that later ones are."""
        _logger.error("%s does not take %d rows (%s); they are dropped.", self.path, self.waiting, type(error).__name__)
        self._dropped += self.waiting
        self._waiting = {}
        return False

    def _release(self, patience: float) -> None:
        self._bound.rest()
        try:
            self._database.release(patience)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)


def _no_rows() -> dict[str, int]:
    return dict.fromkeys((table.name for table in EVENT_TABLES), 0)


def _lies_in_the_file(error: Exception) -> bool:
    """Whether it may heal; whatever else is raised lies in the rows themselves."""
    # A damaged file, or one that is no database, is told by the plain base class.
    passing = (sqlite3.OperationalError, sqlite3.InternalError, OSError, Refused)
    return isinstance(error, passing) or type(error) is sqlite3.DatabaseError
