"""What archiving costs, and what long questions to an archive cost: export, prune, and the eight SLIs on DuckDB.

    make bench-archive
    make bench-archive ROWS="--archive-rows 100000000"

Each command is a process of its own: seconds by the clock and of CPU, and the most memory that it held. The record is as hooks
make it, eight rows a trace. An archive is made by DuckDB alone, since a record of that size would take an hour to write; with
`--folder` it is kept, and used again.
"""

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from retrospan.archive import schema
from retrospan_exporters import tables
from retrospan_exporters.database import Database

RUN: Final = "RUN000000001"
START: Final = 1_760_000_000
_DAY: Final = 86_400
# How long a day's rows take, so that none is of the next.
_SPAN: Final = 50_000
# Rows a file, as an export of a day that is busy leaves them.
_FILE: Final = 5_000_000
_CHANCE: Final = "(hash(i * 31 + {}) % {})"
_TABLES: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "http_events": (
        60,
        {
            "host": "'api' || C(1,40) || '.example.org'",
            "role": "CASE C(2,3) WHEN 0 THEN 'artifact' ELSE 'metadata' END",
            "method": "'GET'",
            "status": "CASE C(3,100) WHEN 0 THEN 429 ELSE 200 END",
            "url_hash": "substr(md5(CAST(i // 3 AS VARCHAR)), 1, 16)",
            "from_cache": "C(4,2)",
            "revalidated": "0",
            "stale": "0",
            "retry_count": "0",
            "rate_delay_ms": "CASE C(5,10) WHEN 0 THEN C(6,400) ELSE 0 END",
            "breaker_state": "'closed'",
            "breaker_recorded": "'success'",
            "elapsed_ms": "C(7,900)",
            "body_bytes": "4711",
            "ttfb_ms": "C(7,900)",
            "wire": "1",
            "hop_last": "1",
        },
    ),
    "rate_events": (
        15,
        {
            "host": "'api' || C(1,40) || '.example.org'",
            "role": "'metadata'",
            "action": "'acquire'",
            "delay_ms": "C(2,400)",
        },
    ),
    "fallback_attempts": (
        15,
        {
            "artifact_id": "'10.1000/' || (i // 3 * 2)",
            "source": "'unpaywall'",
            "host": "'api' || C(1,40) || '.example.org'",
            "outcome": "CASE WHEN i % 3 = 0 THEN 'retryable' ELSE 'success' END",
            "elapsed_ms": "C(2,900)",
        },
    ),
    "downloads": (
        10,
        {
            "artifact_id": "'10.1000/' || i",
            "source": "'unpaywall'",
            "host": "'api' || C(1,40) || '.example.org'",
            "outcome": "'stored'",
            "sha256": "md5(CAST(i AS VARCHAR)) || md5(CAST(i + 1 AS VARCHAR))",
            "final_path": "'/data/store/10.1000/' || i || '.pdf'",
            "content_length": "C(2,2000000)",
            "content_type": "'application/pdf'",
            "dedupe_action": "'none'",
            "elapsed_ms": "C(3,900)",
        },
    ),
}


def columns(table: tables.Table, declared: dict[str, str]) -> dict[str, str]:
    """What each column of a table holds, in DuckDB's words, by the number i of the row."""
    ids = {
        "trace_id": "unhex(md5(CAST(i // 8 AS VARCHAR)))",
        "span_id": "unhex(substr(md5('s' || i), 1, 16))",
        "parent_span_id": "unhex(substr(md5('p' || (i // 8)), 1, 16))",
        "process_id": "4711",
        "weight": "1e0",
    }
    known = {"id": "i + 1", "run_id": f"'{RUN}'", "ts": "moment", **ids, **declared}
    return {name: _spelt(known.get(name, "NULL")) for name in table.names()}


def _spelt(expression: str) -> str:
    while "C(" in expression:
        before, _, rest = expression.partition("C(")
        arguments, _, after = rest.partition(")")
        expression = before + _CHANCE.format(*arguments.split(",")) + after
    return expression


def rows_of(table: tables.Table, first: int, last: int, start: float, seconds: float) -> str:
    """A SELECT of the rows [first, last) of a table, which ended in so many seconds from `start` on."""
    _, declared = _TABLES[table.name]
    told = ", ".join(f"{value} AS {name}" for name, value in columns(table, declared).items())
    moment = f"{start} + floor((i - {first}) * {seconds / max(1, last - first)!r} * 1e6) / 1e6"
    return f"SELECT {told} FROM (SELECT i, {moment} AS moment FROM range({first}, {last}) r(i))"


def shares(rows: int) -> Iterator[tuple[tables.Table, int]]:
    """How many of a record's rows are a table's."""
    for table in tables.EVENT_TABLES:
        if table.name in _TABLES:
            yield table, rows * _TABLES[table.name][0] // 100


def fill_record(path: Path, rows: int) -> None:
    """A record of so many rows, of one run."""
    database = Database(path)
    with duckdb.connect() as source, database.transaction() as connection:
        connection.execute(
            "INSERT INTO run_info (run_id, started_at, layers) VALUES (?, ?, 'http,cache,limiter,breaker,fallback,download')",
            (RUN, START),
        )
        for table, count in shares(rows):
            names = [column.name for column in table.inserted()]
            cursor = source.execute(f"SELECT {', '.join(names)} FROM ({rows_of(table, 0, count, START, _SPAN)})")
            while batch := cursor.fetchmany(50_000):
                connection.executemany(table.insert(), batch)
        for statement in tables.fill_ranges():
            connection.execute(statement)
    database.release()


def fill_archive(place: Path, rows: int, days: int) -> None:
    """An archive of so many rows over so many days, file by file."""
    with duckdb.connect() as connection:
        connection.execute("SET preserve_insertion_order = false")
        for table, count in shares(rows):
            a_day = max(1, count // days)
            for day in range(days):
                for first in range(day * a_day, (day + 1) * a_day, _FILE):
                    last = min(first + _FILE, (day + 1) * a_day)
                    date = time.strftime("%Y-%m-%d", time.gmtime(START + day * _DAY))
                    file = (
                        place / f"table={table.name}" / f"date={date}" / f"{RUN}.4711.bench.{first + 1}-{last}.parquet"
                    )
                    file.parent.mkdir(parents=True, exist_ok=True)
                    select = rows_of(table, first, last, START + day * _DAY, _SPAN)
                    connection.execute(
                        f"COPY (SELECT {schema.stored(table)} FROM ({select})) TO '{file}' (FORMAT parquet, COMPRESSION zstd)"
                    )


@contextmanager
def folder_of(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def measured(*arguments: object, codes: tuple[int, ...] = (0,), **environment: str) -> tuple[float, float, float, str]:
    """Seconds by the clock, of CPU, and MB of memory that the command took; and what it said."""
    with tempfile.TemporaryFile("w+") as said:
        started = time.monotonic()
        process = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "retrospan", *map(str, arguments)],
            {**os.environ, **environment},
            file_actions=[(os.POSIX_SPAWN_DUP2, said.fileno(), 1)],
        )
        _, status, usage = os.wait4(process, 0)
        seconds = time.monotonic() - started
        assert os.waitstatus_to_exitcode(status) in codes, arguments
        said.seek(0)
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, said.read()


def size_of(place: Path) -> int:
    return sum(file.stat().st_size for file in place.rglob("*.parquet"))


def bench_export(folder: Path, rows: int) -> None:
    """One record exported, then pruned."""
    record, archive = folder / f"{rows}.sqlite", folder / f"{rows}-archive"
    fill_record(record, rows)
    seconds, cpu, memory, _ = measured("parquet", "--db", record, "--out", archive)
    before, after = record.stat().st_size, size_of(archive)
    print(
        f"export of {rows:>11,} rows: {seconds:6.1f} s ({cpu:.1f} s CPU), {memory:.0f} MB of memory;"
        f" {before / 1e6:,.0f} MB of SQLite, {after / 1e6:,.0f} MB of Parquet: 1/{before / after:.1f}"
    )
    again = measured("parquet", "--db", record, "--out", archive)
    print(f"  once more, nothing new:   {again[0]:6.1f} s")
    seconds, cpu, memory, _ = measured("prune", "--db", record, "--archive", archive, "--older-than", "1d")
    print(f"  pruned of all of them:    {seconds:6.1f} s ({cpu:.1f} s CPU), {memory:.0f} MB of memory")
    for file in folder.glob(f"{rows}.sqlite*"):
        file.unlink()


def bench_slis(folder: Path, rows: int, days: int, memory: str) -> None:
    """The eight SLIs over an archive: all of it, and its last tenth."""
    archive = folder / f"archive-{rows}"
    if not archive.exists():
        started = time.monotonic()
        fill_archive(archive, rows, days)
        print(f"archive of {rows:,} rows over {days} days made in {time.monotonic() - started:.0f} s")
    print(
        f"  {size_of(archive) / 1e6:,.0f} MB in {len(list(archive.rglob('*.parquet'))):,} files; engine's memory {memory}"
    )
    asked: dict[str, tuple[Any, ...]] = {
        "eight SLIs, all days": ("slo", "--from", archive, "--from", "2000-01-01", "--format", "json"),
        "eight SLIs, last tenth": (
            "slo",
            "--from",
            archive,
            "--from",
            _date(days - max(1, days // 10)),
            "--format",
            "json",
        ),
        "trend of http_429 by week": ("trend", "http_429", "--from", archive, "--to", _date(days), "--by", "week"),
    }
    for name, arguments in asked.items():
        seconds, cpu, held, said = measured(*arguments, codes=(0, 1, 3), RETROSPAN_ENGINE_MEMORY=memory)
        total = f", {json.loads(said)['slos'][3]['total']:,} responses" if said.startswith("{") else ""
        print(f"  {name:26} {seconds:7.1f} s ({cpu:.1f} s CPU), {held:,.0f} MB of memory{total}")


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(START + day * _DAY))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the record")
    parser.add_argument("--large", type=int, default=10_000_000, help="rows of a second one, for its memory; 0: none")
    parser.add_argument(
        "--archive-rows", type=int, default=10_000_000, help="rows of the archive; 100000000 takes 10 minutes"
    )
    parser.add_argument("--days", type=int, default=90, help="days of the archive")
    parser.add_argument("--memory", default="2GB", help="what the engine may take, before it spills to the disk")
    parser.add_argument("--folder", type=Path, help="keep the archive there, and use the one that is there")
    wanted = parser.parse_args()
    cores, load = os.cpu_count(), os.getloadavg()[0]
    print(f"{platform.machine()}, {cores} cores (load {load:.1f}), Python {platform.python_version()},", end=" ")
    print(f"SQLite {sqlite3.sqlite_version}, DuckDB {duckdb.__version__}", flush=True)
    with folder_of(wanted.folder) as folder:
        for rows in filter(None, (wanted.rows, wanted.large)):
            bench_export(folder, rows)
        bench_slis(folder, wanted.archive_rows, wanted.days, wanted.memory)


if __name__ == "__main__":
    main()
