"""`retrospan prune`: what is old and archived goes, nothing else, while writers write."""

import random
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrospan.archive import pruning
from retrospan_exporters import tables
from retrospan_exporters.database import Database

from .archives import archived, command, files, fill, ids, recorded
from .records import making, now

OLD, NEW = 40 * 86_400.0, 86_400.0
EVENTS = [table.name for table in tables.EVENT_TABLES]


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def mixed(path: Path, rows: int = 50) -> None:
    """A run of 40 days ago, complete, and one of yesterday."""
    with making_on(path) as record:
        for run_id, age in (("OLD", OLD), ("NEW", NEW)):
            record.run(run_id, started_at=now() - age)
            for table in EVENTS:
                record.add(table, *[{}] * rows, run_id=run_id, ts=now() - age)
        record.ended("OLD", started_at=now() - OLD)


def making_on(path: Path):
    """As the recorder makes it, so that free pages can be given back."""
    database = Database(path)
    with database.transaction():
        pass
    database.release()
    return making(path, exists=True)


def test_old_archived_rows_go_and_everything_else_stays(path, archive):
    mixed(path)
    command("parquet", "--db", path, "--out", archive)
    before = {table: archived(archive, table) for table in tables.EVENT_TABLES}
    result = command("prune", "--db", path, "--older-than", "30d", "--archive", archive)
    assert result.exit_code == 0, result.stderr
    assert "50 http_events" in result.stdout
    for table in EVENTS:
        assert query(path, f"SELECT DISTINCT run_id, COUNT(*) FROM {table}") == [("NEW", 50)]
    assert query(path, "SELECT run_id FROM run_info") == [("NEW",)]
    assert query(path, "SELECT run_id FROM run_summary") == []
    assert set(query(path, "SELECT run_id, first_id, last_id FROM run_ranges")) == {("NEW", 51, 100)}
    assert {table: archived(archive, table) for table in tables.EVENT_TABLES} == before
    assert {row[0] for row in archived(archive, tables.RUN_SUMMARY)} == {"OLD"}
    assert "nothing new; 0 files written" in command("parquet", "--db", path, "--out", archive).stdout


def test_a_complete_run_goes_whole_or_not_at_all(path, archive):
    with making_on(path) as record:
        record.run("LONG", started_at=now() - OLD)
        record.add("http_events", *[{"ts": now() - OLD}, {"ts": now() - NEW}] * 5, run_id="LONG")
        record.ended("LONG", finished_at=now() - NEW)
        record.run("NEXT", started_at=now())
        record.add("http_events", run_id="NEXT", ts=now())
    command("parquet", "--db", path, "--out", archive)
    assert "nothing gone" in command("prune", "--db", path, "--older-than", "30d", "--archive", archive).stdout
    assert (
        "10 http_events gone, 1 runs"
        in command("prune", "--db", path, "--older-than", "1h", "--archive", archive).stdout
    )
    assert query(path, "SELECT COUNT(*) FROM pruned_rows") == [(0,)]


def test_of_a_run_that_goes_on_the_gate_says_how_many_rows_are_gone(path, archive):
    with making_on(path) as record:
        record.run("DAEMON", started_at=now() - OLD)
        record.add("http_events", *[{"ts": now() - OLD}] * 7, *[{"ts": now() - NEW}] * 2, run_id="DAEMON")
    command("parquet", "--db", path, "--out", archive)
    for age in ("35d", "30d"):
        command("prune", "--db", path, "--older-than", age, "--archive", archive)
    assert query(path, "SELECT run_id, row_count FROM pruned_rows") == [("DAEMON", 7)]
    told = command("slo", "--db", path).stderr
    assert (
        "run DAEMON had 7 rows pruned: its numbers are those of what is left (its archive, if there is one, has all)"
        in told
    )
    assert "pruned" not in command("slo", "--from", archive, "--run", "DAEMON").stderr


def test_what_came_since_the_last_export_stays_however_old(path, archive):
    mixed(path)
    command("parquet", "--db", path, "--out", archive)
    with making(path, exists=True) as record:
        record.add("http_events", {}, {}, run_id="OLD", ts=now() - OLD)
        record.add("http_events", run_id="NEW", ts=now())
    result = command("prune", "--db", path, "--older-than", "30d", "--archive", archive)
    assert "2 old rows stay" in result.stderr
    assert query(path, "SELECT COUNT(*) FROM http_events WHERE run_id = 'OLD'") == [(2,)]
    assert query(path, "SELECT run_id FROM run_summary") == [("OLD",)]


def test_rows_whose_file_is_gone_from_the_archive_stay(path, archive):
    mixed(path)
    command("parquet", "--db", path, "--out", archive)
    for file in files(archive):
        if "downloads" in str(file):
            file.unlink()
    command("prune", "--db", path, "--older-than", "30d", "--archive", archive)
    assert query(path, "SELECT COUNT(*) FROM downloads") == [(100,)]
    assert query(path, "SELECT COUNT(*) FROM http_events") == [(50,)]


def test_rows_of_another_record_in_the_same_archive_prove_nothing(path, archive, tmp_path):
    mixed(path)
    other = tmp_path / "other.sqlite"
    mixed(other)
    command("parquet", "--db", other, "--out", archive)
    refused = command("prune", "--db", path, "--older-than", "30d", "--archive", archive)
    assert refused.exit_code == 2
    assert "retrospan parquet" in refused.stderr
    assert query(path, "SELECT COUNT(*) FROM http_events") == [(100,)]


def test_a_row_that_is_another_than_the_archives_of_its_number_stays(path, archive):
    mixed(path)
    command("parquet", "--db", path, "--out", archive)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE http_events SET ts = ts + 1 WHERE id = 7")
        connection.execute("UPDATE http_events SET run_id = 'X' WHERE id = 8")
        connection.commit()
    command("prune", "--db", path, "--older-than", "30d", "--archive", archive)
    assert query(path, "SELECT id FROM http_events WHERE id <= 50") == [(7,), (8,)]


def test_the_newest_row_of_each_table_stays_so_that_no_number_is_used_twice(path, archive):
    with making(path) as record:
        record.run("OLD", started_at=now() - OLD)
        for table in EVENTS:
            record.add(table, {}, {}, {}, run_id="OLD", ts=now() - OLD)
        record.ended("OLD")
    command("parquet", "--db", path, "--out", archive)
    command("prune", "--db", path, "--older-than", "30d", "--archive", archive)
    for table in EVENTS:
        assert query(path, f"SELECT id FROM {table}") == [(3,)]
    assert query(path, "SELECT run_id FROM run_info") == [("OLD",)]
    with making(path, exists=True) as record:
        record.add("http_events", run_id="OLD")
    assert "1 http_events" in command("parquet", "--db", path, "--out", archive).stdout
    assert set(ids(archive).values()) == {1}


def test_without_an_archive_nothing_goes_unless_that_is_said(path):
    mixed(path)
    refused = command("prune", "--db", path, "--older-than", "30d")
    assert refused.exit_code == 2
    assert "--unarchived-too" in refused.stderr
    assert query(path, "SELECT COUNT(*) FROM http_events") == [(100,)]
    assert command("prune", "--db", path, "--older-than", "30d", "--unarchived-too").exit_code == 0
    assert query(path, "SELECT DISTINCT run_id FROM http_events") == [("NEW",)]
    assert query(path, "SELECT run_id FROM run_info") == [("NEW",)]


def test_a_dry_run_deletes_nothing(path, archive):
    mixed(path)
    command("parquet", "--db", path, "--out", archive)
    result = command("prune", "--db", path, "--older-than", "30d", "--archive", archive, "--dry-run")
    assert "50 http_events" in result.stdout
    assert "would go" in result.stdout
    assert query(path, "SELECT COUNT(*) FROM http_events") == [(100,)]


@pytest.mark.parametrize("age", ["", "month", "-3d", "3"])
def test_an_age_that_is_none_is_wrong_usage(path, archive, age):
    mixed(path, 2)
    assert command("prune", "--db", path, "--older-than", age, "--archive", archive).exit_code == 2


def test_a_missing_record_is_told_and_not_made(path, archive):
    assert command("prune", "--db", path, "--older-than", "1d", "--archive", archive).exit_code == 2
    assert command("prune", "--db", path, "--older-than", "1d", "--unarchived-too").exit_code == 2
    assert not path.exists()


def test_the_space_is_given_back_to_the_disk(path, archive):
    mixed(path, 3000)
    command("parquet", "--db", path, "--out", archive)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    command("prune", "--db", path, "--older-than", "30d", "--archive", archive)
    assert path.stat().st_size < 0.6 * before
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_writer_goes_on_while_rows_go_and_loses_none(path, archive):
    mixed(path, 3000)
    command("parquet", "--db", path, "--out", archive)
    done, written = threading.Event(), []

    def write() -> None:
        database = Database(path)
        while not done.is_set():
            with database.transaction() as connection:
                connection.execute("INSERT INTO http_events (run_id, ts) VALUES ('LIVE', ?)", (time.time(),))
            written.append(1)
            time.sleep(0.001)
        database.release()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        # The database's locks are the process's, so that a prune in the writer's own would be none of another's.
        prune = [sys.executable, "-m", "retrospan", "prune", "--db", path, "--older-than", "30d", "--archive", archive]
        assert subprocess.run(prune, check=False).returncode == 0
    finally:
        done.set()
        writer.join()
    assert len(written) > 20
    assert query(path, "SELECT COUNT(*) FROM http_events WHERE run_id = 'LIVE'") == [(len(written),)]
    assert query(path, "SELECT COUNT(*) FROM http_events WHERE run_id = 'OLD'") == [(0,)]


@settings(max_examples=2)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 3), step=st.sampled_from((1, 7, 1000)))
def test_record_and_archive_together_always_hold_every_row(tmp_path_factory, seed, cut, step):
    """Whatever is exported, written and pruned in turn: nothing is lost, the record keeps what is new, ranges hold."""
    path = tmp_path_factory.mktemp("prune") / "telemetry.sqlite"
    archive = path.with_name("archive")
    rng = random.Random(seed)
    everything: dict[str, set[object]] = {table.name: set() for table in tables.EVENT_TABLES}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "_STEP", step)
        for turn in range(2):
            with making(path, exists=turn > 0) as record:
                fill(record, rng, run_id=f"R{turn}", rows=40)
            with closing(sqlite3.connect(path)) as connection:
                for table in tables.EVENT_TABLES:
                    everything[table.name] |= set(recorded(connection, table))
                (moment,) = connection.execute("SELECT MIN(ts) FROM http_events").fetchone()
            if turn == 0 or rng.random() < 0.5:
                command("parquet", "--db", path, "--out", archive)
            age = time.time() - (moment or 0) - cut * 86_400
            assert command("prune", "--db", path, "--older-than", f"{age}s", "--archive", archive).exit_code == 0
    with closing(sqlite3.connect(path)) as connection:
        for table in tables.EVENT_TABLES:
            left = set(recorded(connection, table))
            assert left | set(archived(archive, table)) == everything[table.name]
            for run_id, first, last in connection.execute(
                "SELECT run_id, first_id, last_id FROM run_ranges WHERE table_name = ?", (table.name,)
            ).fetchall():
                outside = f"SELECT COUNT(*) FROM {table.name} WHERE run_id = ? AND id NOT BETWEEN ? AND ?"
                assert connection.execute(outside, (run_id, first, last)).fetchone() == (0,)
