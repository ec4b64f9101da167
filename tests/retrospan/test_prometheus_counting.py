"""Counters over restarts, and over what becomes of a record: nothing is counted twice, and no increase is invented."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from scrapes import Scrape

from retrospan.prometheus import cursor, names
from retrospan_exporters.database import Database

from .records import RUN, Making, making, making_more
from .watching import watching

SENDS = {"host": "h", "status": 200, "wire": 1, "from_cache": 0}


def sends(page: Scrape) -> float:
    return page.of(names.REQUESTS, "host").get(("h",), 0)


def yields(page: Scrape) -> tuple[float, float]:
    found = page.of(names.SLO_EVENTS, "slo", "verdict")
    return found["yield", "good"], found["yield", "bad"]


def artifacts(record: Making, *ids: str, **columns: str) -> None:
    for artifact in ids:
        record.add("fallback_attempts", artifact_id=artifact, outcome="no_pdf", elapsed_ms=1, **columns)
        record.add("downloads", artifact_id=artifact, outcome="failed", **columns)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A record of five sends and two artifacts, of a run that goes on."""
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.run(started_at=time.time(), owner_process_id=os.getpid(), host_name=os.uname().nodename)
        record.add("http_events", *[SENDS] * 5)
        artifacts(record, "a", "b")
    return path


def test_without_a_cursor_counting_begins_with_the_rows_to_come(path: Path) -> None:
    with watching(path) as sidecar, making_more(path) as record:
        page = sidecar.when(lambda page: page.of(names.YIELD, "run_id"), "the run that is under way shows")
        assert (sends(page), yields(page)) == (0, (0, 0))
        record.add("http_events", *[SENDS] * 2)
        artifacts(record, "b", "c")
        record.commit()
        sidecar.when(lambda page: sends(page) == 2 and yields(page) == (0, 1))
        assert yields(sidecar.settled()) == (0, 1)


def test_a_restart_counts_what_came_meanwhile_once(path: Path) -> None:
    with watching(path) as sidecar:
        sidecar.when(lambda page: page.of(names.YIELD, "run_id"))
        sidecar.settled()
    assert (path.parent / "telemetry.sqlite.cursor").stat().st_mode & 0o777 == 0o600
    with making_more(path) as record:
        record.add("http_events", *[SENDS] * 3)
        artifacts(record, "c", "d")
    for came in (3, 0):
        with watching(path) as sidecar:
            sidecar.when(lambda page: page.of(names.YIELD, "run_id"))
            page = sidecar.settled()
            assert (sends(page), yields(page)) == (came, (0, 2 if came else 0))


def test_a_run_that_begins_and_ends_while_the_sidecar_is_away_is_counted(path: Path) -> None:
    with watching(path) as sidecar:
        sidecar.settled()
    with making_more(path) as record:
        record.run("AWAY")
        artifacts(record, "x", "y", run_id="AWAY")
        record.ended("AWAY")
    with watching(path) as sidecar:
        sidecar.when(lambda page: page.of(names.YIELD, "run_id").keys() == {(RUN,), ("AWAY",)})
        assert yields(sidecar.settled()) == (0, 2)


def test_late_rows_of_a_run_that_was_let_go_do_not_count_it_again(path: Path) -> None:
    with watching(path, keep=0.0) as sidecar, making_more(path) as record:
        artifacts(record, "c")
        record.ended()
        record.commit()
        sidecar.when(lambda page: yields(page) == (0, 1) and not page.of(names.YIELD, "run_id"))
        record.add("http_events", SENDS)
        artifacts(record, "d")
        record.commit()
        sidecar.when(lambda page: sends(page) == 1)
        assert yields(sidecar.settled()) == (0, 1)


def test_a_record_that_appears_is_counted_from_its_first_row(tmp_path: Path, path: Path) -> None:
    elsewhere = path.rename(tmp_path / "elsewhere")
    with watching(path) as sidecar:
        assert names.RECORD_SIZE not in sidecar.when(lambda page: True).text
        elsewhere.rename(path)
        sidecar.when(lambda page: sends(page) == 5 and yields(page) == (0, 2))
        assert sidecar.page().of(names.RECORD_SIZE) == {(): path.stat().st_size}


def test_a_record_that_is_replaced_is_counted_from_its_first_row_and_the_old_ones_stay_counted(
    tmp_path: Path, path: Path
) -> None:
    with making(tmp_path / "new") as record:
        record.run("NEW")
        record.add("http_events", *[SENDS] * 4, run_id="NEW")
    with watching(path) as sidecar:
        with making_more(path) as record:
            record.add("http_events", SENDS)
        sidecar.when(lambda page: sends(page) == 1 and page.of(names.HTTP_429, "run_id") == {(RUN,): 0})
        while path.with_name(
            f"{path.name}-wal"
        ).exists():  # a reader that was there kept it: it would hide the new rows
            sqlite3.connect(path).execute("PRAGMA wal_checkpoint(TRUNCATE)").connection.close()
        (tmp_path / "new").replace(path)
        sidecar.when(lambda page: sends(page) == 5 and page.of(names.HTTP_429, "run_id") == {("NEW",): 0})
    with watching(path) as sidecar:
        assert sends(sidecar.settled()) == 0


def test_a_prune_changes_no_counter_and_none_jumps_after_a_restart(path: Path) -> None:
    with watching(path) as sidecar, making_more(path) as record:
        record.add("http_events", *[SENDS] * 3)
        record.commit()
        sidecar.when(lambda page: sends(page) == 3)
        with closing(sqlite3.connect(path)) as pruning:
            pruning.execute("DELETE FROM http_events WHERE id < 7")
            pruning.execute("UPDATE run_ranges SET first_id = 7 WHERE table_name = 'http_events'")
            pruning.commit()
        assert sends(sidecar.settled()) == 3
    with watching(path) as sidecar, making_more(path) as record:
        assert sends(sidecar.settled()) == 0
        record.add("http_events", SENDS)
        record.commit()
        sidecar.when(lambda page: sends(page) == 1)


def test_a_record_of_the_originals_is_read_on_when_it_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    insert = "INSERT INTO http_events (run_id, ts, host, status) VALUES ('OLD', 5.0, 'h', 200)"
    with making(path, legacy=True) as record:
        record.connection.execute(insert)
    with watching(path) as sidecar:
        with making_more(path) as record:
            record.connection.execute(insert)
        sidecar.when(lambda page: sends(page) == 1)
        database = Database(path)
        with database.transaction() as connection:
            connection.execute(insert)
        database.release()
        page = sidecar.when(lambda page: sends(page) == 2)
        assert page.of(names.HTTP_429, "run_id") == {("OLD",): 0}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "identity": [1], "ids": {}, "runs": {}}']
)
def test_a_cursor_that_cannot_be_read_is_told_and_is_none(
    path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    cursor.beside(path).write_text(text)
    with watching(path) as sidecar:
        assert sends(sidecar.settled()) == 0
    assert [message.partition(" is no cursor")[0] for message in caplog.messages] == [str(cursor.beside(path))]
    assert json.loads(cursor.beside(path).read_text())["ids"]["http_events"] == 5


def test_where_no_cursor_can_be_kept_that_is_told_once_and_the_page_is_served(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cursor.beside(path).mkdir()
    with watching(path) as sidecar, making_more(path) as record:
        record.add("http_events", SENDS)
        record.commit()
        sidecar.when(lambda page: sends(page) == 1)
        sidecar.settled()
    assert [message for message in caplog.messages if "No cursor can be kept" in message] == [
        f"No cursor can be kept beside {path} (Is a directory): after a restart counting begins with the rows to come."
    ]


def test_rows_that_recorders_dropped_are_counted_over_restarts(path: Path) -> None:
    def drop(rows: int, run_id: str = RUN) -> None:
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            connection.execute("UPDATE run_info SET dropped_rows = ? WHERE run_id = ?", (rows, run_id))
            connection.commit()

    drop(7)
    with watching(path) as sidecar:
        assert sidecar.settled().of(names.ROWS_DROPPED) == {(): 0}
        drop(10)
        sidecar.when(lambda page: page.of(names.ROWS_DROPPED) == {(): 3})
    drop(15)
    with watching(path) as sidecar:
        sidecar.when(lambda page: page.of(names.ROWS_DROPPED) == {(): 5})
        with making_more(path) as record:
            record.run("NEXT", dropped_rows=2)
            record.add("http_events", SENDS, run_id="NEXT")
        sidecar.when(lambda page: page.of(names.ROWS_DROPPED) == {(): 7})


def test_rows_of_many_writers_are_each_counted_once_while_they_write(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.run()
    program = (
        "import sqlite3, sys\nconnection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)\n"
        "for batch in range(100):\n    connection.execute('BEGIN IMMEDIATE')\n    for _ in range(10):\n"
        "        connection.execute('INSERT INTO http_events (run_id, ts, host, status) VALUES (?, 5.0, \\'h\\', 200)',"
        " (sys.argv[2],))\n    connection.execute('ROLLBACK' if batch % 10 == 9 else 'COMMIT')\n"
    )
    with watching(path) as sidecar:
        writers = [subprocess.Popen([sys.executable, "-c", program, path, f"W{number}"]) for number in range(3)]
        assert [writer.wait(50) for writer in writers] == [0, 0, 0]
        sidecar.when(lambda page: sends(page) == 3 * 900)
        assert sends(sidecar.settled()) == 3 * 900


def test_a_backlog_is_read_in_steps_and_counted_whole(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrospan.prometheus.counts.MOST_ROWS", 2)
    elsewhere = path.rename(tmp_path / "elsewhere")
    with watching(path) as sidecar:
        elsewhere.rename(path)
        sidecar.when(lambda page: sends(page) == 2)
        sidecar.when(lambda page: sends(page) == 5 and yields(page) == (0, 2))
        assert sends(sidecar.settled()) == 5
