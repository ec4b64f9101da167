"""Spans as rows, as SQLite gives them back."""

import sqlite3
from collections.abc import Iterable
from typing import Any

from retrospan_exporters import tables
from retrospan_exporters.projection import Projection, insert

TABLES = {table.name: table for table in tables.EVENT_TABLES}
PROCESS = 4711


def rows_of(*spans: Any) -> list[tuple[str, dict[str, Any]]]:
    """(table, row by column) of spans, as SQLite gives them back; the same whether they are made fast or with care."""
    with_care, fast = Projection("RUN").rows(spans, PROCESS), Projection("RUN").batches(spans, PROCESS)
    found = _stored((insert(TABLES[name]), rows) for name, rows in with_care.items())
    assert sorted(map(repr, _stored((insert.text, rows) for insert, rows in fast.items()))) == sorted(map(repr, found))
    return found


def _stored(batches: Iterable[tuple[str, list[Any]]]) -> list[tuple[str, dict[str, Any]]]:
    connection = sqlite3.connect(":memory:")
    connection.executescript(tables.ddl())
    found = []
    for statement, rows in batches:
        connection.executemany(statement, rows)
    for name in TABLES:
        cursor = connection.execute(f"SELECT * FROM {name}")
        columns = [column[0] for column in cursor.description]
        found += [(name, dict(zip(columns, row, strict=True))) for row in cursor]
    connection.close()
    return found


def row_of(span: Any) -> dict[str, Any]:
    ((_, row),) = rows_of(span)
    return row


def known(row: dict[str, Any]) -> dict[str, Any]:
    """What is not NULL, without what every row has."""
    every = {"id", "run_id", "ts", "trace_id", "span_id", "process_id"}
    return {name: value for name, value in row.items() if value is not None and name not in every}
