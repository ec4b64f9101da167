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
import stat
import time
from _thread import LockType, allocate_lock
from collections.abc import Iterator
from contextlib import contextmanager
from random import random
from typing import Final

from . import held, tables

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
# After these a connection stays as it is, read-only for one, whatever becomes of the file: it is opened anew.
_STALE: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
# What the WAL is cut back to after a reader has made it grow.
_WAL_BYTES: Final = 4 * 2**20

_NO_LOCKS: Final = "its file system takes no locks: name a file on a disk of this machine by RETROSPAN_DB"
# Where SQLite keeps the application id in a file's header.
_HEADER_BYTES: Final = 100
_APPLICATION_ID: Final = slice(68, 72)
_ADVICE: Final = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: let this user write it, or name another file by RETROSPAN_DB",
    sqlite3.SQLITE_PERM: "it may not be written: let this user write it, or name another file by RETROSPAN_DB",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: look at its folder and its mode, or name another file by RETROSPAN_DB",
    sqlite3.SQLITE_BUSY: "another program holds it locked: end that program's transaction",
    sqlite3.SQLITE_LOCKED: "another program holds it locked: end that program's transaction",
    sqlite3.SQLITE_CORRUPT: "it is damaged: move it away",
    sqlite3.SQLITE_IOERR_LOCK: _NO_LOCKS,
    sqlite3.SQLITE_IOERR_RDLOCK: _NO_LOCKS,
    sqlite3.SQLITE_IOERR_SHMLOCK: _NO_LOCKS,
    sqlite3.SQLITE_IOERR_SHMMAP: _NO_LOCKS,
    sqlite3.SQLITE_PROTOCOL: _NO_LOCKS,
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database: move it away, or name another file by RETROSPAN_DB",
    sqlite3.SQLITE_IOERR: "the disk does not take it: look at the disk",
    errno.ENOSPC: "the disk is full: free some space",
    errno.ENOLCK: _NO_LOCKS,
    errno.EDQUOT: "the disk is full: free some space",
    errno.EACCES: "it may not be written: let this user write it and its folder, or name another file by RETROSPAN_DB",
    errno.EROFS: "it is on a disk that is read-only: name another file by RETROSPAN_DB",
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


def is_damage(error: BaseException) -> bool:
    """Whether the file is no sound database."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


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
        self._file: held.Identity | None = None
        self._log: held.Identity | None = None
        self._held: held.Hold | None = None
        self._damaged: held.Identity | None = None
        self._lacks_locks = False

    @contextmanager
    def transaction(self, patience: float = PATIENCE_SECONDS) -> Iterator[sqlite3.Connection]:
        """One transaction, in which nobody else writes; rolled back when left by an exception.

        `patience` bounds, in seconds, each wait for other writers.
        """
        with self._alone(patience):
            connection: sqlite3.Connection | None = None
            try:
                connection = self._connected(patience)
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                if is_damage(error):
                    self._damaged = held.identity_of(self.path)
                if connection is not None and connection.in_transaction:
                    connection.execute("ROLLBACK")
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _STALE:
                    self._close()
                if self._lacks_locks and is_busy(error):  # SQLite takes it for a lock that somebody holds
                    raise OSError(errno.ENOLCK, "no locks") from error
                raise

    def put_aside(self, patience: float = PATIENCE_SECONDS) -> str | None:
        """Move the record that a transaction found damaged out of the way, with its log: its new path.

        None when the file is not ours to move: another program's, or one that another process has begun meanwhile.
        """
        with self._alone(patience):
            if held.identity_of(self.path) != self._damaged or not _was_ours(self.path):
                return None
            aside = f"{self.path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}.{time.time_ns() % 10**9:09}"
            # Before the connection is closed: of a file that was moved SQLite leaves the log as it is.
            for suffix in ("", "-wal", "-shm"):
                try:
                    os.rename(f"{self.path}{suffix}", f"{aside}{suffix}")  # noqa: PTH104
                except FileNotFoundError:
                    pass
            self._close()
            return aside

    def checkpoint(self, patience: float = PATIENCE_SECONDS) -> None:
        """Bring the log into the file as far as readers let it, so that what was given back leaves the disk."""
        with self._alone(patience):
            self._connected(patience).execute("PRAGMA wal_checkpoint(PASSIVE)")

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
        if self._connection is not None and held.identity_of(self.path) != self._file:
            self._close()
            # SQLite leaves the log of a file that was moved, where it would hide what its successor holds.
            if self._log is not None and held.identity_of(f"{self.path}-wal") == self._log:
                os.unlink(f"{self.path}-wal")  # noqa: PTH108
        if self._connection is None:
            self._connection = self._opened(patience)
            self._file, self._log = held.identity_of(self.path), held.identity_of(f"{self.path}-wal")
            self.openings += 1
        self._connection.execute(f"PRAGMA busy_timeout = {int(1000 * patience)}")
        return self._connection

    def _opened(self, patience: float) -> sqlite3.Connection:
        # Only if it is not there: closing any descriptor of a database drops the locks that this process has on it.
        if held.identity_of(self.path) is None:
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
        hold = held.Hold(self.path)
        connection = _open(self.path, patience)
        self._held = hold
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
            self._held = None

    @contextmanager
    def _alone(self, patience: float) -> Iterator[None]:
        """Hold the advisory lock beside the record, so that writers take turns and checkpoints can finish."""
        lock = _locks.setdefault((os.getpid(), self.path), allocate_lock())
        if not lock.acquire(timeout=patience):
            raise TimeoutError(errno.EBUSY, "locked by another thread")
        try:
            descriptor = os.open(f"{self.path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._lacks_locks = not _wait_for(descriptor, patience)
                yield
            finally:
                os.close(descriptor)
        finally:
            lock.release()


_left_open: list[sqlite3.Connection] = []


def _wait_for(descriptor: int, patience: float) -> bool:
    """Take the lock, or go on without when that takes too long. False when the file system has none."""
    if fcntl is None:
        return True
    start = now = time.monotonic()
    while now - start < patience:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                return False
            time.sleep(random() * _LONGEST_NAP * max(0.05, 1 - (now - start) / _OLD_SECONDS))
            now = time.monotonic()
        else:
            break
    return True


def _was_ours(path: str) -> bool:
    """Whether a file that is no sound database has been a record: it has a record's stamp, or the zeros that a crash of the
    system leaves of a file's beginning."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            header = file.read(_HEADER_BYTES)
    except OSError:
        return False
    return bool(header) and (header[_APPLICATION_ID] == tables.APPLICATION_ID.to_bytes(4, "big") or not any(header))


def _open(path: str, patience: float) -> sqlite3.Connection:
    _make_log_writable(path)
    connection = sqlite3.connect(path, timeout=patience, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_log_writable(path: str) -> None:
    """While the record was read-only, SQLite made its log and the log's index so, too; and leaves them so for good."""
    if not os.access(path, os.W_OK):
        return
    for beside in (f"{path}-wal", f"{path}-shm"):
        try:
            if not os.stat(beside).st_mode & stat.S_IWUSR:  # noqa: PTH116
                os.chmod(beside, stat.S_IMODE(os.stat(path).st_mode))  # noqa: PTH101, PTH116
        except OSError:
            pass  # there is none, or it is another user's: SQLite will say what it thinks of it


def _prepare(connection: sqlite3.Connection) -> None:
    application, version = _stamps(connection)
    if application != tables.APPLICATION_ID and (application, version, _is_foreign(connection)) != (0, 0, False):
        raise Refused("it is another program's database: name another file by RETROSPAN_DB")
    if version > tables.SCHEMA_VERSION:
        raise Refused(
            f"it was written by a newer Retrospan (schema {version}, this one writes {tables.SCHEMA_VERSION}):"
            " upgrade retrospan, or name another file by RETROSPAN_DB"
        )
    # Of a new file alone, and before its first page: what is dropped from it can then be given back to the disk.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
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


def _is_foreign(connection: sqlite3.Connection) -> bool:
    """Whether there are tables, and none of a record's."""
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return bool(names) and names.isdisjoint(table.name for table in tables.TABLES)


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
        for statement in tables.fill_ranges():
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {tables.SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
