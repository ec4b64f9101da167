"""The demo's spans, by OTLP through a real collector into a real ClickHouse: the same eight numbers as its SQLite record."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from retrospan.engines import read
from retrospan.slo.blame import Blame
from retrospan.slo.gate import Choice, judge
from retrospan.slo.verdicts import Result

from .collecting import clickhouse, collector
from .support import read as rows_of
from .support import wait_until

ROOT = Path(__file__).parents[2]
RETROSPAN = Path(sys.executable).with_name("retrospan")
DEMO = [sys.executable, ROOT / "examples" / "downloader" / "demo.py"]
COMPARED = (
    "http_events",
    "rate_events",
    "breaker_transitions",
    "fallback_attempts",
    "downloads",
    "breaker_rejections",
)


def told(result: Result) -> Result:
    """A result without what engines may name in another order: traces of equal rank, and ids in hex or not."""
    offenders = tuple(replace(one, traces=()) for one in result.offenders)
    return replace(result, blame=Blame(result.blame.bad, offenders, result.blame.worst))


def plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.hex() if isinstance(value, bytes) else value for value in row)


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["asyncio", "threads"])
def test_the_demo_has_the_same_numbers_on_sqlite_duckdb_and_clickhouse(tmp_path: Path, mode: str) -> None:
    with clickhouse(tmp_path) as server, collector(server) as endpoint:
        environment = {
            **os.environ,
            "OTEL_TRACES_EXPORTER": "sqlite,otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        out = tmp_path / "demo"
        ran = subprocess.run(
            [*DEMO, "--artifacts", "40", "--mode", mode, "--out", out],
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        record = out / "telemetry.sqlite"
        counts = {table: rows_of(record, f"SELECT COUNT(*) FROM {table}")[0][0] for table in COMPARED}
        assert counts["http_events"] > 100

        def arrived() -> bool:
            return all(int(server.query(f"SELECT count() FROM otel.{table}")) >= counts[table] for table in COMPARED)

        wait_until(arrived, "all spans had arrived")
        for table in COMPARED:
            columns = _columns(table)
            here = sorted(map(plain, rows_of(record, f"SELECT {columns} FROM {table}")), key=repr)
            there = read(server.url, lambda engine, t=table, c=columns: engine.rows(f"SELECT {c} FROM {t}"))
            assert sorted(there, key=repr) == here, table
        archive = tmp_path / "archive"
        assert subprocess.run([RETROSPAN, "parquet", "--db", record, "--out", archive], check=False).returncode == 0
        on_sqlite, on_duckdb, on_clickhouse = (judge(source, Choice()) for source in (record, archive, server.url))
        expected = [told(result) for result in on_sqlite.results]
        assert [told(result) for result in on_duckdb.results] == expected
        assert [told(result) for result in on_clickhouse.results] == expected
        assert {result.verdict for result in on_sqlite.results} <= {"pass", "fail", "insufficient"}
        asked = subprocess.run(
            [RETROSPAN, "slo", "--from", server.url, "--format", "json"], capture_output=True, text=True, check=False
        )
        assert asked.returncode == on_sqlite.exit_code, asked.stderr
        assert [slo["value"] for slo in json.loads(asked.stdout)["slos"]] == [one.value for one in on_sqlite.results]


def _columns(table: str) -> str:
    """What a row says but its number, the process, and the weight, which nobody tells a collector."""
    from retrospan_exporters import tables

    (declared,) = (one for one in tables.EVENT_TABLES if one.name == table)
    return ", ".join(name for name in declared.names() if name not in ("id", "process_id", "weight"))
