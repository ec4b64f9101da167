"""A record as its archiving reads it: which record it is, what it has, and its rows as Arrow batches.

    with Source(Path("telemetry.sqlite")) as source:
        source.batches(HTTP_EVENTS, "id > 1000")

Nothing of the record is changed, but that it is given its identity once. ADBC's driver brings a SQLite of its own, and whoever
closes a file drops the locks that the same process has on it by another: so nothing else of this process may have it open.
"""

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from retrospan.archive import schema
from retrospan.opening import LOCKED, UNLOCKED, mode_of, stamp_of, uri_of
from retrospan.record import Record, RecordError, Row, read
from retrospan_exporters import held
from retrospan_exporters.tables import EVENT_TABLES, RECORD_IDENTITY, RUN_INFO, RUN_RANGES, RUN_SUMMARY, Table

Result = TypeVar("Result")

SIDE_TABLES: Final = (RUN_INFO, RUN_SUMMARY, RUN_RANGES)
_BUSY_SECONDS: Final = 4.0
_BATCH_ROWS: Final = "adbc.sqlite.query.batch_rows"
_ROWS: Final = 32_768


@dataclass(frozen=True, slots=True)
class State:
    """What a record had at one moment: the columns and the greatest id of each event table, and the rows of the side tables."""

    columns: dict[str, tuple[str, ...]]
    last_ids: dict[str, int]
    sides: dict[str, list[dict[str, Any]]]


def state_of(db: Path) -> State:
    """The present state of a record. Raises RecordError when it cannot be read."""

    def look(record: Record) -> State:
        present = [table for table in EVENT_TABLES if table.name in record.tables]
        last_ids = {table.name: record.rows(f"SELECT MAX(id) FROM {table.name}")[0][0] or 0 for table in present}
        sides = {table.name: _side_rows(record, table) for table in SIDE_TABLES if table.name in record.tables}
        return State(dict(record.tables), last_ids, sides)

    return read(db, look)


def _side_rows(record: Record, table: Table) -> list[dict[str, Any]]:
    present = record.tables[table.name]
    columns = ", ".join(
        f"CAST({column.name} AS {schema.SQLITE[column.kind]})" if column.name in present else "NULL"
        for column in table.columns
    )
    rows = record.rows(f"SELECT {columns} FROM {table.name} WHERE typeof(run_id) = 'text'")
    return [dict(zip(table.names(), row, strict=True)) for row in rows]


def identity_of(db: Path) -> str | None:
    """Which record this is, by what it was given; None when it has been given nothing yet."""

    def look(record: Record) -> str | None:
        if not record.exists(f"SELECT 1 FROM sqlite_master WHERE name = '{RECORD_IDENTITY.name}'"):
            return None
        rows = record.rows(f"SELECT record_id FROM {RECORD_IDENTITY.name} LIMIT 1")
        return str(rows[0][0]) if rows else None

    return read(db, look)


def identify(db: Path) -> str:
    """Which record this is; it is given an identity when it has none. Raises RecordError when it cannot be written."""
    known = identity_of(db)
    if known is not None:
        return known
    hold = held.Hold(db)
    try:
        with closing(sqlite3.connect(db, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(RECORD_IDENTITY.ddl())
            connection.execute(
                f"INSERT INTO {RECORD_IDENTITY.name} SELECT ? WHERE NOT EXISTS (SELECT 1 FROM {RECORD_IDENTITY.name})",
                (secrets.token_hex(8),),
            )
            (given,) = connection.execute(f"SELECT record_id FROM {RECORD_IDENTITY.name}").fetchone()
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise RecordError(
            f"{db}: cannot be given its identity, by which its archive knows it: {error}: let this user write it once, or"
            " archive a copy that `retrospan merge` makes"
        ) from error
    finally:
        hold.let_go()
    return str(given)


class Source:
    """The rows of a record, through ADBC."""

    def __init__(self, db: Path, *, locked: bool = True) -> None:
        """Open it; not `locked`, a record that nobody has open is read without locks, which would leave files behind.

        Raises RecordError when it cannot be, or when this process has it open already.
        """
        if held.is_held(db):
            raise RecordError(f"{db}: this very process writes it: archive it from another")
        # Not by their DB-API, which imports pandas and Polars where they are.
        try:
            import adbc_driver_manager as adbc
            import adbc_driver_sqlite as driver
        except ImportError as error:
            raise RecordError("archives need an extra: pip install 'retrospan[parquet]'") from error
        self._db = db
        self._adbc = adbc
        self.trouble: RecordError | None = None
        mode = UNLOCKED if mode_of(db) == UNLOCKED and not locked else LOCKED
        self._unlocked = db if mode == UNLOCKED else None
        self._stamp = stamp_of(self._unlocked)
        try:
            self._database = driver.connect(uri_of(db, mode))
            self._connection = adbc.AdbcConnection(self._database)
            self.one(f"PRAGMA busy_timeout = {int(1000 * _BUSY_SECONDS)}")
        except adbc.Error as error:
            raise RecordError(f"{db}: cannot be opened: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._database.close()

    def one(self, sql: str) -> Row | None:
        """The first row of a SELECT. Raises RecordError when it cannot be had."""
        for batch in self._batches(sql):
            if batch.num_rows:
                return tuple(column[0].as_py() for column in batch.columns)
        return None

    def batches(self, table: Table, present: tuple[str, ...], condition: str) -> Iterator[Any]:
        """The sound rows of a table that meet a condition, as Arrow record batches; the first may be of no row.

        Raises RecordError when they cannot be had.
        """
        first = True
        for batch in self._batches(schema.select(table, present, condition)):
            yield _readable(batch.slice(1) if first else batch)
            first = False

    def _batches(self, sql: str) -> Iterator[Any]:
        import pyarrow as pa

        try:
            with self._adbc.AdbcStatement(self._connection) as statement:
                statement.set_options(**{_BATCH_ROWS: str(_ROWS)})
                statement.set_sql_query(sql)
                stream, _ = statement.execute_query()
                with pa.RecordBatchReader.from_stream(stream) as batches:
                    yield from batches
        except (self._adbc.Error, pa.ArrowException, OSError) as error:
            # Whoever takes the batches through C is told that it failed, not of what.
            self.trouble = RecordError(f"{self._db}: cannot be read: {str(error).splitlines()[0]}")
            raise self.trouble from error

    def undisturbed(self) -> bool:
        """Whether all that was read is of one state; only where no lock was taken can it be otherwise."""
        return self._stamp == stamp_of(self._unlocked)


def reading(db: Path, work: Callable[[Source], Result]) -> Result:
    """What `work` makes of one state of the record; done again, under SQLite's locks, should a writer come meanwhile.

    Raises RecordError as the opening and `work` do.
    """
    before = stamp_of(db)
    try:
        opened = Source(db, locked=False)
    except RecordError:
        if stamp_of(db) == before:
            raise
        opened = Source(db)  # its writers came while it was opened
    with opened as source:
        try:
            result = work(source)
        except Exception as error:
            if source.undisturbed():
                raise source.trouble or error from error
        else:
            if source.undisturbed():
                return result
    with Source(db) as source:
        try:
            return work(source)
        except Exception as error:
            raise source.trouble or error from error


def _readable(batch: Any) -> Any:
    """The batch with text that is text: another program may have written octets that are none."""
    import pyarrow as pa

    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:
        columns = [
            pa.array(
                [
                    None if octets is None else octets.decode(errors="replace")
                    for octets in column.cast("binary").to_pylist()
                ]
            )
            if pa.types.is_string(column.type)
            else column
            for column in batch.columns
        ]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)
    return batch
