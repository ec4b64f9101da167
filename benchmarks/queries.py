"""What questions cost: of a run of a million rows, and of a small run among two thousand.

    make bench-queries

CPU time in ms, medians of five, on a record that was just opened; the machine is named in the output. `trace` is the look-up
that shows one artifact's requests: without the index of `retrospan optimize`, and with it. What the index costs stands below.
"""

import argparse
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from retrospan.optimizing import OF_TRACE, optimize
from retrospan.record import Record
from retrospan.runs import find, runs
from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.measure import Measure
from retrospan.slo.windows import Scope
from retrospan_exporters import tables
from retrospan_exporters.database import Database

REPEATS: Final = 5
_RANDOM: Final = "abs(random() % {})"
# Of ten rows of a run six are requests, and so on; what a column holds, by the number x of the row.
SHARES: Final[dict[str, tuple[int, dict[str, str]]]] = {
    "http_events": (
        60,
        {
            "host": f"'h' || {_RANDOM.format(40)} || '.example.org'",
            "role": f"CASE {_RANDOM.format(3)} WHEN 0 THEN 'artifact' ELSE 'metadata' END",
            "method": "'GET'",
            "status": f"CASE {_RANDOM.format(100)} WHEN 0 THEN 429 ELSE 200 END",
            "url_hash": "lower(hex(randomblob(8)))",
            "from_cache": _RANDOM.format(2),
            "revalidated": "0",
            "rate_delay_ms": f"CASE {_RANDOM.format(10)} WHEN 0 THEN {_RANDOM.format(400)} ELSE 0 END",
            "breaker_state": "'closed'",
            "elapsed_ms": _RANDOM.format(900),
            "trace_id": "randomblob(16)",
            "span_id": "randomblob(8)",
            "process_id": "4711",
            "wire": "1",
            "hop_last": "1",
        },
    ),
    "rate_events": (
        15,
        {"role": "'metadata'", "action": "'acquire'", "delay_ms": _RANDOM.format(400), "trace_id": "randomblob(16)"},
    ),
    "fallback_attempts": (
        15,
        {
            "artifact_id": "'10.1000/' || (x / 3 * 2)",
            "source": "'unpaywall'",
            "outcome": "CASE x % 3 WHEN 0 THEN 'retryable' ELSE 'success' END",
            "elapsed_ms": _RANDOM.format(900),
            "trace_id": "randomblob(16)",
        },
    ),
    "downloads": (
        10,
        {
            "artifact_id": "'10.1000/' || x",
            "outcome": "'stored'",
            "sha256": "lower(hex(randomblob(32)))",
            "final_path": "'/data/store/10.1000/' || x || '.pdf'",
            "content_length": _RANDOM.format(2_000_000),
            "trace_id": "randomblob(16)",
        },
    ),
}


def fill(path: Path, run_count: int, rows_a_run: int) -> None:
    """A record of so many runs, each with so many rows and its ranges."""
    database = Database(path)
    with database.transaction() as connection:
        for number in range(run_count):
            _fill_run(connection, f"RUN{number:09}", number, rows_a_run)
        for statement in tables.fill_ranges():
            connection.execute(statement)
    database.release()


def _fill_run(connection: sqlite3.Connection, run_id: str, number: int, row_count: int) -> None:
    connection.execute(
        "INSERT INTO run_info (run_id, started_at, layers) VALUES (?, ?, 'http,cache,limiter,breaker,fallback,download')",
        (run_id, 1.7e9 + number * 3600),
    )
    connection.execute("INSERT INTO run_summary (run_id) VALUES (?)", (run_id,))
    for table, (share, columns) in SHARES.items():
        connection.execute(
            f"WITH RECURSIVE n(x) AS (SELECT 0 UNION ALL SELECT x + 1 FROM n LIMIT {row_count * share // 100})"
            f" INSERT INTO {table} (run_id, ts, {', '.join(columns)})"
            f" SELECT ?, 1.7e9 + {number * 3600} + x * 0.001, {', '.join(columns.values())} FROM n",
            (run_id,),
        )


def median_ms(path: Path, ask: Callable[[Record], object]) -> float:
    """What a question costs on a record that was just opened, the opening not counted."""
    times = []
    for _ in range(REPEATS):
        with Record.open(path) as record:
            started = time.process_time()
            ask(record)
            times.append(1000 * (time.process_time() - started))
    return statistics.median(times)


def questions(run_id: str, trace_id: bytes) -> dict[str, Callable[[Record], object]]:
    """What is asked, by its name in the table."""

    def judge(*names: str) -> Callable[[Record], object]:
        def ask(record: Record) -> None:
            measure = Measure(record, Scope.of(find(record, run_id)))
            for name in names:
                measure.sample(DEFAULTS[name])

        return ask

    def look_up(record: Record) -> None:
        record.bind(run_id)
        found = record.connection.execute(f"SELECT * FROM http_events WHERE {OF_TRACE}", {"trace_id": trace_id})
        assert len(found.fetchall()) == 1

    one_by_one = {name: judge(name) for name in DEFAULTS}
    return {"list of runs": runs, **one_by_one, "all eight": judge(*DEFAULTS), "trace": look_up}


def a_trace(path: Path, run_id: str) -> bytes:
    with Record.open(path) as record:
        record.bind(run_id)
        trace_id: bytes = record.rows("SELECT trace_id FROM http_events ORDER BY id DESC LIMIT 1")[0][0]
        return trace_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of a record")
    rows = parser.parse_args().rows
    records = {f"1 run of {rows:,} rows": 1, f"1 of 2,000 runs of {rows // 2000:,} rows": 2_000}
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    )
    columns: list[dict[str, float]] = []
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        for number, run_count in enumerate(records.values()):
            path = Path(folder) / f"{number}.sqlite"
            fill(path, run_count, rows // run_count)
            run_id = f"RUN{run_count // 2:09}"
            asked = questions(run_id, a_trace(path, run_id))
            column = {name: median_ms(path, ask) for name, ask in asked.items()}
            size = path.stat().st_size
            costs.append((size, optimize(path)))
            columns.append(column | {"trace, with the index": median_ms(path, asked["trace"])})
    print(f"{'CPU ms':24}" + "".join(f"{name:>34}" for name in records))
    for name in columns[0]:
        print(f"{name:24}" + "".join(f"{column[name]:34.2f}" for column in columns))
    for name, (size, cost) in zip(records, costs, strict=True):
        print(
            f"the index, {name}: {cost.seconds:.2f} s, {cost.bytes / rows:.1f} bytes a row ({cost.bytes / size:.1%} of it)"
        )


if __name__ == "__main__":
    main()
