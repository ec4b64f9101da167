"""Opening a record read-only: one consistent snapshot, and one run bound over the tables' names.

    with Record.open("telemetry.sqlite") as record:
        record.bind("01K9Z3NDEKTS")
        record.rows("SELECT COUNT(*) FROM http_events WHERE status = 429")

Nothing is created, changed or left behind. A record that lacks tables or columns, because another tool or an older
version wrote it, is read as if they were there and NULL. How a file is asked for is the business of `opening`, which runs a
record holds, of `runs`; what its rows come to, of `summary` and `slo`.
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from retrospan.opening import (
    HEAP_INDEX,
    LOCKED,
    UNLOCKED,
    NoRecord,
    RecordError,
    mode_of,
    stamp_of,
    stamp_of_log,
    uri_of,
)
from retrospan_exporters import held
from retrospan_exporters.tables import (
    APPLICATION_ID,
    EVENT_TABLES,
    PRUNED_ROWS,
    RUN_INFO,
    RUN_RANGES,
    SCHEMA_VERSION,
    TABLES,
    Table,
)

__all__ = ["Record", "RecordError", "Row", "literal", "read"]

Result = TypeVar("Result")
Row = tuple[Any, ...]

_BUSY_SECONDS: Final = 4.0
_TRIES: Final = 3
_KNOWN: Final = (*TABLES, PRUNED_ROWS)


class Record:
    """One open record, in one read transaction.

    `run_id` and `ts` are what makes a table one of ours: `tables` maps the name of each that is there to its columns.
    """

    sorts: bool = False

    def __init__(self, connection: sqlite3.Connection, name: str, unlocked: Path | None = None) -> None:
        """Read through `connection`; `unlocked` is the file when it is read without locks."""
        self.connection = connection
        self.name = name
        self._unlocked = unlocked
        self._stamp = stamp_of(unlocked)
        self._held: held.Hold | None = None
        self._uncovered: dict[str, list[tuple[int, int]]] = {}
        self._kept: list[str] = []
        self.tables = self._tables()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Open the record at `path` and hold its present state until it is closed.

        Raises RecordError when there is no file, it is not SQLite's, holds no table of a record, was written by a
        newer version, or cannot be read.
        """
        file = Path(path)
        with _looking:
            mode = mode_of(file)
            hold = held.Hold(file) if mode == LOCKED else None
        log = stamp_of_log(file)
        try:
            connection = sqlite3.connect(uri_of(file, mode), uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
        except sqlite3.Error as error:
            raise RecordError(f"{file}: cannot be opened: {error}") from error
        try:
            connection.text_factory = lambda octets: octets.decode(errors="replace")
            if mode == HEAP_INDEX:
                connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
            connection.execute("BEGIN")
            record = cls(connection, str(file), file if mode == UNLOCKED else None)
            if mode == HEAP_INDEX and stamp_of_log(file) != log:
                _leave_open(connection)
                raise RecordError(f"{file}: its writers came and went while it was opened: try again")
            record._held = hold
            record._check()
        except sqlite3.Error as error:
            connection.close()
            raise RecordError(f"{file}: cannot be read: {_why(error)}") from error
        except RecordError:
            if connection not in _left_open:
                connection.close()
            raise
        return record

    def close(self) -> None:
        """Give the snapshot up."""
        self.connection.close()
        self._held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of one SELECT. Raises RecordError, naming the record, when SQLite cannot give them."""
        try:
            return self.connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise RecordError(f"{self.name}: cannot be read: {_why(error)}") from error

    def columns(self, select: str) -> list[str]:
        """The names of a SELECT's columns. Raises RecordError as `rows` does."""
        try:
            return [name for name, *_ in self.connection.execute(f"{select} LIMIT 0").description]
        except sqlite3.Error as error:
            raise RecordError(f"{self.name}: cannot be read: {_why(error)}") from error

    def exists(self, select: str) -> bool:
        """Whether a SELECT has a row."""
        return bool(self.rows(f"SELECT EXISTS ({select})")[0][0])

    def bind(self, run_id: str | None) -> None:
        """Let each event table's name mean the rows of one run (of none: no row), until the next `bind`."""
        self.bind_where(lambda table: "0" if run_id is None else self.where(table, run_id))

    def bind_where(self, condition: Callable[[str], str]) -> None:
        """Let each event table's name mean its rows that meet a condition, until the next `bind`.

        `condition` makes the SQL of it from the table's name, and is asked for tables that are there only.
        """
        self.release()
        for table in EVENT_TABLES:
            self.rows(f"CREATE TEMP VIEW {table.name} AS {self._select(table, condition)}")

    def keep(self, select: str) -> str:
        """The name under which the rows of a SELECT are kept, beside the record, until the next `bind` or `release`."""
        name = f"kept_{len(self._kept)}"
        self.rows(f"CREATE TEMP TABLE {name} AS {select}")
        self._kept.append(name)
        return name

    def release(self) -> None:
        """Let the tables' names mean the tables again, and keep nothing."""
        for table in EVENT_TABLES:
            self.rows(f"DROP VIEW IF EXISTS temp.{table.name}")
        while self._kept:
            self.rows(f"DROP TABLE temp.{self._kept.pop()}")

    def where(self, table: str, run_id: str) -> str:
        """The condition that picks a run's rows of a table: within its range of ids, or anywhere.

        A run without a range, or with rows outside all ranges, is looked for in the whole table.
        """
        condition = f"run_id = {literal(run_id)}"
        ranges = self._ranges("table_name = ? AND run_id = ?", (table, run_id))
        if not ranges or any(
            self.exists(f"SELECT 1 FROM main.{table} WHERE {condition} AND id BETWEEN {first} AND {last}")
            for first, last in self.uncovered(table)
        ):
            return condition
        return f"{condition} AND id BETWEEN {ranges[0][0]} AND {ranges[0][1]}"

    def base(self, table: str) -> str:
        """The name by which a table means all of its rows."""
        return f"main.{table}"

    def within(self, first: float | None, last: float | None) -> str:
        """The condition that picks the rows that ended in [first, last), seconds since 1970; None is open."""
        bounds = [f"ts >= {first!r}"] * (first is not None) + [f"ts < {last!r}"] * (last is not None)
        return " AND ".join(bounds) or "1"

    def floor(self, number: str) -> str:
        """SQLite may lack FLOOR; its CAST cuts off."""
        return f"CAST({number} AS INTEGER)"

    def literal(self, value: str | float | None) -> str:
        """A value as an expression."""
        return literal(value) if isinstance(value, str) else "NULL" if value is None else repr(value)

    def unlisted_runs(self) -> set[str]:
        """The runs of rows that lie outside all ranges."""
        return {
            run_id
            for table in EVENT_TABLES
            if table.name in self.tables
            for first, last in self.uncovered(table.name)
            for (run_id,) in self.rows(
                f"SELECT DISTINCT run_id FROM main.{table.name} WHERE id BETWEEN {first} AND {last}"
            )
            if isinstance(run_id, str)
        }

    def uncovered(self, table: str) -> list[tuple[int, int]]:
        """Spans of ids of a table that are in no run's range: other tools, or versions without ranges, wrote there."""
        if table not in self._uncovered:
            lowest, highest = self.rows(
                f"SELECT (SELECT MIN(id) FROM main.{table}), (SELECT MAX(id) FROM main.{table})"
            )[0]
            self._uncovered[table] = (
                [] if lowest is None else _gaps(self._ranges("table_name = ?", (table,)), lowest, highest)
            )
        return self._uncovered[table]

    def state(self) -> tuple[int, ...]:
        """What differs between two states of a record: the greatest id of each event table, and its size in pages."""
        tables = [table.name for table in EVENT_TABLES if table.name in self.tables]
        ids = ", ".join(f"(SELECT COALESCE(MAX(id), 0) FROM main.{name})" for name in tables) or "0"
        pages = [self.rows(f"PRAGMA main.{name}")[0][0] for name in ("page_count", "freelist_count")]
        return (*self.rows(f"SELECT {ids}")[0], *pages)

    def undisturbed(self) -> bool:
        """Whether what was read since the opening is one state of the record; only a lock-free reading can say no."""
        return self._stamp == stamp_of(self._unlocked)

    def _tables(self) -> dict[str, tuple[str, ...]]:
        columns = {
            table.name: tuple(
                name for (name,) in self.rows(f"SELECT name FROM pragma_table_info('{table.name}', 'main')")
            )
            for table in _KNOWN
        }
        keys = {table.name: {"run_id", "ts", "id"} if table in EVENT_TABLES else {"run_id"} for table in _KNOWN}
        return {name: names for name, names in columns.items() if keys[name] <= set(names)}

    def _check(self) -> None:
        if not any(table.name in self.tables for table in (*EVENT_TABLES, RUN_INFO)):
            # One that is being made has no table yet.
            kind = NoRecord if self.exists("SELECT 1 FROM main.sqlite_master") else RecordError
            raise kind(f"{self.name}: is a SQLite database, but no record: it has none of the record's tables")
        ours = self.rows("PRAGMA application_id")[0][0] == APPLICATION_ID
        version = self.rows("PRAGMA user_version")[0][0]
        if ours and version > SCHEMA_VERSION:
            raise NoRecord(
                f"{self.name}: was written by a newer Retrospan (schema {version}, this one reads up to {SCHEMA_VERSION}):"
                " upgrade retrospan to read it"
            )

    def _ranges(self, condition: str, parameters: Sequence[object]) -> list[tuple[int, int]]:
        if RUN_RANGES.name not in self.tables:
            return []
        sql = f"SELECT first_id, last_id FROM {RUN_RANGES.name} WHERE {condition} ORDER BY first_id"
        # A run id from a command line may hold bytes that are no text: such a run has no range.
        try:
            return [(first, last) for first, last in self.rows(sql, parameters)]
        except UnicodeEncodeError:
            return []

    def _select(self, table: Table, condition: Callable[[str], str]) -> str:
        present = self.tables.get(table.name, ())
        declared = [name if name in present else f"NULL AS {name}" for name in table.names()]
        added = [_quoted(name) for name in present if name not in table.names()]
        columns = ", ".join(declared + added)
        if not present:
            return f"SELECT {columns} WHERE 0"
        return f"SELECT {columns} FROM main.{table.name} WHERE {condition(table.name)}"


def read(path: str | os.PathLike[str], work: Callable[[Record], Result]) -> Result:
    """What `work` makes of one consistent state of the record at `path`.

    A closed record is read without locks, since locks would leave files behind; should a writer come by meanwhile,
    `work` is done again. Raises RecordError as `Record.open` and `work` do.
    """
    for _ in range(_TRIES):
        before = stamp_of(Path(path))
        try:
            opened = Record.open(path)
        except RecordError:
            if stamp_of(Path(path)) == before:
                raise
            continue  # its writers came while it was opened
        with opened as record:
            try:
                result = work(record)
            except RecordError:
                if record.undisturbed():
                    raise
            else:
                if record.undisturbed():
                    return result
    raise RecordError(f"{path}: changed again and again while it was read: try again when its writers are idle")


def _why(error: sqlite3.Error) -> str:
    """What SQLite says and, of a damaged file, what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    is_damage = code == sqlite3.SQLITE_CORRUPT
    return f"{error}: restore a copy, or save what `sqlite3 FILE .recover` still finds" if is_damage else str(error)


def literal(text: str) -> str:
    """Text as an SQL expression that no character in it can leave."""
    return f"CAST(X'{text.encode(errors='surrogateescape').hex()}' AS TEXT)"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _gaps(ranges: list[tuple[int, int]], lowest: int, highest: int) -> list[tuple[int, int]]:
    """What of [lowest, highest] no range covers; the ranges are sorted by their start."""
    gaps = []
    for first, last in ranges:
        if first > lowest:
            gaps.append((lowest, min(first - 1, highest)))
        lowest = max(lowest, last + 1)
    if lowest <= highest:
        gaps.append((lowest, highest))
    return gaps


# Between a look at a file's header and the note that it is held no other thread may look: see `held`.
_looking: Final = threading.Lock()
_left_open: Final[list[sqlite3.Connection]] = []


def _leave_open(connection: sqlite3.Connection) -> None:
    """Never close a connection, not even at the end: that would clear away the log of a writer that came meanwhile."""
    import ctypes

    _left_open.append(connection)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
