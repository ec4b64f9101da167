"""What the files hold, made from the declaration of `tables`: from SQLite's types to Parquet's, and back to the texts' numbers.

| declared      | in Parquet                    | as the SLI texts see it     |
|---------------|-------------------------------|-----------------------------|
| id, integer   | INT64                         | the same                    |
| real          | DOUBLE                        | the same                    |
| a moment      | TIMESTAMP (µs, UTC)           | seconds since 1970          |
| bool          | BOOLEAN                       | 1, 0                        |
| text          | STRING, enums too             | the same                    |
| blob          | BYTE_ARRAY                    | the same                    |

    select(HTTP_EVENTS, present)      # what ADBC asks SQLite for: every column of its declared type
    stored(HTTP_EVENTS)               # what DuckDB makes of that
    seen(HTTP_EVENTS)                 # what the texts are given of the files
"""

import math
from collections.abc import Collection
from typing import Any, Final

from retrospan_exporters.tables import Column, Table

# What makes ADBC take a column for what it is declared as: it goes by the first rows, and these may be NULL, or whole.
_SAMPLE: Final = {"id": "0", "integer": "0", "bool": "0", "real": "0.5", "text": "''", "blob": "x'00'"}
SQLITE: Final = {
    "id": "INTEGER",
    "integer": "INTEGER",
    "bool": "INTEGER",
    "real": "REAL",
    "text": "TEXT",
    "blob": "BLOB",
}
# The year 10000, which no moment of ours reaches.
LAST_MOMENT: Final = 253_402_300_800
# What is no moment is no row of ours. To SQLite any text is greater than any number.
_SOUND: Final = f"run_id IS NOT NULL AND ts >= 0 AND ts < {LAST_MOMENT}"


def kind(column: Column) -> str:
    """The declared kind, a moment apart."""
    return "moment" if column.moment else column.kind


def sample(table: Table) -> str:
    """A SELECT of one row whose values are of the declared types."""
    return "SELECT " + ", ".join(f"{_SAMPLE[column.kind]} AS {column.name}" for column in table.columns)


def select(table: Table, present: Collection[str], condition: str) -> str:
    """A SELECT, for SQLite, of the sample and then of the sound rows that meet a condition, by id."""
    columns = ", ".join(
        f"CAST({column.name} AS {SQLITE[column.kind]})" if column.name in present else "NULL"
        for column in table.columns
    )
    return f"{sample(table)} UNION ALL SELECT {columns} FROM {table.name} WHERE ({condition}) AND {_SOUND}"


def unsound(table: Table, condition: str) -> str:
    """A SELECT, for SQLite, of how many rows that meet a condition belong to no run, or have no time."""
    return f"SELECT COUNT(*) FROM {table.name} WHERE ({condition}) AND ({_SOUND}) IS NOT 1"


def stored(table: Table) -> str:
    """The columns of a file, for DuckDB, from those that SQLite gave."""
    return ", ".join(
        f"{_STORED.get(kind(column), '{}').format(column.name)} AS {column.name}" for column in table.columns
    )


def seen(table: Table) -> str:
    """The columns as the texts expect them, for DuckDB, from those of the files."""
    return ", ".join(
        f"{_SEEN.get(kind(column), '{}').format(column.name)} AS {column.name}" for column in table.columns
    )


# Whole microseconds, which a double holds exactly for another 250 years: a moment that was one comes back as it was.
# Halves go up, here as in `microseconds`.
MICROSECONDS: Final = "CAST(floor({} * 1e6 + 0.5) AS BIGINT)"
_STORED: Final = {"moment": f"make_timestamptz({MICROSECONDS})", "bool": "CAST({} AS BOOLEAN)"}
_SEEN: Final = {"moment": "epoch_us({}) / 1e6", "bool": "CAST({} AS INTEGER)"}


def microseconds(moment: float) -> int:
    """A moment as the archive has it."""
    return math.floor(moment * 1e6 + 0.5)


def settled(column: Column, value: Any) -> Any:
    """A value of SQLite's as the archive gives it back: a moment in whole microseconds."""
    is_moment = column.moment and isinstance(value, (int, float))
    return microseconds(value) / 1e6 if is_moment else value


def quoted(text: str) -> str:
    """Text as DuckDB's SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
