"""A record kept under RETROSPAN_MAX_BYTES: the oldest complete runs go, and their space is given back to the disk.

    bound = Bound(database)
    bound.look(connection)          # in each batch's transaction
    bound.keep(lock)                # after it: a thread comes when something has to go, and leaves when it has gone

Rows go in short transactions, between which the writers of all processes have their turns. The summary of a run counts in
`dropped_rows` what has gone so far, so that it is true at every moment, and a run that is half gone when the process ends is
the next to go on with. A run goes wholly when its last row has; but the newest row of each table stays, whosever it is, so
that no id is ever used twice. A run without a summary, live or killed, is never touched.
"""

import sqlite3
import time
from _thread import LockType, start_new_thread
from logging import getLogger
from typing import Final

from .database import Database, Refused
from .settings import most_bytes
from .tables import EVENT_TABLES, RUN_INFO, RUN_RANGES, RUN_SUMMARY

MAX_BYTES: Final = "RETROSPAN_MAX_BYTES"
# Beyond the first share of the bound runs go, until the second is reached: room for what comes meanwhile.
_HIGH, _LOW = 0.9, 0.8
_ROWS_A_STEP: Final = 20_000
_STEPS_AT_ONCE: Final = 8
_VACUUM_SECONDS: Final = 0.02
_PAUSE_SECONDS: Final = 0.002
_REST_SECONDS: Final = 30.0
_AUTO_VACUUM_OFF: Final = 0
_TABLES: Final = tuple(table.name for table in EVENT_TABLES)
_OLDEST_FIRST: Final = f"""
SELECT s.run_id FROM {RUN_SUMMARY.name} AS s LEFT JOIN {RUN_INFO.name} AS i ON i.run_id = s.run_id
ORDER BY coalesce(i.started_at, s.started_at, s.finished_at, 0), s.run_id
"""

_logger = getLogger("retrospan")


class Bound:
    """The bound of one record, as one process keeps it."""

    def __init__(self, database: Database, most: int | None = None) -> None:
        """The bound is `most` bytes, else RETROSPAN_MAX_BYTES, else there is none."""
        self._database = database
        self._most = most_bytes(MAX_BYTES) if most is None else most
        self._told = False
        self.rest()
        self._has_thread = False

    def rest(self) -> None:
        """Let the file alone until the next look."""
        self._is_exceeded, self._rest_until = False, 0.0

    def look(self, connection: sqlite3.Connection) -> None:
        """See, in the transaction of a batch, whether something has to go; what the batch has no room for goes at once."""
        if self._most is None or time.monotonic() < self._rest_until:
            return
        self._is_exceeded = _number(connection, "page_count") > self._pages(connection, _HIGH)
        for _ in range(_STEPS_AT_ONCE):
            if _number(connection, "page_count") <= self._pages(connection, 1.0):
                return
            if not (self._drop(connection, _HIGH) or give_back(connection)):
                return

    def keep(self, lock: LockType) -> None:
        """Have go what has to; `lock` is held by whoever uses the database in this process."""
        if self._is_exceeded and not self._has_thread:
            self._has_thread = True
            try:
                start_new_thread(self._work, (lock,))
            except RuntimeError:  # the interpreter is going down: the next process goes on
                self._has_thread = False

    def _work(self, lock: LockType) -> None:
        try:
            while self._step(lock):
                time.sleep(_PAUSE_SECONDS)
        except (sqlite3.Error, OSError, Refused):
            pass  # what is wrong with the file is told by who writes rows
        except Exception as error:
            _logger.error(
                "%s is not kept under its bound: %s. Please report this.", self._database.path, type(error).__name__
            )
        self._has_thread = False

    def _step(self, lock: LockType) -> bool:
        with lock:
            if not self._is_exceeded:
                return False
            with self._database.transaction() as connection:
                goes_on = self._drop(connection, _LOW) or give_back(connection)
                if not goes_on:
                    self._is_exceeded = False
                    self._judge(connection)
            if not goes_on:
                self._database.checkpoint()
        return goes_on

    def _drop(self, connection: sqlite3.Connection, share: float) -> bool:
        """Let some rows of the oldest run go that has any to spare; whether so much of the bound is used, and there was one."""
        used = _number(connection, "page_count") - _number(connection, "freelist_count")
        if used <= self._pages(connection, share):
            return False
        return any(_thin_out(connection, run_id) for (run_id,) in connection.execute(_OLDEST_FIRST).fetchall())

    def _judge(self, connection: sqlite3.Connection) -> None:
        """When nothing more can go and that is not enough, say so, once, and leave it at that for a while."""
        size = _number(connection, "page_count") * _number(connection, "page_size")
        if size <= _HIGH * (self._most or 0):
            return
        self._rest_until = time.monotonic() + _REST_SECONDS
        if self._told or size <= (self._most or 0):
            return
        self._told = True
        if _number(connection, "auto_vacuum") == _AUTO_VACUUM_OFF and _number(connection, "freelist_count"):
            what = "its free space is used again, but cannot be given back: `retrospan merge` makes a smaller copy"
        else:
            what = "no complete run is left that could go; live runs stay, and so do killed ones until `retrospan summarize`"
        _logger.warning("%s has %d bytes, more than %s=%d: %s.", self._database.path, size, MAX_BYTES, self._most, what)

    def _pages(self, connection: sqlite3.Connection, share: float) -> float:
        return share * (self._most or 0) / _number(connection, "page_size")


def _thin_out(connection: sqlite3.Connection, run_id: str) -> bool:
    """Delete the first rows of a complete run, and with its last row the run; whether there was anything to delete."""
    ranges = [
        (table, first, last)
        for table, first, last in connection.execute(
            f"SELECT table_name, first_id, last_id FROM {RUN_RANGES.name} WHERE run_id = ?", (run_id,)
        )
        if table in _TABLES
    ]
    for table, first, last in ranges:
        (newest,) = connection.execute(f"SELECT max(id) FROM {table}").fetchone()
        if first < last or newest != last:
            _delete(connection, run_id, table, first, last, newest)
            break
    else:
        if ranges:
            return False
    if not connection.execute(f"SELECT 1 FROM {RUN_RANGES.name} WHERE run_id = ?", (run_id,)).fetchone():
        for side in (RUN_INFO, RUN_SUMMARY):
            connection.execute(f"DELETE FROM {side.name} WHERE run_id = ?", (run_id,))
    return True


def _delete(connection: sqlite3.Connection, run_id: str, table: str, first: int, last: int, newest: int | None) -> None:
    """Delete a step's rows from the start of a run's range, but for the table's newest; shorten the range by them."""
    beyond = min(first + _ROWS_A_STEP, last + 1)
    if newest == last:
        beyond = min(beyond, last)
    gone = connection.execute(
        f"DELETE FROM {table} WHERE id >= ? AND id < ? AND run_id = ?", (first, beyond, run_id)
    ).rowcount
    if beyond > last:
        connection.execute(f"DELETE FROM {RUN_RANGES.name} WHERE run_id = ? AND table_name = ?", (run_id, table))
    else:
        connection.execute(
            f"UPDATE {RUN_RANGES.name} SET first_id = ? WHERE run_id = ? AND table_name = ?", (beyond, run_id, table)
        )
    connection.execute(
        f"UPDATE {RUN_SUMMARY.name} SET dropped_rows = ifnull(dropped_rows, 0) + ? WHERE run_id = ?", (gone, run_id)
    )


def give_back(connection: sqlite3.Connection) -> bool:
    """Shorten the file by some of its free pages; whether there were any that can be given back."""
    if _number(connection, "auto_vacuum") == _AUTO_VACUUM_OFF or not _number(connection, "freelist_count"):
        return False
    deadline = time.monotonic() + _VACUUM_SECONDS
    while time.monotonic() < deadline and _number(connection, "freelist_count"):
        connection.execute("PRAGMA incremental_vacuum(1)")
    return True


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    (number,) = connection.execute(f"PRAGMA {pragma}").fetchone()
    return int(number)
