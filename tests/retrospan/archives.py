"""Records with something in every column, and archives read by pyarrow alone."""

import random
import re
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from click.testing import CliRunner, Result

from retrospan.cli import cli
from retrospan_exporters import tables

from .records import START, Making

ALL = (*tables.EVENT_TABLES, tables.RUN_INFO, tables.RUN_SUMMARY, tables.RUN_RANGES)
# What columns hold that not any text is right for.
_WORDS: Final[dict[str, tuple[str | None, ...]]] = {
    "host": ("a.example", "b.example", "c.example", None),
    "role": ("metadata", "metadata", "landing", "artifact", None),
    "method": ("GET", "GET", "GET", "HEAD", None),
    "breaker_state": ("closed", "half_open", "open", None),
    "breaker_recorded": ("success", "failure", "none", None),
    "old_state": ("closed", "half_open", "open", None),
    "new_state": ("closed", "half_open", "open", None),
    "scope": ("host", "resolver"),
    "action": ("acquire", "block", "head_skip"),
    "artifact_id": ("10.1/a", "10.1/b", "10.1/c", "10.1/d", "10.1/é", None),
    "sha256": ("a" * 64, "b" * 64, "short", None),
    "final_path": ("pdf/a.pdf", None),
    "error": ("ReadTimeout", None),
}
_OUTCOMES: Final = {
    "fallback_attempts": ("success", "retryable", "nonretryable", "timeout", "skipped", "error", "no_pdf", None),
    "downloads": ("stored", "failed", None),
}
_STATUSES: Final = (200, 200, 200, 304, 404, 429, 503, None)


def fill(record: Making, rng: random.Random, *, run_id: str, rows: int, processes: int = 2, days: int = 3) -> None:
    """Random rows of a run in every event table: any value that a column may hold, some days and processes."""
    began = START + rng.randrange(86_400)
    record.run(
        run_id, started_at=began, layers=",".join(rng.sample(("http", "cache", "limiter", "breaker", "fallback"), 3))
    )
    for _ in range(rows):
        table = rng.choice(tables.EVENT_TABLES)
        ts = int((began + rng.random() * days * 86_400) * 1e6) / 1e6
        values = {
            c.name: _value(table, c, rng) for c in table.inserted() if c.name not in ("run_id", "ts", "process_id")
        }
        record.add(table.name, run_id=run_id, ts=ts, process_id=rng.randrange(1, processes + 1), **values)


def grow(path: Path, rows: int, run_id: str = "MORE", process_id: int = 7, ts: float = START) -> None:
    """More rows, as another process of a run writes them."""
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO http_events (run_id, ts, status, process_id) VALUES (?, ?, 200, ?)",
            [(run_id, ts + number, process_id) for number in range(rows)],
        )
    connection.close()


def _value(table: tables.Table, column: tables.Column, rng: random.Random) -> Any:
    if column.name == "outcome":
        return rng.choice(_OUTCOMES[table.name])
    if column.name in _WORDS:
        return rng.choice(_WORDS[column.name])
    if column.name == "status":
        return rng.choice(_STATUSES)
    if column.name == "trace_id":
        return rng.randbytes(16)
    if column.name == "weight":
        return rng.choice((1.0, 1.0, 4.0))
    if rng.random() < 0.2:
        return None
    return {
        "bool": lambda: rng.randrange(2),
        "integer": lambda: rng.choice((0, 1, 250, 3000, 20_000, rng.randrange(30_000))),
        "real": lambda: rng.choice((1.0, 0.45, rng.random() * 100)),
        "text": lambda: rng.choice(("x", "é", "with 'quotes'")),
        "blob": lambda: rng.randbytes(8),
    }[column.kind]()


def command(*arguments: object) -> Result:
    """Call the command line in this process; whatever it did not foresee is raised here."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def files(archive: Path) -> list[Path]:
    """All Parquet files that a reader of the archive would find."""
    return sorted(archive.rglob("*.parquet"))


def archived(archive: Path, table: tables.Table) -> list[tuple[Any, ...]]:
    """The rows of a table in the archive, as SQLite would have given them, by record and id; read file by file."""
    rows: list[tuple[Any, ...]] = []
    for file in files(archive):
        if f"table={table.name}" not in file.parts:
            continue
        content = pq.ParquetFile(file).read()
        assert tuple(content.column_names) == table.names()
        rows += (tuple(_number(value) for value in row.values()) for row in content.to_pylist())
    return sorted(rows, key=repr)


def recorded(connection: Any, table: tables.Table) -> list[tuple[Any, ...]]:
    """The rows of a table in a record."""
    rows = connection.execute(f"SELECT {', '.join(table.names())} FROM {table.name}").fetchall()
    bools = [column.kind == "bool" for column in table.columns]
    told = (
        tuple(
            bool(value) if is_bool and value is not None else value for value, is_bool in zip(row, bools, strict=True)
        )
        for row in rows
    )
    return sorted(told, key=repr)


def _number(value: Any) -> Any:
    """A moment as seconds: whole microseconds first, as floats of that size would not be exact."""
    if isinstance(value, datetime):
        past = value - datetime(1970, 1, 1, tzinfo=UTC)
        return ((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) / 1e6
    return value


def ids(archive: Path) -> Counter[tuple[str, str, int]]:
    """How often the archive has each row: by table, record, and id."""
    found: Counter[tuple[str, str, int]] = Counter()
    for file in files(archive):
        table = re.search(r"table=(\w+)", str(file))
        assert table is not None
        if table[1] in {event.name for event in tables.EVENT_TABLES}:
            record = file.name.split(".")[-3]
            found.update((table[1], record, number) for number in pq.ParquetFile(file).read(["id"])["id"].to_pylist())
    return found
