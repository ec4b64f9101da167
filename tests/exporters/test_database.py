"""The record's file: who may read it, which files are refused, migrated or opened anew, and one writer at a time."""

import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from retrospan_exporters import database, tables
from retrospan_exporters.database import Database, Refused, advice

from .conftest import Read

LEGACY = """
CREATE TABLE http_events (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT, ts REAL, host TEXT, status INTEGER);
INSERT INTO http_events (run_id, ts, host, status) VALUES ('old', 5.0, 'h', 200);
"""


def stamp(record: Path, **pragmas: int) -> None:
    with sqlite3.connect(record) as connection:
        for name, value in pragmas.items():
            connection.execute(f"PRAGMA {name} = {value}")
    connection.close()


def test_the_record_is_its_users_alone_and_carries_its_stamps(record: Path, read: Read) -> None:
    before = os.umask(0)
    try:
        store = Database(record)
        with store.transaction():
            # The log and its index are the record, too.
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in record.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == {f"telemetry.sqlite{suffix}": 0o600 for suffix in ("", "-wal", "-shm", "-lock")}
    store.release()
    assert read("PRAGMA application_id") == [(tables.APPLICATION_ID,)]
    assert read("PRAGMA user_version") == [(tables.SCHEMA_VERSION,)]
    assert read("PRAGMA journal_mode") == [("wal",)]
    assert read("PRAGMA auto_vacuum") == [(2,)]


def test_a_link_to_a_file_that_is_not_there_yet_makes_it_its_users_alone(record: Path) -> None:
    target = record.with_name("target.sqlite")
    record.symlink_to(target)
    store = Database(record)
    with store.transaction():
        pass
    store.release()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_path_is_taken_from_the_folder_in_which_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Database("telemetry.sqlite")
    monkeypatch.chdir("/")
    assert store.path == str(tmp_path / "telemetry.sqlite")


def test_a_transaction_is_all_or_nothing(record: Path, read: Read) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('R')")
        raise ZeroDivisionError

    store = Database(record)
    with pytest.raises(ZeroDivisionError), store.transaction() as connection:
        half(connection)
    with store.transaction() as connection:
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('S')")
    store.release()
    assert read("SELECT run_id FROM run_summary") == [("S",)]


def test_a_newer_schema_is_refused_with_what_to_do_and_left_as_it_was(record: Path, read: Read) -> None:
    stamp(record, application_id=tables.APPLICATION_ID, user_version=tables.SCHEMA_VERSION + 1)
    with pytest.raises(Refused) as refused, Database(record).transaction():
        pass
    assert f"schema {tables.SCHEMA_VERSION + 1}" in advice(refused.value)
    assert "upgrade retrospan" in advice(refused.value)
    assert read("SELECT * FROM sqlite_master") == []


@pytest.mark.parametrize("pragmas", [{"application_id": 1}, {"user_version": 1}])
def test_another_programs_database_is_refused(record: Path, pragmas: dict[str, int]) -> None:
    stamp(record, **pragmas)
    with pytest.raises(Refused), Database(record).transaction():
        pass


def test_a_legacy_record_gets_the_added_columns_and_keeps_its_rows(record: Path, read: Read) -> None:
    with sqlite3.connect(record) as connection:
        connection.executescript(LEGACY)
    connection.close()
    store = Database(record)
    with store.transaction() as connection:
        connection.execute("INSERT INTO http_events (run_id, ts, wire) VALUES ('new', 6.0, 1)")
    store.release()
    assert read("SELECT run_id, ts, host, status, wire, span_id FROM http_events ORDER BY id") == [
        ("old", 5.0, "h", 200, None, None),
        ("new", 6.0, None, None, 1, None),
    ]
    assert {name for (name,) in read("SELECT name FROM sqlite_master WHERE type = 'table'")} >= {
        table.name for table in tables.TABLES
    }
    assert read("PRAGMA user_version") == [(tables.SCHEMA_VERSION,)]


def test_a_migrated_records_runs_are_found_by_their_ranges(record: Path, read: Read) -> None:
    with sqlite3.connect(record) as connection:
        connection.executescript(LEGACY)
        connection.executemany(
            "INSERT INTO http_events (run_id, ts) VALUES (?, 5.0)", [("next",), ("old",), ("next",), (None,)]
        )
    connection.close()
    store = Database(record)
    with store.transaction():
        pass
    store.release()
    assert read("SELECT run_id, table_name, first_id, last_id FROM run_ranges ORDER BY run_id") == [
        ("next", "http_events", 2, 4),
        ("old", "http_events", 1, 3),
    ]


def test_a_migration_that_cannot_be_finished_leaves_the_record_as_it_was(record: Path, read: Read) -> None:
    with sqlite3.connect(record) as connection:
        # The last table of all cannot be made: its name is a view's already.
        connection.executescript(f"{LEGACY} CREATE VIEW run_ranges AS SELECT 1 AS run_id;")
    connection.close()
    before = read("SELECT name, sql FROM sqlite_master ORDER BY name")
    with pytest.raises(sqlite3.OperationalError), Database(record).transaction():
        pass
    assert read("SELECT name, sql FROM sqlite_master ORDER BY name") == before
    assert read("PRAGMA user_version") == [(0,)]


def test_a_record_that_was_moved_away_is_begun_anew_at_its_place(record: Path, read: Read) -> None:
    store = Database(record)
    with store.transaction() as connection:
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('first')")
    moved = record.rename(record.with_name("moved.sqlite"))
    with store.transaction() as connection:
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('second')")
    store.release()
    assert store.openings == 2
    assert read("SELECT run_id FROM run_summary") == [("second",)]
    assert moved.exists()


def test_a_record_that_was_replaced_is_written_and_its_own_log_is_kept(record: Path, read: Read) -> None:
    store = Database(record)
    with store.transaction() as connection:
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('first')")
    successor = Database(record.with_name("next.sqlite"))
    with successor.transaction() as connection:
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('next')")
    successor.release()
    Path(successor.path).replace(record)
    with store.transaction() as connection:
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('second')")
    store.release()
    assert read("SELECT run_id FROM run_summary ORDER BY 1") == [("next",), ("second",)]


def test_writers_wait_for_the_advisory_lock_and_not_for_good(
    record: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600);"
            "fcntl.lockf(fd, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.read()",
            f"{record}-lock",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        naps: list[float] = []
        monkeypatch.setattr(database.time, "sleep", naps.append)
        store = Database(record)
        # A holder that was stopped: SQLite's own lock is enough, and this writer goes on.
        with store.transaction(patience=0.05) as connection:
            connection.execute("INSERT INTO run_summary (run_id) VALUES ('R')")
        store.release(patience=0.05)
        assert naps
        assert max(naps) <= 0.002
    finally:
        holder.communicate(timeout=10)
    assert read("SELECT run_id FROM run_summary") == [("R",)]


def test_a_batch_holds_the_lock_and_gives_it_back(record: Path) -> None:
    store = Database(record)
    probe = (
        "import fcntl, os, sys; fd = os.open(sys.argv[1], os.O_RDWR);\n"
        "try: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB); print('free')\n"
        "except OSError: print('held')"
    )

    def probed() -> str:
        asked = [sys.executable, "-c", probe, f"{record}-lock"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()

    with store.transaction():
        assert probed() == "held"
    assert probed() == "free"
    store.release()


def test_two_writers_of_one_process_take_turns(record: Path, read: Read) -> None:
    stores = [Database(record), Database(record)]

    def write(store: Database, first: int) -> None:
        for number in range(first, first + 50):
            with store.transaction() as connection:
                connection.execute("INSERT INTO run_summary (run_id) VALUES (?)", (str(number),))

    threads = [threading.Thread(target=write, args=(store, 100 * n)) for n, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.release()
    assert read("SELECT COUNT(*) FROM run_summary") == [(100,)]


@pytest.mark.parametrize(
    ("prepare", "told"),
    [
        (
            lambda record: record.write_bytes(b"no database at all, but long enough to be one" * 30),
            "not a SQLite database",
        ),
        (lambda record: record.mkdir(), "cannot be opened"),
        (lambda record: record.symlink_to(record.with_name("nowhere") / "x"), "its folder"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_do(record: Path, prepare: object, told: str) -> None:
    prepare(record)  # type: ignore[operator]
    with pytest.raises((sqlite3.Error, OSError)) as raised, Database(record).transaction():
        pass
    assert told in advice(raised.value)
    assert "RETROSPAN_DB" in advice(raised.value)


def test_without_advisory_locks_sqlites_own_serve(record: Path, read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    store = Database(record)
    with store.transaction() as connection:
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('R')")
    store.release()
    assert read("SELECT run_id FROM run_summary") == [("R",)]
