"""The queries of a definition file, run: under an authorizer, within their time, and held to the contract of their rows.

    events = gather(record, slo.sli, {"run_id": "01K9Z3NDEKTS", "date_from": None, "date_to": None})
    record.rows(f"SELECT host, COUNT(*) FROM ({events.text}) WHERE value < 1 GROUP BY host")

A query is a SELECT over the record's tables, which are bound to the run. Each row is one event:

| column      | what it must hold                                                                              |
|-------------|------------------------------------------------------------------------------------------------|
| `timestamp` | seconds since 1970                                                                               |
| `value`     | a number, or NULL when unknown; may be left out of good, bad and total                           |
| `weight`    | may be left out; how many events the row stands for, more than 0                                 |
| any other   | a dimension that explains who burned the budget, but for ids, of which each event has its own   |

It may use `:run_id`, `:date_from` and `:date_to`. Nothing but reading and the functions listed here is allowed. Its rows
are copied into a temporary table, so that it is run once and what follows deals with rows that keep the contract.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Final

from retrospan.record import Record, RecordError, Row
from retrospan.slo.definitions import SLI, Query
from retrospan.text import printable

IDS: Final = frozenset({"id", "run_id", "work_id", "artifact_id", "trace_id", "span_id"})
_FUNCTIONS: Final = (
    "abs avg ceil ceiling coalesce concat count cume_dist date datetime dense_rank exp first_value floor glob"
    " group_concat hex ifnull iif instr json json_array_length json_each json_extract json_tree json_type json_valid"
    " julianday lag last_value lead length like likelihood likely ln log log10 log2 lower ltrim max min mod nth_value"
    " ntile nullif percent_rank pow power rank replace round row_number rtrim sign sqrt strftime string_agg substr"
    " substring sum time timediff total trim trunc typeof unicode unixepoch unlikely upper -> ->>"
)
FUNCTIONS: Final = frozenset(_FUNCTIONS.split())

_PLACE: Final = {"timestamp", "value", "weight"}
_LIMITS: Final = {sqlite3.SQLITE_LIMIT_LENGTH: 1_000_000, sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100}
# Steps of SQLite's machine between two looks at the clock, and rows between two copies: about a millisecond each.
_STEPS: Final = 10_000
_ROWS: Final = 1_000
_NO_SELECT: Final = "anything but one SELECT"
_IS_A_VIEW: Final = "because it is a view"
_numbers: Final = count(1)


class QueryError(RecordError):
    """A query that may not run, cannot, takes too long, or breaks the contract: what is `said`, and of which `query`."""

    def __init__(self, query: Query, said: str) -> None:
        """The message names the file and line as well."""
        self.query = query
        self.said = said
        super().__init__(f"{query.file}:{query.line}:{query.column}: {query.path}: {said}")


@dataclass(frozen=True, slots=True)
class Events:
    """The events of an indicator that a file defines: a SELECT of them, and what may group them.

    `columns` are those of the SELECT: timestamp, value, perhaps weight, ids, and the `dimensions`.
    """

    text: str
    columns: tuple[str, ...]
    dimensions: tuple[str, ...]

    @property
    def weighted(self) -> bool:
        """Whether a row may stand for more than one event, or for less."""
        return "weight" in self.columns


def gather(record: Record, sli: SLI, bounds: Mapping[str, object]) -> Events:
    """Run the queries of an indicator. Raises QueryError; `bounds` has `run_id`, `date_from` and `date_to`."""
    copies = {query.role: (query, *copied(record, query, bounds)) for query in sli.queries}
    if "events" in copies:
        _, name, columns = copies["events"]
        return _events(f"SELECT {', '.join(map(_quoted, columns))} FROM temp.{name}", columns)
    columns = _shared([columns for _, _, columns in copies.values()])
    by = ", ".join(map(_quoted, columns))
    query, part, _ = copies["good"] if "good" in copies else copies["bad"]
    whole = copies["total"][1]
    # The rest are the rows of the total, each as often as the part lacks it.
    numbered = f"SELECT {by}, ROW_NUMBER() OVER (PARTITION BY {by}) AS nth FROM temp."
    rest = f"SELECT {by} FROM ({numbered}{whole} EXCEPT {numbered}{part})"
    strangers = record.rows(f"SELECT COUNT(*) FROM ({numbered}{part} EXCEPT {numbered}{whole})")[0][0]
    if strangers:
        raise QueryError(
            query, f"{strangers} of its rows are not among those of total, compared by {', '.join(columns)}"
        )
    return _events(
        f"SELECT {by}, 1 AS value FROM temp.{part} UNION ALL SELECT {by}, 0 AS value FROM ({rest})",
        (*columns, "value"),
    )


def _events(text: str, columns: Sequence[str]) -> Events:
    return Events(text, tuple(columns), tuple(name for name in columns if name not in _PLACE | IDS))


def _shared(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    first, *rest = parts
    return tuple(name for name in first if name != "value" and all(name in other for other in rest))


def copied(record: Record, query: Query, bounds: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
    """Run one query into a temporary table; the table's name and columns. Raises QueryError."""
    name = f"retrospan_events_{next(_numbers)}"
    connection = record.connection
    with _guarded(connection, query) as select:
        cursor = select(bounds)
        columns = _columns(query, [description[0] for description in cursor.description or ()])
        named = ", ".join(map(_quoted, columns))
        connection.execute(f"CREATE TEMP TABLE {name} ({named})")
        insert = f"INSERT INTO temp.{name} VALUES ({', '.join('?' * len(columns))})"
        check = _Check(query, columns)
        while rows := cursor.fetchmany(_ROWS):
            connection.executemany(insert, check.known(rows))
    return name, columns


@contextmanager
def _guarded(
    connection: sqlite3.Connection, query: Query
) -> Iterator[Callable[[Mapping[str, object]], sqlite3.Cursor]]:
    """What starts the query under the authorizer; its rows may be taken until the block, or its time, is over.

    SQLite asks the authorizer while it prepares a statement, so it is gone before a row is copied.
    """
    refused: list[str] = []
    deadline = time.monotonic() + query.seconds

    def authorize(action: int, first: str | None, second: str | None, database: str | None, source: str | None) -> int:
        said = _refusal(action, first, second)
        if said is None:
            return sqlite3.SQLITE_OK
        refused.append(said)
        return sqlite3.SQLITE_DENY

    def select(bounds: Mapping[str, object]) -> sqlite3.Cursor:
        try:
            connection.set_authorizer(authorize)
            return connection.execute(query.sql, dict(bounds))
        finally:
            connection.set_authorizer(None)

    limits = {limit: connection.setlimit(limit, most) for limit, most in _LIMITS.items()}
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    try:
        yield select
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        raise QueryError(query, _said(error, refused, query, late=time.monotonic() > deadline)) from error
    finally:
        connection.set_progress_handler(None, 0)
        for limit, most in limits.items():
            connection.setlimit(limit, most)


def _refusal(action: int, first: str | None, second: str | None) -> str | None:
    """Why SQLite may not do something; None when it may. What `first` and `second` name depends on the action."""
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE):
        return None
    if action == sqlite3.SQLITE_READ:
        return f"table {first}" if (first or "").lower().startswith("sqlite_") else None
    if action == sqlite3.SQLITE_FUNCTION:
        return None if (second or "").lower() in FUNCTIONS else f"function {second}"
    return _NO_SELECT


def _said(error: Exception, refused: Sequence[str], query: Query, *, late: bool) -> str:
    if late:
        return f"took longer than {query.seconds} s: make it cheaper, or give it a longer timeout"
    if not refused and str(error).endswith(_IS_A_VIEW):
        refused = (_NO_SELECT,)  # the tables' names are views, which SQLite refuses to write before it asks
    if refused:
        return f"not allowed: {printable(refused[0])}"
    # What SQLite says of a statement quotes the statement, never a row.
    return printable(str(error), 200)


def _columns(query: Query, names: Sequence[str]) -> tuple[str, ...]:
    columns = tuple(name.lower() for name in names)
    needed = ("timestamp", "value") if query.role == "events" else ("timestamp",)
    for name in needed:
        if name not in columns:
            had = ", ".join(map(printable, names)) or "none"
            raise QueryError(query, f"lacks the column {name}: its columns are {had}")
    for name in columns:
        if columns.count(name) > 1:
            raise QueryError(query, f"has the column {printable(name)} more than once")
    return columns


class _Check:
    """The contract of a query's rows."""

    def __init__(self, query: Query, columns: Sequence[str]) -> None:
        self._query = query
        self._columns = columns
        self._rules = [_RULES.get(name, _is_id if name in IDS else _is_dimension) for name in columns]
        # A row of good or bad events is counted, so a value of 0 in it says the contrary of what it does.
        self._counted = columns.index("value") if query.role != "events" and "value" in columns else None
        self._row = 0

    def known(self, rows: Sequence[Row]) -> list[Row]:
        """The rows, without those of unknown value where rows are counted."""
        for row in rows:
            self._row += 1
            for name, rule, value in zip(self._columns, self._rules, row, strict=True):
                if said := rule(value):
                    raise QueryError(self._query, f"row {self._row}, column {printable(name)}: {said}")
        if self._counted is None:
            return list(rows)
        if self._query.role != "total" and any(row[self._counted] == 0 for row in rows):
            raise QueryError(self._query, "column value: 0, although all its rows are counted: leave such rows out")
        return [row for row in rows if row[self._counted] is not None]


def _is_moment(value: object) -> str | None:
    if isinstance(value, (int, float)) and math.isfinite(value):
        return None
    return f"{_kind(value)} instead of seconds since 1970"


def _is_value(value: object) -> str | None:
    if value is None or (isinstance(value, (int, float)) and math.isfinite(value)):
        return None
    return f"{_kind(value)} instead of a number or NULL"


def _is_weight(value: object) -> str | None:
    if isinstance(value, (int, float)) and 0 < value < math.inf:
        return None
    return f"{_kind(value)} instead of a number above 0"


def _is_dimension(value: object) -> str | None:
    return "a blob, which tells nobody anything" if isinstance(value, bytes) else None


def _is_id(value: object) -> str | None:
    return None  # the tables hold those of spans as blobs


def _kind(value: object) -> str:
    return {type(None): "NULL", str: "text", bytes: "a blob"}.get(type(value), "a number out of range")


_RULES: Final[dict[str, Callable[[object], str | None]]] = {
    "timestamp": _is_moment,
    "value": _is_value,
    "weight": _is_weight,
}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
