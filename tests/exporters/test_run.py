"""The id of a run, its row, and who owns it."""

import os
import re
import sqlite3
from collections.abc import Iterator
from itertools import pairwise

import pytest

from retrospan_exporters import tables
from retrospan_exporters.run import RUN_ID, Run, new_id, program_name
from retrospan_instrumentation import surround


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(tables.ddl())
    yield connection
    connection.close()


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    entered: set[str] = set()
    monkeypatch.setattr(surround, "layers", entered)
    return entered


def finish(connection: sqlite3.Connection, run_id: str) -> None:
    connection.execute("INSERT INTO run_summary (run_id) VALUES (?)", (run_id,))


def test_ids_are_twelve_characters_that_sort_by_time_and_differ_within_a_second() -> None:
    ids = [new_id(seconds) for seconds in (0, 1, 1_700_000_000, 1_700_000_001, 4_000_000_000, 2**35 - 1)]
    assert all(re.fullmatch("[0-9A-HJKMNP-TV-Z]{12}", made) for made in ids)
    assert all(earlier < later for earlier, later in pairwise(ids))
    assert len({new_id(5) for _ in range(100)}) == 100


def test_the_id_is_the_given_one_else_the_environments_else_new(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (len(Run().id), Run().is_new) == (12, True)
    monkeypatch.setenv(RUN_ID, "from-the-environment")
    assert (Run().id, Run().is_new) == ("from-the-environment", False)
    assert Run("given").id == "given"
    assert Run("x" * 500 + "\ud800").id == "x" * 128


def test_a_run_that_begins_is_in_run_info_and_its_children_inherit_it(connection: sqlite3.Connection) -> None:
    run = Run("R", ["/usr/bin/python3.11", "-u", "/opt/app/downloader.py", "--password", "planted"])
    run.begin(connection)
    row = "SELECT run_id, owner_process_id, command, schema_version, sampler, layers FROM run_info"
    assert connection.execute(row).fetchall() == [
        ("R", os.getpid(), "downloader.py", tables.SCHEMA_VERSION, None, None)
    ]
    assert (os.environ[RUN_ID], run.is_mine) == ("R", True)


def test_the_first_process_owns_the_run(connection: sqlite3.Connection) -> None:
    Run("R").begin(connection)
    connection.execute("UPDATE run_info SET owner_process_id = owner_process_id + 1")
    late = Run("R")
    late.begin(connection)
    assert not late.is_mine
    assert connection.execute("SELECT COUNT(*) FROM run_info").fetchall() == [(1,)]


def test_a_program_that_replaced_itself_still_owns_its_run(connection: sqlite3.Connection) -> None:
    Run("R").begin(connection)
    again = Run("R")
    again.begin(connection)
    assert again.is_mine


def test_a_complete_run_goes_on_under_a_number_and_is_told_once(
    connection: sqlite3.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    for complete in ("R", "R.2"):
        finish(connection, complete)
    run = Run("R")
    for _ in range(2):
        run.begin(connection)
    assert run.id == os.environ[RUN_ID] == "R.3"
    assert [record.getMessage() for record in caplog.records] == [
        "Run R is complete in this record already; this one is recorded as R.3."
    ]


def test_a_run_that_is_summed_up_while_it_lasts_keeps_its_id(connection: sqlite3.Connection) -> None:
    run = Run("R")
    run.begin(connection)
    finish(connection, "R")
    run.begin(connection)
    assert run.id == "R"


def test_layers_are_noted_beside_those_of_other_processes_in_one_order(
    connection: sqlite3.Connection, layers: set[str]
) -> None:
    run = Run("R")
    run.begin(connection)
    noted = "SELECT layers FROM run_info"
    run.note(connection)
    assert connection.execute(noted).fetchall() == [(None,)]
    layers.update(("limiter", "http", "unheard-of"))
    run.note(connection)
    assert connection.execute(noted).fetchall() == [("http,limiter",)]
    connection.execute("UPDATE run_info SET layers = 'http,breaker'")
    run.note(connection)
    assert connection.execute(noted).fetchall() == [("http,limiter,breaker",)]


def test_a_sampler_that_thins_is_noted(connection: sqlite3.Connection) -> None:
    run = Run("R")
    run.begin(connection)
    run.sampler = "TraceIdRatioBased{0.1}"
    run.note(connection)
    assert connection.execute("SELECT sampler FROM run_info").fetchall() == [("TraceIdRatioBased{0.1}",)]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/python3", "/opt/downloader.py", "planted"], "downloader.py"),
        (["python", "-m", "downloader", "planted"], "downloader"),
        (["python", "-um", "downloader"], "downloader"),
        (["python", "-mdownloader", "planted"], "downloader"),
        (["python", "-c", "planted", "planted"], "python"),
        (["python", "-W", "ignore", "-X", "dev", "-Wignore", "a.py"], "a.py"),
        (["python", "--check-hash-based-pycs", "a.py"], "a.py"),
        (["python", "-"], "python"),
        (["python"], "python"),
        (["/usr/local/bin/downloader", "planted"], "downloader"),
        ([], ""),
    ],
)
def test_a_commands_name_is_the_program_and_never_an_argument(command: list[str], name: str) -> None:
    assert program_name(command) == name
