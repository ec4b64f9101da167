"""Which runs a record holds, what became of each, and which is meant."""

import os
import platform
import subprocess
import sys

import pytest

from retrospan.record import RecordError, read
from retrospan.runs import find, runs

from .records import RUN, START, healthy, making, now


def found(path):
    return read(path, runs)


def the_run(path, run_id=RUN):
    return read(path, lambda record: find(record, run_id))


def test_a_run_with_a_summary_is_finished(path):
    with making(path) as record:
        record.run(command="downloader", host_name="m1", owner_process_id=7)
        record.ended(finished_at=START + 9, dropped_rows=2)
    (run,) = found(path)
    assert (run.state, run.provisional, run.started_at, run.finished_at) == ("finished", False, START, START + 9)
    assert (run.command, run.host_name, run.owner_process_id, run.dropped_rows) == ("downloader", "m1", 7, 2)


def test_a_run_whose_owner_runs_is_live(path):
    with making(path) as record:
        record.run(started_at=now(), host_name=platform.node(), owner_process_id=os.getpid())
    (run,) = found(path)
    assert (run.state, run.provisional) == ("live", True)


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    process.stdin.close()


def owned_by(path, process_id, **columns):
    with making(path) as record:
        record.run(**{"started_at": now(), "host_name": platform.node(), "owner_process_id": process_id, **columns})


def test_a_run_whose_owner_is_gone_was_killed(path, child):
    owned_by(path, child.pid)
    assert the_run(path).state == "live"
    child.kill()
    child.wait()
    assert the_run(path).state == "killed"


def test_a_run_whose_owner_is_dead_but_not_buried_was_killed(path, child):
    owned_by(path, child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and left a zombie
    assert the_run(path).state == "killed"


def test_a_run_whose_owners_number_went_to_a_later_process_was_killed(path):
    owned_by(path, os.getpid(), started_at=START - 10**8)
    assert the_run(path).state == "killed"


@pytest.mark.parametrize(
    "columns", [{"host_name": "elsewhere.example"}, {"host_name": None}, {"owner_process_id": None}]
)
def test_a_run_whose_owner_cannot_be_asked_after_is_unknown(path, columns):
    owned_by(path, os.getpid(), **columns)
    assert the_run(path).state == "unknown"


def test_runs_come_latest_first_whatever_their_ids(path):
    with making(path) as record:
        for run_id, started_at in (("B", 3.0), ("A", 9.0), ("C", 1.0)):
            record.run(run_id, started_at=started_at)
    assert [run.run_id for run in found(path)] == ["A", "B", "C"]


def test_the_latest_is_the_one_that_started_last_be_it_live(path):
    with making(path) as record:
        record.run("done", started_at=START)
        record.ended("done")
        record.run("live", started_at=START + 1)
    assert the_run(path, "latest").run_id == "live"


def test_a_record_without_runs_has_no_latest(path):
    with making(path):
        pass
    assert found(path) == []
    assert the_run(path, "latest") is None


def test_a_run_known_only_by_its_rows_is_listed_with_its_first_moment(path):
    with making(path) as record:
        record.add("downloads", {"ts": 500.0}, {"ts": 400.0}, run_id="rows", ranged=False)
        record.add("http_events", {"ts": 450.0}, run_id="rows", ranged=False)
        record.add("rate_events", {"ts": 100.0}, run_id="ranged")
    assert [(run.run_id, run.started_at, run.state, run.layers) for run in found(path)] == [
        ("rows", 400.0, "unknown", None),
        ("ranged", 100.0, "unknown", None),
    ]


def test_a_legacy_database_lists_its_finished_runs_and_those_without_summary(path):
    with making(path, legacy=True) as record:
        record.add("http_events", {"ts": 100.0}, run_id="old", ranged=False)
        record.ended("old", started_at=90.0, finished_at=101.0)
        record.add("http_events", {"ts": 200.0}, run_id="cut short", ranged=False)
    assert [(run.run_id, run.state, run.started_at) for run in found(path)] == [
        ("cut short", "unknown", 200.0),
        ("old", "finished", 90.0),
    ]


def test_a_foreign_run_inside_the_range_of_ours_is_found_by_its_id(path):
    with making(path) as record:
        record.add("http_events", run_id="A")
        record.add("http_events", run_id="foreign", ranged=False)
        record.add("http_events", run_id="A")
    assert the_run(path, "foreign").run_id == "foreign"


def test_layers_are_what_the_run_says(path):
    with making(path) as record:
        record.run("A", layers="http, cache")
        record.run("B", layers=None)
    assert {run.run_id: run.layers for run in found(path)} == {"A": {"http", "cache"}, "B": frozenset()}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("01K9Z3NDEKTZ", "did you mean 01K9Z3NDEKTS?"),
        ("xyz", "its latest are second, 01K9Z3NDEKTS"),
        ("\x1b[31m", "no run '?[31m'"),
        ("\udcff", "no run '?'"),
    ],
)
def test_an_unknown_run_is_told_with_what_is_near(path, wanted, said):
    with making(path) as record:
        healthy(record, 1)
        record.run("second", started_at=START + 1)
    with pytest.raises(RecordError) as raised:
        the_run(path, wanted)
    assert said in str(raised.value)


def test_an_unknown_run_of_an_empty_record_is_told(path):
    with making(path):
        pass
    with pytest.raises(RecordError, match="holds no run yet"):
        the_run(path, "A")
