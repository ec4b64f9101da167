"""A record's file, opened for writing: by one writer at a time, a transaction a batch.

    database = Database("telemetry.sqlite")
    with database.transaction() as connection:
        connection.execute("INSERT …")
    database.release()

The file is made with mode 0600, in WAL mode; an older schema is migrated, a newer one refused. What is written, and what
becomes of it when it cannot be, is the exporter's business. Raised are sqlite3.Error, OSError and Refused; `advice` says of
each what to do.
"""

import errno
import os
import sqlite3
import time
from _thread import LockType, allocate_lock
from collections.abc import Iterator
from contextlib import contextmanager
from random import random
from typing import Final

from . import tables

try:
    import fcntl
except ImportError:  # no advisory locks here: SQLite's own must do
    fcntl = None  # type: ignore[assignment]

# How long a writer waits: for the advisory lock, whose holder may have been stopped and does not hold the others up for good,
# and then for SQLite's own, which still keeps them apart.
PATIENCE_SECONDS: Final = 4.0
_LONGEST_NAP: Final = 0.002
# Whoever has waited for so long looks as often as can be, and so is next.
_OLD_SECONDS: Final = 0.1
# What the WAL is cut back to after a reader has made it grow.
_WAL_BYTES: Final = 4 * 2**20

_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: let this user write it, or name another file by RETROSPAN_DB",
    sqlite3.SQLITE_PERM: "it may not be written: let this user write it, or name another file by RETROSPAN_DB",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: look at its folder and its mode, or name another file by RETROSPAN_DB",
    sqlite3.SQLITE_BUSY: "another program holds it locked: end that program's transaction",
    sqlite3.SQLITE_LOCKED: "another program holds it locked: end that program's transaction",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database: move it away, or name another file by RETROSPAN_DB",
    sqlite3.SQLITE_IOERR: "the disk does not take it: look at the disk",
    errno.ENOSPC: "the disk is full: free some space",
    errno.ENOENT: "its folder is not there: make it, or name another file by RETROSPAN_DB",
}
_OTHER_ADVICE: Final = "make it writable, or name another file by RETROSPAN_DB"

# Two exporters of one process share the record's lock file, and closing it once drops the lock of both.
_locks: dict[tuple[int, str], LockType] = {}


class Refused(Exception):
    """A file that is not written to, whatever happens: it is newer, or another program's."""


def is_busy(error: BaseException) -> bool:
    """Whether somebody else was writing all the time."""
    return isinstance(error, TimeoutError) or getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def advice(error: BaseException) -> str:
    """What is wrong with the file, and what to do about it."""
    if isinstance(error, Refused):
        return str(error)
    if is_busy(error):
        return _ADVICE[sqlite3.SQLITE_BUSY]
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return _ADVICE.get(code, _ADVICE.get(code & 0xFF, _OTHER_ADVICE))
    return _ADVICE.get(getattr(error, "errno", None) or 0, _OTHER_ADVICE)


class Database:
    """One record, opened when it is first needed and again whenever its file was replaced."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """`path` is taken from the present folder, wherever the program goes later."""
        self.path = os.path.abspath(path)  # noqa: PTH100  # resolving links would part the lock file from its neighbours
        self.openings = 0
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._log: tuple[int, int] | None = None

    @contextmanager
    def transaction(self, patience: float = PATIENCE_SECONDS) -> Iterator[sqlite3.Connection]:
        """One transaction, in which nobody else writes; rolled back when left by an exception.

        `patience` bounds, in seconds, each wait for other writers.
        """
        with self._alone(patience):
            connection = self._connected(patience)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def release(self, patience: float = PATIENCE_SECONDS) -> None:
        """Close the file; the next transaction opens it again. Before a fork this must have happened."""
        if self._connection is not None:
            with self._alone(patience):
                self._close()

    def forget(self) -> None:
        """In a forked child whose parent was writing: leave the parent's connection alone, unclosed, for good."""
        if self._connection is not None:
            _left_open.append(self._connection)
            self._connection = None

    def _connected(self, patience: float) -> sqlite3.Connection:
        if self._connection is not None and _identity(self.path) != self._file:
            self._close()
            # SQLite leaves the log of a file that was moved, where it would hide what its successor holds.
            if self._log is not None and _identity(f"{self.path}-wal") == self._log:
                os.unlink(f"{self.path}-wal")  # noqa: PTH108
        if self._connection is None:
            self._connection = _open(self.path, patience)
            self._file, self._log = _identity(self.path), _identity(f"{self.path}-wal")
            self.openings += 1
        self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * patience)}")
        return self._connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    @contextmanager
    def _alone(self, patience: float) -> Iterator[None]:
        """Hold the advisory lock beside the record, so that writers take turns and checkpoints can finish."""
        lock = _locks.setdefault((os.getpid(), self.path), allocate_lock())
        if not lock.acquire(timeout=patience):
            raise TimeoutError(errno.EBUSY, "locked by another thread")
        try:
            descriptor = os.open(f"{self.path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                _wait_for(descriptor, patience)
                yield
            finally:
                os.close(descriptor)
        finally:
            lock.release()


_left_open: list[sqlite3.Connection] = []


def _wait_for(descriptor: int, patience: float) -> None:
    """Take the lock, or go on without when that takes too long or the file system has none."""
    if fcntl is None:
        return
    start = now = time.monotonic()
    while now - start < patience:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return
            time.sleep(random() * _LONGEST_NAP * max(0.05, 1 - (now - start) / _OLD_SECONDS))
            now = time.monotonic()
        else:
            return


def _identity(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _open(path: str, patience: float) -> sqlite3.Connection:
    # Only if it is not there: closing any descriptor of a database drops the locks that this process has on it.
    if _identity(path) is None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    application, version = _stamps(connection)
    if application not in (0, tables.APPLICATION_ID) or (application == 0 and version != 0):
        raise Refused("it is another program's database: name another file by RETROSPAN_DB")
    if version > tables.SCHEMA_VERSION:
        raise Refused(
            f"it was written by a newer Retrospan (schema {version}, this one writes {tables.SCHEMA_VERSION}):"
            " upgrade retrospan, or name another file by RETROSPAN_DB"
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    if version < tables.SCHEMA_VERSION:
        _migrate(connection)


def _stamps(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    return application, version


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring a new file, or one that another tool or an older version made, to the present schema: all of it, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for table in tables.TABLES:
            connection.execute(table.ddl())
            present = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table.name})")}
            for column in table.columns:
                if column.name not in present:
                    connection.execute(f"ALTER TABLE {table.name} ADD COLUMN {column.ddl()}")
        connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {tables.SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
