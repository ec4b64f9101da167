"""The bound of a record: the oldest complete runs go, live ones never, and the file really shrinks."""

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from retrospan_exporters import retention, tables
from retrospan_exporters.database import Database
from retrospan_exporters.retention import Bound
from retrospan_exporters.sqlite import SQLiteSpanExporter

from .conftest import Make, Read

ROWS = 4_000  # of a run: about 90 pages
MB = 2**20


class Filling:
    """A record that is filled run by run, past the exporter; each row is about a hundred bytes long."""

    def __init__(self, record: Path) -> None:
        self.store, self.moment = Database(record), 0

    def run(self, run_id: str, *, rows: int = ROWS, table: str = "http_events", is_complete: bool = True) -> None:
        self.moment += 1
        with self.store.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO run_info (run_id, started_at) VALUES (?, ?)", (run_id, self.moment)
            )
            connection.executemany(
                f"INSERT INTO {table} (run_id, ts, host) VALUES (?, ?, ?)",
                [(run_id, number, "h" * 70) for number in range(rows)],
            )
            for statement in tables.fill_ranges():
                connection.execute(statement)
            if is_complete:
                connection.execute("INSERT INTO run_summary (run_id, dropped_rows) VALUES (?, 0)", (run_id,))

    def keep(self, most: int) -> Bound:
        """Keep the bound as the exporter does after a batch, and wait until everything is done."""
        bound = Bound(self.store, most)
        with self.store.transaction() as connection:
            bound.look(connection)
        bound.keep(threading.Lock())  # type: ignore[arg-type]
        wait_until(lambda: not bound._has_thread)
        return bound


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def filling(record: Path) -> Iterator[Filling]:
    made = Filling(record)
    yield made
    made.store.release()


def runs(read: Read) -> dict[str, int]:
    """How many rows of requests each run has."""
    return dict(read("SELECT run_id, COUNT(*) FROM http_events GROUP BY 1 ORDER BY 1"))


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_the_oldest_complete_runs_go_and_the_file_shrinks(filling: Filling, record: Path, read: Read) -> None:
    for name in ("zero", "one", "two", "three", "four"):
        filling.run(name)
    filling.store.release()
    before = record.stat().st_size
    filling.keep(before * 4 // 5)
    assert list(runs(read)) == ["four", "three", "two"]
    assert record.stat().st_size < before * 4 // 5
    assert read("PRAGMA freelist_count") == [(0,)]
    assert read("PRAGMA integrity_check") == [("ok",)]
    for table in ("run_info", "run_summary", "run_ranges"):
        assert {run_id for (run_id,) in read(f"SELECT run_id FROM {table}")} == {"two", "three", "four"}


def test_runs_go_before_the_bound_is_reached_so_that_there_is_room(filling: Filling, record: Path, read: Read) -> None:
    for name in ("one", "three", "two"):
        filling.run(name)
    filling.store.release()
    before = record.stat().st_size
    filling.keep(before * 21 // 20)
    assert list(runs(read)) == ["three", "two"]
    assert record.stat().st_size < before * 3 // 4
    assert read("PRAGMA freelist_count") == [(0,)]


def test_a_record_under_its_bound_is_let_alone(filling: Filling, read: Read, record: Path) -> None:
    filling.run("one")
    filling.run("two")
    filling.store.release()
    filling.keep(record.stat().st_size * 2)
    assert runs(read) == {"one": ROWS, "two": ROWS}


def test_a_run_that_is_half_gone_says_how_much_and_is_the_next_to_go_on_with(
    filling: Filling, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ROWS_A_STEP", 1_000)
    filling.run("one")
    filling.run("two")
    bound = Bound(filling.store, 4096)
    for gone in (1_000, 2_000):
        with filling.store.transaction() as connection:
            assert bound._drop(connection, 0.8)
        assert runs(read) == {"one": ROWS - gone, "two": ROWS}
        assert read("SELECT run_id, dropped_rows FROM run_summary ORDER BY 1") == [("one", gone), ("two", 0)]
        assert read("SELECT first_id, last_id FROM run_ranges WHERE run_id = 'one'") == [(gone + 1, ROWS)]


def test_an_id_is_never_used_twice_and_what_kept_it_goes_when_it_need_no_more(filling: Filling, read: Read) -> None:
    filling.run("old", table="http_events")
    filling.run("old too", rows=3, table="downloads")
    filling.keep(4096)
    assert read("SELECT id FROM http_events") == [(ROWS,)]
    assert read("SELECT id FROM downloads") == [(3,)]
    assert read("SELECT run_id, dropped_rows FROM run_summary ORDER BY 1") == [("old", ROWS - 1), ("old too", 2)]
    filling.run("new")
    filling.run("new", rows=1, table="downloads", is_complete=False)
    assert read("SELECT MIN(id) FROM http_events WHERE run_id = 'new'") == [(ROWS + 1,)]
    assert read("SELECT id FROM downloads WHERE run_id = 'new'") == [(4,)]
    filling.keep(4096)
    assert read("SELECT id, run_id FROM http_events") == [(2 * ROWS, "new")]
    assert read("SELECT id, run_id FROM downloads") == [(4, "new")]
    assert read("SELECT DISTINCT run_id FROM run_ranges") == read("SELECT run_id FROM run_info") == [("new",)]


def test_a_live_or_killed_run_is_never_touched_and_that_the_bound_is_not_kept_is_told_once(
    filling: Filling, record: Path, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    filling.run("live", is_complete=False)
    filling.run("done")
    filling.run("killed", is_complete=False)
    bound = filling.keep(10_000)
    assert runs(read) == {"live": ROWS, "killed": ROWS}
    filling.store.release()
    assert messages(caplog) == [
        f"{record} has {record.stat().st_size} bytes, more than RETROSPAN_MAX_BYTES=10000: no complete run is left that"
        " could go; live runs stay, and so do killed ones until `retrospan summarize`."
    ]
    bound._rest_until = 0.0
    with filling.store.transaction() as connection:
        bound.look(connection)
    bound.keep(threading.Lock())  # type: ignore[arg-type]
    wait_until(lambda: not bound._has_thread)
    assert len(messages(caplog)) == 1


def test_runs_that_wrote_by_turns_lose_their_own_rows_only(filling: Filling, read: Read) -> None:
    for _ in range(4):
        filling.run("live", rows=500, is_complete=False)
        filling.run("done", rows=500, is_complete=False)
    filling.run("done", rows=500)
    filling.run("live", rows=1, is_complete=False)
    filling.keep(4096)
    assert runs(read) == {"live": 2_001}
    assert read("SELECT DISTINCT run_id FROM run_ranges") == [("live",)]


def test_a_record_that_cannot_shrink_uses_its_space_again_and_says_so(
    record: Path, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(record) as connection:
        connection.executescript(tables.ddl())
    connection.close()
    filling = Filling(record)
    for name in ("one", "two", "three"):
        filling.run(name)
    filling.store.release()
    size = record.stat().st_size
    filling.keep(size // 2)
    filling.store.release()
    assert runs(read) == {"three": ROWS}
    assert record.stat().st_size == size
    (said,) = messages(caplog)
    assert said.endswith(
        "its free space is used again, but cannot be given back: `retrospan merge` makes a smaller copy."
    )
    filling.run("four")
    filling.store.release()
    assert record.stat().st_size == size


@pytest.mark.parametrize("said", ["0", "-5", "10MB", "1e6"])
def test_a_bound_that_is_no_number_of_bytes_is_told_and_there_is_none(
    filling: Filling, read: Read, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RETROSPAN_MAX_BYTES", said)
    filling.run("one")
    bound = Bound(filling.store)
    with filling.store.transaction() as connection:
        bound.look(connection)
    bound.keep(threading.Lock())  # type: ignore[arg-type]
    assert not bound._has_thread
    assert messages(caplog) == [
        f"RETROSPAN_MAX_BYTES={said!r} is no number of bytes: the file may grow without a bound."
    ]


def test_the_exporter_keeps_the_bound_of_the_environment_from_its_start_on(
    filling: Filling, record: Path, read: Read, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        filling.run(f"run {number}")
    filling.store.release()
    most = record.stat().st_size // 2
    monkeypatch.setenv("RETROSPAN_MAX_BYTES", str(most))
    exporter = SQLiteSpanExporter(record, "R")
    exporter.has_own_processor = True
    exporter.start()
    wait_until(lambda: record.stat().st_size <= most)
    exporter.export([span()])
    exporter.release()
    assert runs(read) == {"run 3": ROWS, "R": 1}


WRITER = f"""
import sys
sys.path[:0] = {sys.path!r}
from retrospan_exporters.provider import provider_class
from opentelemetry.trace import SpanKind
from retrospan_exporters.processor import RecorderSpanProcessor
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan.summary import summarize
record, name = sys.argv[1:]
for number in range(8):
    exporter = SQLiteSpanExporter(record, f"{{name}}-{{number}}")
    processor, provider = RecorderSpanProcessor(exporter), provider_class()()
    provider.add_span_processor(processor)
    tracer = provider.get_tracer("t")
    for status in range(1_500):
        tracer.start_span("GET", kind=SpanKind.CLIENT, attributes={{
            "http.request.method": "GET", "server.address": "h" * 90, "http.response.status_code": status}}).end()
        if not status % 100:
            processor.flush(20)
    assert processor.flush(20) and exporter.dropped == 0
    processor.stop()
    summarize(record, exporter.run.id, 0)
"""


def test_a_batch_that_finds_no_room_makes_it_before_it_is_written(filling: Filling, record: Path, read: Read) -> None:
    filling.run("one")
    filling.run("two")
    filling.store.release()
    most = record.stat().st_size
    bound = Bound(filling.store, most)
    with filling.store.transaction() as connection:
        connection.executemany("INSERT INTO http_events (run_id, ts, host) VALUES ('R', 1, ?)", [("h" * 70,)] * 100)
        bound.look(connection)
        assert connection.execute("PRAGMA page_count").fetchone()[0] * 4096 <= most
    assert runs(read) == {"R": 100, "two": ROWS}


def test_the_bound_is_kept_while_several_processes_write_and_none_of_their_live_runs_loses_a_row(
    record: Path, read: Read
) -> None:
    most = 3 * MB
    environment = {**os.environ, "RETROSPAN_MAX_BYTES": str(most)}
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, record, name], env=environment, stderr=subprocess.PIPE, text=True
        )
        for name in "ABC"
    ]
    largest = 0
    while any(writer.poll() is None for writer in writers):
        largest = max(largest, record.stat().st_size if record.exists() else 0)
        time.sleep(0.01)
    assert [(writer.returncode, writer.communicate()[1]) for writer in writers] == [(0, "")] * 3
    assert largest <= most
    held: dict[str, Any] = runs(read)
    cut = dict(read("SELECT run_id, dropped_rows FROM run_summary"))
    assert 36_000 > sum(held.values()) > 6_000
    assert all(held.get(run_id, 0) + gone == 1_500 for run_id, gone in cut.items())
    assert all(f"{name}-7" in held for name in "ABC")
    assert read("SELECT COUNT(*), COUNT(DISTINCT id) FROM http_events") == [(sum(held.values()),) * 2]
    assert read("SELECT MAX(id) FROM http_events") == [(36_000,)]
    assert read("PRAGMA integrity_check") == [("ok",)]
