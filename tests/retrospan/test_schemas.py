"""Records of other versions: the original's columns alone are enough for every command, and a newer schema for none."""

import json
import sqlite3
import sys

import pytest

from retrospan_exporters import tables

from .commands import in_one_line, retrospan
from .records import START, beside, making

ORIGINAL_QUERY = "SELECT run_id, status, error FROM http_events WHERE run_id = 'old' ORDER BY id"


@pytest.fixture
def legacy(path):
    """Two runs of the original downloader: one with its summary, one that was cut short."""
    with making(path, legacy=True) as record:
        for run_id, count in (("old", 60), ("cut", 3)):
            record.connection.executemany(
                "INSERT INTO http_events (run_id, ts, host, role, method, status, from_cache) VALUES (?, ?, 'h', 'metadata',"
                " 'GET', 200, 1)",
                [(run_id, START + number) for number in range(count)],
            )
        record.connection.execute("INSERT INTO run_summary (run_id, started_at, finished_at) VALUES ('old', 1, 2)")
    return path


@pytest.fixture
def newer(path):
    with making(path) as record:
        record.run("R")
        record.connection.execute(f"PRAGMA user_version = {tables.SCHEMA_VERSION + 1}")
    return path


def rows(path, query):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_reading_commands_read_a_legacy_record_and_leave_every_byte_of_it(legacy):
    before = legacy.read_bytes()
    listed = json.loads(retrospan("runs", "--db", legacy, "--format", "json").stdout)
    assert [(run["run_id"], run["state"]) for run in listed] == [("cut", "unknown"), ("old", "finished")]
    judged = retrospan("slo", "--db", legacy, "--run", "old", "--format", "json")
    verdicts = {slo["name"]: slo["verdict"] for slo in json.loads(judged.stdout)["slos"]}
    assert judged.returncode == 3
    assert verdicts["cache_hit"] == "pass"
    assert verdicts["breaker_opens"] == "no_data"
    merged = legacy.with_name("merged.sqlite")
    assert retrospan("merge", merged, legacy).returncode == 0
    assert rows(merged, ORIGINAL_QUERY) == rows(legacy, ORIGINAL_QUERY)
    assert legacy.read_bytes() == before


def test_a_summary_is_written_into_a_legacy_record(legacy):
    assert retrospan("summarize", "--db", legacy, "--run", "cut").stdout == "run cut: summary written\n"
    assert rows(legacy, "SELECT run_id, cache_hit_pct FROM run_summary ORDER BY 1") == [("cut", 100.0), ("old", None)]


@pytest.mark.parametrize(
    "arguments",
    [("run", "--run-id", "new", "--", sys.executable, "-c", "pass"), ("optimize",)],
    ids=["run", "optimize"],
)
def test_writing_commands_migrate_a_legacy_record_which_the_originals_tools_still_read(legacy, arguments):
    before = rows(legacy, ORIGINAL_QUERY)
    done = retrospan(arguments[0], "--db", legacy, *arguments[1:])
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(legacy, "PRAGMA user_version") == [(tables.SCHEMA_VERSION,)]
    assert rows(legacy, "SELECT * FROM run_ranges WHERE run_id IN ('old', 'cut') ORDER BY 1") == [
        ("cut", "http_events", 61, 63),
        ("old", "http_events", 1, 60),
    ]
    assert rows(legacy, ORIGINAL_QUERY) == before
    assert rows(legacy, "SELECT COUNT(wire), COUNT(trace_id), COUNT(*) FROM http_events") == [(0, 0, 63)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("runs", "--db", "RECORD"),
        ("slo", "--db", "RECORD"),
        ("summarize", "--db", "RECORD", "--run", "R"),
        ("optimize", "--db", "RECORD"),
        ("merge", "out.sqlite", "RECORD"),
        ("run", "--db", "RECORD", "--", sys.executable, "-c", "pass"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_every_command_refuses_a_newer_schema_with_what_to_do_and_changes_nothing(newer, arguments, monkeypatch):
    monkeypatch.chdir(newer.parent)
    before = newer.read_bytes()
    refused = retrospan(*(str(newer) if part == "RECORD" else part for part in arguments))
    assert refused.returncode == 2
    said = in_one_line(refused)
    assert f"schema {tables.SCHEMA_VERSION + 1}" in said
    assert "upgrade retrospan" in said
    assert newer.read_bytes() == before
    assert set(beside(newer)) <= {newer.name, f"{newer.name}-lock"}
