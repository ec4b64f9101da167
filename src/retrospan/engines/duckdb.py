"""DuckDB over a Parquet archive: what of the files the SLI texts are given, and under which names.

    with Archive.open("archive") as archive:
        archive.rows("SELECT COUNT(*) FROM http_events WHERE status = 429")

Views say what the tables of a record say: moments as seconds, flags as 1 and 0. The days that are asked for decide which files
are opened at all. Memory is bounded by RETROSPAN_ENGINE_MEMORY (2GB unless set); what does not fit goes to a temporary folder.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final, Self

from retrospan.archive import schema
from retrospan.archive.places import OWN, Place, place_of
from retrospan.engines.scanning import Scanning
from retrospan.record import RecordError, Row
from retrospan_exporters.tables import EVENT_TABLES, RUN_INFO, RUN_SUMMARY, TABLES, Table

MEMORY: Final = "RETROSPAN_ENGINE_MEMORY"
_DEFAULT_MEMORY: Final = "2GB"
_SCHEMA: Final = "archived"
# Beside the columns of a record, for conditions alone: what the files can be chosen by.
_DAY, _MOMENT = "archived_day", "archived_moment"
# Where one run wrote into several records, each says something of it.
_OF_SEVERAL: Final = {
    RUN_INFO: {"started_at": "MIN({})", "layers": "string_agg({}, ',')", "dropped_rows": "CAST(SUM({}) AS BIGINT)"},
    RUN_SUMMARY: {"started_at": "MIN({})", "finished_at": "MAX({})"},
}


class Archive(Scanning):
    """One open archive: the files that it had when it was opened."""

    _text = "decode(unhex('{}'))"

    def __init__(self, connection: Any, place: Place) -> None:
        self.name = place.name
        self.tables = {table.name: table.names() for table in TABLES}
        self._connection = connection
        self._kept: list[str] = []
        connection.execute(f"CREATE SCHEMA {_SCHEMA}")
        found = {table: [place.address(name) for name in _parquet(place, table)] for table in TABLES}
        if not any(found.values()):
            raise RecordError(f"{place.name}: is no archive: it has none of its files; `retrospan parquet` makes one")
        for table, files in found.items():
            connection.execute(f"CREATE VIEW {self.base(table.name)} AS {_select(table, files)}")
        self.bind_where(lambda _: "true")

    @classmethod
    def open(cls, source: str | os.PathLike[str]) -> Self:
        """Open the archive at a path or URL. Raises RecordError when there is none, or it cannot be read."""
        try:
            import duckdb
        except ImportError as error:
            raise RecordError("archives need an extra: pip install 'retrospan[parquet]'") from error
        place = place_of(source)
        stack = ExitStack()
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="retrospan-"))
            connection = stack.enter_context(duckdb.connect(":memory:"))
            connection.execute(f"SET temp_directory = {schema.quoted(folder)}")
            connection.execute("SET enable_progress_bar = false")
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("SET preserve_insertion_order = false")
            # Each text opens the same files again.
            connection.execute("SET parquet_metadata_cache = true")
            _limit(connection)
            place.introduce(connection)
            archive = cls(connection, place)
        except duckdb.Error as error:
            stack.close()
            raise _trouble(place.name, error) from error
        except BaseException:
            stack.close()
            raise
        archive._close = stack.close
        return archive

    def rows(self, sql: str) -> list[Row]:
        """All rows of one SELECT. Raises RecordError when DuckDB cannot give them."""
        import duckdb

        try:
            rows: list[Row] = self._connection.execute(sql).fetchall()
            return rows
        except duckdb.Error as error:
            raise _trouble(self.name, error) from error

    def columns(self, select: str) -> list[str]:
        """The names of a SELECT's columns."""
        return [str(row[0]) for row in self.rows(f"DESCRIBE {select}")]

    def bind_where(self, condition: Callable[[str], str]) -> None:
        """Let each event table's name mean its rows that meet a condition."""
        while self._kept:
            self.rows(f"DROP TABLE {self._kept.pop()}")
        for table in EVENT_TABLES:
            columns = ", ".join(table.names())
            self.rows(
                f"CREATE OR REPLACE TEMP VIEW {table.name} AS SELECT {columns} FROM {self.base(table.name)}"
                f" WHERE {condition(table.name)}"
            )

    def keep(self, select: str) -> str:
        """The name of a table that holds the rows of a SELECT."""
        name = f"kept_{len(self._kept)}"
        self.rows(f"CREATE TEMP TABLE {name} AS {select}")
        self._kept.append(name)
        return name

    def base(self, table: str) -> str:
        """The name of the view of all rows of a table."""
        return f"{_SCHEMA}.{table}"

    def within(self, first: float | None, last: float | None) -> str:
        """The condition on `ts`, and what follows from it of the files' days and of their statistics."""
        parts = []
        for bound, sign, day_sign in ((first, ">=", ">="), (last, "<", "<=")):
            if bound is not None:
                # A microsecond on the safe side; what decides is the first.
                moment = schema.microseconds(bound) + (-1 if sign == ">=" else 1)
                day = datetime.fromtimestamp(max(0.0, moment / 1e6), UTC).date().isoformat()
                parts += [
                    f"ts {sign} {bound!r}",
                    f"{_MOMENT} {sign} make_timestamptz({moment})",
                    f"{_DAY} {day_sign} DATE '{day}'",
                ]
        return " AND ".join(parts) or "true"

    def floor(self, number: str) -> str:
        """DuckDB's CAST would round."""
        return f"CAST(FLOOR({number}) AS BIGINT)"


def _parquet(place: Place, table: Table) -> list[str]:
    return [name for name in place.names(f"table={table.name}") if name.endswith(".parquet") and OWN not in name]


def _select(table: Table, files: list[str]) -> str:
    """A SELECT of all rows of a table's files, as a record has them."""
    if not files:
        columns = ", ".join(f"CAST(NULL AS {_type(column.kind)}) AS {column.name}" for column in table.columns)
        return f"SELECT {columns}, CAST(NULL AS DATE) AS {_DAY}, CAST(NULL AS TIMESTAMPTZ) AS {_MOMENT} WHERE false"
    source = f"read_parquet([{', '.join(map(schema.quoted, files))}], hive_partitioning = true, hive_types = {{'date': DATE}})"
    if table in _OF_SEVERAL:
        ways = _OF_SEVERAL[table]
        columns = ", ".join(
            "run_id" if name == "run_id" else f"{ways.get(name, 'any_value({})').format(name)} AS {name}"
            for name in table.names()
        )
        return f"SELECT {columns} FROM (SELECT {schema.seen(table)} FROM {source}) GROUP BY run_id"
    moment = next((column.name for column in table.columns if column.moment), None)
    return f"SELECT {schema.seen(table)}, date AS {_DAY}, {moment or 'NULL'} AS {_MOMENT} FROM {source}"


def _type(kind: str) -> str:
    return {"real": "DOUBLE", "text": "VARCHAR", "blob": "BLOB"}.get(kind, "BIGINT")


def _limit(connection: Any) -> None:
    import duckdb

    memory = os.environ.get(MEMORY) or _DEFAULT_MEMORY
    try:
        connection.execute(f"SET memory_limit = {schema.quoted(memory)}")
    except duckdb.Error as error:
        raise RecordError(f"{MEMORY}={memory!r} is no amount of memory: say 500MB or 4GB") from error


def _trouble(name: str, error: Exception) -> RecordError:
    return RecordError(f"{name}: the archive cannot be read: {str(error).splitlines()[0]}")
