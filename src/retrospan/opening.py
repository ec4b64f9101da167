"""How SQLite is asked to open a record's file, so that nothing is left beside it.

    mode = mode_of(Path("telemetry.sqlite"))        # by what stands beside the file
    sqlite3.connect(uri_of(file, mode), uri=True)

And how a change of the file is noticed: by its stamps.
"""

import os
from pathlib import Path
from typing import Final

from retrospan_exporters import held
from retrospan_exporters.settings import DB

_MAGIC: Final = b"SQLite format 3\x00"
# Byte 19 of the header is what a reader must be able to do: 2 for a write-ahead log.
_READ_VERSION: Final = 19
_WAL: Final = 2
# What is asked of SQLite, by what stands beside the file. A plain read-only opening of a closed record in WAL mode would
# leave its -wal and -shm behind; a -wal without -shm (a copy) needs no -shm when its index may live on the heap.
LOCKED: Final = "mode=ro"
UNLOCKED: Final = "immutable=1"
HEAP_INDEX: Final = "mode=ro&vfs=unix-none"
_ADVICE: Final = f"give the record's path with --db or {DB}"


class RecordError(Exception):
    """A record that cannot be read, or a run that is not in it: says what, where and what to do, in one line."""


class NoRecord(RecordError):
    """A file that is no record for this version to read, nor will be one unless another is put in its place."""


def uri_of(file: Path, mode: str) -> str:
    """What SQLite opens the file by. Resolved, since SQLite keeps the log beside the file that a link points to."""
    return f"{file.resolve().as_uri()}?{mode}"


def mode_of(file: Path) -> str:
    """How to open a file so that nothing is left behind. Raises RecordError when it is no SQLite database."""
    # No look at the header of one that is held: closing the file would drop the locks that this process has on it.
    if held.is_held(file):
        return LOCKED
    if _header(file)[_READ_VERSION] != _WAL:
        return LOCKED
    log, index = (Path(f"{file.resolve()}{suffix}") for suffix in ("-wal", "-shm"))
    if not log.exists():
        return UNLOCKED
    if os.name == "posix" and not index.exists():
        # An empty one is of a writer that has just come: to end a reading of it would clear it away under the writer.
        return HEAP_INDEX if _size(log) else UNLOCKED
    return LOCKED


def stamp_of_log(file: Path) -> tuple[int, ...] | None:
    """What changes when writers come: of a log that was made anew the inode's number may be the same."""
    try:
        found = Path(f"{file.resolve()}-wal").stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _header(file: Path) -> bytes:
    """The first bytes of a SQLite database. Raises RecordError when the file is none."""
    try:
        if not file.exists():
            raise RecordError(f"{file}: no such file: {_ADVICE}")
        if not file.is_file():
            raise NoRecord(f"{file}: is not a file: {_ADVICE}")
        with file.open("rb") as stream:
            header = stream.read(_READ_VERSION + 1)
    except OSError as error:
        raise RecordError(f"{file}: cannot be read: {error.strerror}") from error
    if len(header) <= _READ_VERSION or not header.startswith(_MAGIC):
        # Zeros are what a crash of the system leaves of a record: its writers put that aside, and begin a new one.
        kind = NoRecord if any(header) else RecordError
        raise kind(f"{file}: is not a SQLite database: {_ADVICE}")
    return header


def stamp_of(file: Path | None) -> tuple[int, ...] | None:
    """What differs between two states of a file that is read without locks; None of none."""
    if file is None:
        return None
    try:
        stat = file.stat()
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
