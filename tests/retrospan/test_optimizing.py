"""`retrospan optimize`: a trace is found by an index, what that costs is told, and it can be undone."""

import os
import platform
import re
import sqlite3

import pytest

from retrospan.optimizing import OF_TRACE, optimize
from retrospan.record import Record

from .commands import in_one_line, retrospan
from .records import START, beside, making, now

TRACES = [os.urandom(16) for _ in range(400)]
# Two pages that the list of tables and indices has grown by, and keeps.
SCHEMA_BYTES = 8192


@pytest.fixture
def finished_record(path):
    with making(path) as record:
        record.run("R")
        record.connection.execute("PRAGMA journal_mode = WAL")
        for number in range(4):
            rows = [{"trace_id": trace, "status": number} for trace in TRACES]
            record.add("http_events", *rows, run_id="R")
        record.ended("R")
    return path


def plan(path):
    """How SQLite looks a trace up in a bound run, and what it finds."""
    with Record.open(path) as record:
        record.bind("R")
        query = f"SELECT status FROM http_events WHERE {OF_TRACE} ORDER BY id"
        found = record.connection.execute(query, {"trace_id": TRACES[7]}).fetchall()
        steps = record.connection.execute(f"EXPLAIN QUERY PLAN {query}", {"trace_id": TRACES[7]}).fetchall()
    return " ".join(step[3] for step in steps), found


def test_a_trace_is_found_by_the_index_and_the_same_rows_without(finished_record):
    without, rows = plan(finished_record)
    assert "INDEX" not in without.replace("sqlite_autoindex", "")
    optimize(finished_record)
    by_index, same = plan(finished_record)
    assert "USING INDEX http_events_by_trace" in by_index
    assert rows == same == [(0,), (1,), (2,), (3,)]


def test_what_it_costs_is_told_and_dropping_it_gives_that_back(finished_record):
    def costs(*arguments):
        done = retrospan("optimize", "--db", finished_record, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    before = finished_record.stat().st_size
    pattern = re.escape(str(finished_record)) + r": ([\d,]+) bytes taken by the index, in \d+\.\d\d s\n"
    told = re.fullmatch(pattern, costs())
    assert told
    taken = int(told[1].replace(",", ""))
    assert finished_record.stat().st_size == before + taken
    assert costs().startswith(f"{finished_record}: 0 bytes taken by the index")
    given = re.fullmatch(pattern.replace("taken by the index", "given back"), costs("--drop"))
    assert given
    assert taken - SCHEMA_BYTES <= int(given[1].replace(",", "")) <= taken
    assert costs("--drop").startswith(f"{finished_record}: 0 bytes given back")
    connection = sqlite3.connect(finished_record)
    assert connection.execute("SELECT name FROM sqlite_master WHERE name LIKE '%_by_trace'").fetchall() == []
    connection.close()


def test_a_record_of_ours_really_shrinks_again(path):
    from retrospan_exporters.database import Database

    store = Database(path)
    with store.transaction() as connection:
        connection.executemany(
            "INSERT INTO http_events (run_id, ts, trace_id) VALUES ('R', 1, ?)", [(trace,) for trace in TRACES * 10]
        )
    store.release()
    before = path.stat().st_size
    cost = optimize(path)
    assert path.stat().st_size == before + cost.bytes > before + 4_000 * 8
    assert -cost.bytes <= optimize(path, drop=True).bytes <= SCHEMA_BYTES - cost.bytes
    assert before <= path.stat().st_size <= before + SCHEMA_BYTES


def test_a_live_run_is_not_slowed_down_unless_told(path):
    with making(path) as record:
        record.run("L", started_at=now(), owner_process_id=os.getpid(), host_name=platform.node())
    before = path.read_bytes()
    refused = retrospan("optimize", "--db", path)
    assert refused.returncode == 2
    assert "run L is still live" in in_one_line(refused)
    assert path.read_bytes() == before
    assert retrospan("optimize", "--db", path, "--force").returncode == 0
    assert retrospan("optimize", "--db", path, "--drop").returncode == 0


def test_a_record_that_is_not_there_is_not_made(path):
    refused = retrospan("optimize", "--db", path)
    assert refused.returncode == 2
    assert "no such file" in in_one_line(refused)
    assert beside(path) == []


def test_a_legacy_record_can_have_it_too(path):
    with making(path, legacy=True) as record:
        record.connection.execute("INSERT INTO http_events (run_id, ts) VALUES ('old', ?)", (START,))
    assert retrospan("optimize", "--db", path).returncode == 0
    assert retrospan("runs", "--db", path).stdout.splitlines()[1].startswith("old")


def test_a_record_with_the_index_is_written_and_read_as_before(finished_record):
    before = retrospan("slo", "--db", finished_record, "--format", "json").stdout
    optimize(finished_record)
    assert retrospan("slo", "--db", finished_record, "--format", "json").stdout == before
