"""Making a new record of rows that are there already: the whole of it, or nothing.

    with building(Path("all.sqlite")) as record:
        record.execute("INSERT INTO http_events …")

It is written beside its place under a name of its own, and takes its place when everything went well. A file that is there is
never touched. Whoever has filled in rows says `fill_ranges` when all are in.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrospan.record import RecordError
from retrospan_exporters import tables


@contextmanager
def building(place: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the new record, in a transaction. Raises RecordError when there is a file, or none can be made."""
    if os.path.lexists(place):
        raise RecordError(f"{place}: is there already: name a new file, or move that one away")
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        os.close(os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise RecordError(f"{place}: cannot be made: {error.strerror}") from error
    try:
        connection = _opened(unfinished)
        try:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        _put(unfinished, place)
    except sqlite3.Error as error:
        raise RecordError(f"{place}: cannot be written: {error}") from error
    except OSError as error:
        raise RecordError(f"{place}: cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def fill_ranges(connection: sqlite3.Connection) -> None:
    """Have `run_ranges` say where the rows of each run are."""
    for statement in tables.fill_ranges():
        connection.execute(statement)


def insert(table: tables.Table) -> str:
    """INSERT with one named parameter for each column but the row's number; a second row of the same key is left out."""
    names = [column.name for column in table.inserted()]
    return f"INSERT OR IGNORE INTO {table.name} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"


def _opened(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    # Until it takes its place nobody else sees it, and what is left of it after a power loss is thrown away.
    connection.execute("PRAGMA journal_mode = MEMORY")
    connection.execute("PRAGMA synchronous = OFF")
    connection.executescript(tables.ddl())
    return connection


def _put(file: Path, place: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if os.path.lexists(place):
        raise RecordError(f"{place}: came to be meanwhile, and is left as it is: name a new file")
    file.rename(place)
