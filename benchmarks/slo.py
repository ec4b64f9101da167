"""How long the gate takes: eight objectives on a run of a million rows, and the command as a process.

    make bench-slo

The record is made anew in a temporary folder: artifacts of which some fail and some are slow, so that objectives fail
and offenders are looked for. Times are medians of several rounds, in seconds, beside what each may take; large records are read
on two connections, so the clock's time may be less than the processors'.
"""

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from retrospan.slo.definitions import DEFAULTS, SLO
from retrospan.slo.gate import judge_run
from retrospan_exporters import tables

RUN = "01K9Z3NDEKTS"
ROWS_AN_ARTIFACT = 10
TWO = ("yield", "http_429")
# Thresholds that this record meets.
MET = {
    "yield": Fraction(1, 2),
    "http_429": Fraction(1, 2),
    "ttfp_p50": Fraction(9000),
    "cache_hit": Fraction(1, 10),
    "rate_delay_p95": Fraction(900),
}

# Ten rows an artifact: six sends, two grants, one attempt and one download; one artifact in five is not stored.
FILL = """
CREATE TEMP TABLE numbers AS WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :artifacts)
SELECT i, 1760000000.0 + i * 0.05 AS ts, 'host' || (i % 40) || '.example' AS host, '10.1234/' || i AS artifact,
    randomblob(16) AS trace FROM n;
INSERT INTO http_events (run_id, ts, host, role, method, status, url_hash, from_cache, revalidated, stale, retry_count,
    rate_delay_ms, breaker_state, elapsed_ms, trace_id, span_id, wire, hop_last)
SELECT :run, ts + k * 0.001, host, CASE WHEN k < 3 THEN 'metadata' ELSE 'artifact' END, 'GET',
    CASE WHEN (i + k) % :one_429_in = 0 THEN 429 ELSE 200 END, hex(randomblob(8)), (i + k) % 3 = 0, 0, 0, 0,
    CASE WHEN k < 3 THEN i % 300 END, 'closed', 40, trace, randomblob(8), (i + k) % 3 <> 0, 1
FROM numbers, (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5);
INSERT INTO rate_events (run_id, ts, host, role, action, delay_ms, trace_id, span_id, weight)
SELECT :run, ts, host, 'metadata', 'acquire', 0, trace, randomblob(8), 1
FROM numbers, (SELECT 0 AS k UNION ALL SELECT 1);
INSERT INTO fallback_attempts (run_id, ts, artifact_id, tier, source, host, outcome, elapsed_ms, trace_id, span_id)
SELECT :run, ts, artifact, 'direct', 'source' || (i % 7), host, CASE WHEN i % 5 = 0 THEN 'no_pdf' ELSE 'success' END,
    i % 9000, trace, randomblob(8) FROM numbers;
INSERT INTO downloads (run_id, ts, artifact_id, outcome, source, host, sha256, final_path, content_length, trace_id)
SELECT :run, ts, artifact, CASE WHEN i % 5 = 0 THEN 'failed' ELSE 'stored' END, 'source' || (i % 7), host,
    CASE WHEN i % 5 <> 0 THEN hex(randomblob(32)) END, CASE WHEN i % 5 <> 0 THEN 'pdf/' || i END,
    CASE WHEN i % 5 <> 0 THEN 1000 END, trace FROM numbers;
"""


def make(path: Path, rows: int) -> None:
    """A closed record of one run with about so many rows, of which 429, yield and p50 fail."""
    values = {"artifacts": str(rows // ROWS_AN_ARTIFACT), "run": f"'{RUN}'", "one_429_in": "40"}
    script = FILL
    for name, value in values.items():
        script = script.replace(f":{name}", value)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(tables.ddl() + script)
        layers = "http,cache,retry,limiter,breaker,fallback,download"
        connection.execute("INSERT INTO run_info (run_id, started_at, layers) VALUES (?, 1760000000, ?)", (RUN, layers))
        for table in tables.EVENT_TABLES:
            connection.execute(
                f"INSERT INTO run_ranges SELECT ?, ?, MIN(id), MAX(id) FROM {table.name} HAVING COUNT(*)",
                (RUN, table.name),
            )
        connection.commit()


def missing(names: Sequence[str]) -> list[SLO]:
    """The default objectives, of which only these are missed."""
    return [
        slo if name in names else replace(slo, threshold=MET.get(name, slo.threshold)) for name, slo in DEFAULTS.items()
    ]


def command(*arguments: str) -> None:
    """Run `retrospan` as a process of its own."""
    subprocess.run(
        [sys.executable, "-m", "retrospan", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=60,
    )


def timed(work: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Medians of the wall clock's time and of the processors', in seconds; on a busy machine they differ."""
    clock, processors = [], []
    for _ in range(rounds):
        start, before = time.perf_counter(), os.times()
        work()
        clock.append(time.perf_counter() - start)
        processors.append(sum(os.times()[:4]) - sum(before[:4]))
    return statistics.median(clock), statistics.median(processors)


def main() -> None:
    """Print a line a measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large.sqlite"), Path(folder, "small.sqlite")
        make(large, given.rows)
        make(small, 100_000)
        measured = [
            (f"eight SLIs on {given.rows} rows, none missed", 1.0, lambda: judge_run(large, slos=missing(()))),
            (f"eight SLIs on {given.rows} rows, two missed", 1.0, lambda: judge_run(large, slos=missing(TWO))),
            ("retrospan slo on 100000 rows, as a process", 0.5, lambda: command("slo", "--db", os.fspath(small))),
            ("retrospan slo --help, as a process", 0.2, lambda: command("slo", "--help")),
        ]
        for what, budget, work in measured:
            clock, processors = timed(work, given.rounds)
            print(f"{what:45} {clock:6.3f} s   of {budget} s; {processors:6.3f} s on processors")


if __name__ == "__main__":
    main()
