"""Records made for the tests, row by row, with no part of the recorder.

with making(path) as record:
    record.run("R1", layers="http")
    record.add("http_events", ts=5.0, status=200)
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrospan_exporters import tables

RUN = "01K9Z3NDEKTS"
START = 1_760_000_000.0
ALL_LAYERS = "http,cache,retry,limiter,breaker,fallback,download"
_TABLES = {table.name: table for table in tables.TABLES}

# What the original downloader made: its columns only, its keys and indices, and no table besides.
LEGACY = """
CREATE TABLE http_events (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, ts REAL, host TEXT, role TEXT, method TEXT,
    status INTEGER, url_hash TEXT, from_cache INTEGER, revalidated INTEGER, stale INTEGER, retry_count INTEGER,
    retry_after_s INTEGER, rate_delay_ms INTEGER, breaker_state TEXT, breaker_recorded TEXT, elapsed_ms INTEGER, error TEXT);
CREATE INDEX idx_http_run ON http_events (run_id);
CREATE TABLE rate_events (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, ts REAL, host TEXT, role TEXT, action TEXT,
    delay_ms INTEGER, max_delay_ms INTEGER);
CREATE TABLE breaker_transitions (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, ts REAL, host TEXT, scope TEXT,
    old_state TEXT, new_state TEXT, reset_timeout_s INTEGER);
CREATE TABLE fallback_attempts (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, ts REAL, work_id TEXT,
    artifact_id TEXT, tier TEXT, source TEXT, host TEXT, outcome TEXT, reason TEXT, status INTEGER, elapsed_ms INTEGER);
CREATE TABLE downloads (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, ts REAL, work_id TEXT, artifact_id TEXT,
    source TEXT, host TEXT, outcome TEXT, sha256 TEXT, final_path TEXT, content_length INTEGER, content_type TEXT,
    dedupe_action TEXT, elapsed_ms INTEGER, reason TEXT);
CREATE TABLE run_summary (run_id TEXT, started_at REAL, finished_at REAL, artifacts_total INTEGER,
    artifacts_success INTEGER, yield_pct REAL, ttfp_p50_ms REAL, ttfp_p95_ms REAL, cache_hit_pct REAL,
    rate_delay_p95_ms REAL, http_429_ratio REAL, breaker_open_events INTEGER, dedupe_saved_mb REAL,
    corruption_count INTEGER);
"""


class Making:
    """A record that is being written."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def run(
        self, run_id: str = RUN, *, started_at: float = START, layers: str | None = ALL_LAYERS, **columns: Any
    ) -> None:
        """The row of `run_info` that a run begins with."""
        self._insert("run_info", {"run_id": run_id, "started_at": started_at, "layers": layers, **columns})

    def add(self, table: str, *rows: dict[str, Any], ranged: bool = True, run_id: str = RUN, **columns: Any) -> None:
        """Rows of a run, each with what all share, and its range as the recorder keeps it."""
        for row in rows or ({},):
            last_id = self._insert(table, {"run_id": run_id, "ts": START + 60, **columns, **row})
            if ranged:
                self.connection.execute(
                    "INSERT INTO run_ranges VALUES (?1, ?2, ?3, ?3)"
                    " ON CONFLICT DO UPDATE SET last_id = MAX(last_id, excluded.last_id)",
                    (run_id, table, last_id),
                )

    def ended(self, run_id: str = RUN, **columns: Any) -> None:
        """The summary that a run ends with, its numbers left out."""
        self._insert("run_summary", {"run_id": run_id, **columns})

    def commit(self) -> None:
        """End the batch."""
        self.connection.commit()

    def _insert(self, table: str, columns: dict[str, Any]) -> int:
        assert set(columns) <= set(_TABLES[table].names()), f"{table} has no such column: {columns}"
        cursor = self.connection.execute(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            tuple(columns.values()),
        )
        return cursor.lastrowid or 0


@contextmanager
def making(path: Path | str, *, legacy: bool = False, exists: bool = False) -> Iterator[Making]:
    """A new record in WAL mode (the original's in its default mode), or one that is there; closed when left."""
    connection = sqlite3.connect(path)
    if exists:
        pass
    elif legacy:
        connection.executescript(LEGACY)
    else:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(tables.ddl())
    try:
        record = Making(connection)
        yield record
        record.commit()
    finally:
        connection.close()


@contextmanager
def making_more(path: Path | str) -> Iterator[Making]:
    """A record that is there already, to be written to while others read it; what was not committed is when it is left."""
    connection = sqlite3.connect(path, timeout=10)
    try:
        record = Making(connection)
        yield record
        record.commit()
    finally:
        connection.close()


def healthy(record: Making, artifacts: int = 200, run_id: str = RUN) -> None:
    """The rows of a run that meets every default objective: one metadata GET, attempt and download an artifact."""
    for number in range(artifacts):
        ts, artifact = START + 1 + number / 10, f"10.1234/{number}"
        shared = {"run_id": run_id, "ts": ts, "host": f"h{number % 3}.example"}
        record.add(
            "http_events",
            role="metadata",
            method="GET",
            status=200,
            from_cache=int(number % 4 != 0),
            revalidated=0,
            rate_delay_ms=0,
            breaker_state="closed",
            elapsed_ms=20,
            wire=int(number % 4 == 0),
            hop_last=1,
            **shared,
        )
        # Answers from the network, so that there are enough of them.
        record.add("http_events", role="artifact", method="GET", status=200, from_cache=0, wire=1, hop_last=1, **shared)
        record.add("fallback_attempts", artifact_id=artifact, source="oa", outcome="success", elapsed_ms=900, **shared)
        record.add("downloads", artifact_id=artifact, source="oa", dedupe_action="none", **stored(number), **shared)


def stored(number: int = 0) -> dict[str, Any]:
    """The columns of a download that is sound."""
    digest = f"{number:064x}"
    return {"outcome": "stored", "sha256": digest, "final_path": f"pdf/{digest}.pdf", "content_length": 1000 + number}


def now() -> float:
    """The wall clock, for runs that are live."""
    return time.time()


def beside(path: Path) -> list[str]:
    """The names of all that lies where a record lies, its own among them."""
    return sorted(file.name for file in path.parent.iterdir())
