"""Series come and go with their runs, the page grows old when it cannot be renewed, and memory stays flat."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from retrospan.prometheus import names
from retrospan.prometheus.instruments import MOST_SERIES, Instruments

from .records import RUN, Making, making, making_more
from .watching import watching

SEND = {"host": "h", "status": 200, "wire": 1, "from_cache": 0}


def begun(record: Making, run_id: str, owner: int) -> None:
    record.run(run_id, started_at=time.time(), owner_process_id=owner, host_name=os.uname().nodename)
    record.add("http_events", SEND, run_id=run_id, ts=time.time())


def test_an_ended_runs_series_go_after_they_were_kept_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        for run_id in ("ENDS", "STAYS"):
            begun(record, run_id, os.getpid())
    with watching(path, keep=0.3) as sidecar, making_more(path) as record:
        sidecar.when(lambda page: len(page.of(names.HTTP_429, "run_id")) == 2)
        record.add("http_events", {**SEND, "status": 429}, run_id="ENDS")
        record.ended("ENDS")
        record.commit()
        last = sidecar.when(
            lambda page: page.of(names.HTTP_429, "run_id").get(("ENDS",)) == 0.5, "its last numbers show"
        )
        assert last.of(names.HTTP_429, "run_id")["STAYS",] == 0
        sidecar.when(lambda page: "ENDS" not in page.text)
        assert sidecar.settled().of(names.HTTP_429, "run_id") == {("STAYS",): 0}


def test_a_killed_runs_series_go_too_and_come_back_when_its_children_write_on(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(20)
    with making(path) as record:
        begun(record, RUN, gone.pid)
    with watching(path, keep=0.0) as sidecar, making_more(path) as record:
        assert RUN not in sidecar.settled().text
        record.add("http_events", SEND)
        record.commit()
        sidecar.when(lambda page: RUN in page.text)
        sidecar.when(lambda page: RUN not in page.text)


def test_a_run_that_was_over_before_shows_only_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        for run_id in ("ONE", "TWO"):
            record.run(run_id)
            record.add("http_events", SEND, run_id=run_id)
            record.ended(run_id)
    with watching(path) as sidecar:
        page = sidecar.settled()
        assert "ONE" not in page.text
        assert "TWO" not in page.text
    with watching(path, run_id="ONE", keep=0.0) as sidecar, making_more(path) as record:
        sidecar.when(lambda page: page.of(names.HTTP_429, "run_id") == {("ONE",): 0})
        record.add("http_events", SEND, SEND, run_id="TWO")
        record.add("http_events", SEND, run_id="ONE")
        record.commit()
        page = sidecar.when(lambda page: page.of(names.REQUESTS, "host") == {("h",): 1})
        assert sidecar.settled().of(names.HTTP_429, "run_id") == {("ONE",): 0}


def test_several_records_are_one_page_and_a_glob_finds_new_ones(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with making(tmp_path / f"{name}.sqlite") as record:
            begun(record, name.upper(), os.getpid())
    with watching(tmp_path / "a.sqlite", tmp_path / "[b-z].sqlite") as sidecar:
        sidecar.when(lambda page: page.of(names.HTTP_429, "run_id").keys() == {("A",), ("B",)})
        with making(tmp_path / "made") as record:
            begun(record, "C", os.getpid())
        (tmp_path / "made").rename(tmp_path / "c.sqlite")
        page = sidecar.when(lambda page: ("C",) in page.of(names.HTTP_429, "run_id"))
        assert page.of(names.REQUESTS, "host") == {("h",): 1}
        assert page.of(names.RECORD_SIZE) == {(): sum(file.stat().st_size for file in tmp_path.glob("*.sqlite"))}
        (tmp_path / "b.sqlite").unlink()
        sidecar.when(lambda page: page.of(names.HTTP_429, "run_id").keys() == {("A",), ("C",)})


def test_a_page_that_cannot_be_renewed_grows_old_and_is_back_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        begun(record, RUN, os.getpid())
    with watching(path) as sidecar:
        sidecar.when(lambda page: RUN in page.text)
        kept = path.rename(tmp_path / "kept")
        (tmp_path / "broken").write_bytes(b"no database" * 100)
        (tmp_path / "broken").replace(path)
        deadline = time.monotonic() + 20
        while sidecar.page().status != 503:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert not sidecar.sidecar.is_fresh()
        kept.replace(path)
        sidecar.when(lambda page: RUN in page.text)
    told = [message for message in caplog.messages if "is not a SQLite database" in message]
    assert len(told) == 1


def test_a_record_that_is_being_made_is_no_news_and_is_counted_from_its_first_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite's header is there before the tables are: one poll may meet that."""
    path = tmp_path / "telemetry.sqlite"
    with watching(path, poll=3600.0) as sidecar:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 1")
        sidecar.sidecar._cycle(0.0)
        path.unlink()
        with making(path) as record:
            begun(record, RUN, os.getpid())
        sidecar.sidecar._cycle(5.0)
        assert sidecar.page().of(names.REQUESTS, "host") == {("h",): 1}
    assert caplog.messages == []


def test_a_record_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite").write_bytes(b"no database" * 100)
    with making(tmp_path / "sound.sqlite") as record:
        begun(record, RUN, os.getpid())
    with watching(tmp_path / "*.sqlite") as sidecar:
        sidecar.when(lambda page: RUN in page.text)


def test_the_age_of_the_newest_row_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.add("http_events", SEND, ts=time.time() - 1000)
        record.add("downloads", ts=time.time() - 100)
        record.add("http_events", SEND, ts=time.time() - 500)
    with watching(path) as sidecar:
        (age,) = sidecar.when(lambda page: page.of(names.RECORD_LAG)).of(names.RECORD_LAG).values()
    assert 100 <= age < 150


def test_no_more_runs_are_followed_than_a_page_has_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrospan.prometheus.watch.MOST_RUNS", most := 10)
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.run()
    with watching(path) as sidecar, making_more(path) as record:
        for number in range(most + 5):
            record.add("http_events", SEND, run_id=f"R{number:03}")
        record.commit()
        sidecar.when(lambda page: len(page.of(names.HTTP_429, "run_id")) == most)
        assert len(sidecar.settled().of(names.HTTP_429, "run_id")) == most


def test_series_that_are_gone_leave_nothing_in_the_sdk() -> None:
    """Twice as many sets of labels as the SDK tells apart come and go, and none is folded into its overflow."""
    instruments = Instruments()
    for number in range(50):
        series = {names.HTTP_429: {(f"R{number}", f"h{host}"): 0.5 for host in range(100)}}
        page = instruments.render(series).plain.decode()
        assert page.count(f'run_id="R{number}"') == 100
        assert page.count("\n") == 102
    assert "overflow" not in page
    assert instruments.render({}).plain == b""
    most = {names.HTTP_429: {(f"R{number}", "h"): 0.5 for number in range(MOST_SERIES + 500)}}
    page = instruments.render(most).plain.decode()
    assert page.count("run_id=") == MOST_SERIES
    assert "overflow" not in page
