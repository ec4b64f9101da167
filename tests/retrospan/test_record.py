"""Opening a record: read-only, one state of it, nothing left behind; errors for people."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from retrospan.record import Record, RecordError, read
from retrospan.runs import runs
from retrospan_exporters import tables

from .records import RUN, beside, making

COUNT = "SELECT COUNT(*) FROM http_events"


@pytest.fixture
def record(path):
    with making(path) as record:
        record.add("http_events", *[{"status": 200}] * 3)
    return path


def listing(path: Path) -> dict[str, tuple[int, int]]:
    """What lies in a record's directory; a log's index may be touched by readers, but must not come or go."""
    return {
        file.name: (0, 0) if file.name.endswith("-shm") else (file.stat().st_size, file.stat().st_mtime_ns)
        for file in path.parent.iterdir()
    }


def counted(path: Path, run_id: str | None = RUN) -> int:
    with Record.open(path) as record:
        record.bind(run_id)
        return record.rows(COUNT)[0][0]


def refused(path: Path) -> str:
    before = listing(path)
    with pytest.raises(RecordError) as raised:
        Record.open(path)
    assert listing(path) == before
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_a_missing_file_is_told_and_not_created(path):
    assert "no such file" in refused(path)


def test_a_directory_is_told(tmp_path):
    (tmp_path / "telemetry.sqlite").mkdir()
    assert "is not a file" in refused(tmp_path / "telemetry.sqlite")


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\x00", b"PK\x03\x04 a zip archive, longer than a header"])
def test_a_file_that_is_not_sqlite_is_told(path, content):
    path.write_bytes(content)
    assert "is not a SQLite database" in refused(path)


def test_a_corrupt_database_is_told(path):
    path.write_bytes(b"SQLite format 3\x00" + b"\x10\x00\x01\x01" + b"\xff" * 5000)
    assert "cannot be read" in refused(path)


def test_a_database_of_somebody_else_is_told(path):
    connection = sqlite3.connect(path)
    # Browsers keep a table of this name.
    connection.execute("CREATE TABLE downloads (id INTEGER PRIMARY KEY, url TEXT)")
    connection.close()
    assert "no record" in refused(path)


def test_a_record_of_a_newer_schema_is_told(record):
    connection = sqlite3.connect(record)
    connection.execute(f"PRAGMA user_version = {tables.SCHEMA_VERSION + 1}")
    connection.close()
    assert "upgrade retrospan" in refused(record)


def test_a_file_that_may_not_be_read_is_told(path, monkeypatch):
    # Root may read everything, so the refusal itself is what is replaced.
    path.write_bytes(b"")

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in refused(path)


def test_a_closed_record_is_left_as_it_was(record):
    before = listing(record)
    assert list(before) == ["telemetry.sqlite"]
    assert counted(record) == 3
    assert listing(record) == before


def test_a_live_record_is_left_as_it_was_and_its_log_is_read(record):
    writer = sqlite3.connect(record, isolation_level=None)
    writer.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (RUN,))
    before = listing(record)
    assert {"telemetry.sqlite-wal", "telemetry.sqlite-shm"} < set(before)
    assert counted(record) == 4
    assert listing(record) == before
    writer.close()


def test_a_killed_writers_log_is_read_and_left(record, path):
    killed = path.parent / "killed"
    writer = sqlite3.connect(record, isolation_level=None)
    writer.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (RUN,))
    shutil.copytree(path.parent, killed)
    writer.close()
    before = listing(killed / "telemetry.sqlite")
    assert counted(killed / "telemetry.sqlite") == 4
    assert listing(killed / "telemetry.sqlite") == before


def test_a_copied_log_without_its_index_is_read_and_left(record, path):
    copy = path.parent / "copy"
    copy.mkdir()
    writer = sqlite3.connect(record, isolation_level=None)
    writer.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (RUN,))
    for name in ("telemetry.sqlite", "telemetry.sqlite-wal"):
        shutil.copy(path.parent / name, copy)
    writer.close()
    before = listing(copy / "telemetry.sqlite")
    assert counted(copy / "telemetry.sqlite") == 4
    assert listing(copy / "telemetry.sqlite") == before


def test_a_link_to_a_live_record_reads_the_log_beside_the_file(record, tmp_path):
    writer = sqlite3.connect(record, isolation_level=None)
    writer.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (RUN,))
    link = tmp_path / "elsewhere"
    link.mkdir()
    (link / "latest.sqlite").symlink_to(record)
    assert counted(link / "latest.sqlite") == 4
    assert beside(link / "latest.sqlite") == ["latest.sqlite"]
    writer.close()


def test_a_path_may_hold_what_a_uri_reserves(tmp_path):
    path = tmp_path / "a?b#c%20d &=.sqlite"
    with making(path) as record:
        record.add("http_events")
    assert counted(path) == 1


def test_a_record_is_one_state_while_its_writer_goes_on(record):
    writer = sqlite3.connect(record, isolation_level=None)
    writer.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (RUN,))
    with Record.open(record) as reading:
        assert reading.rows(COUNT) == [(4,)]
        writer.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (RUN,))
        assert reading.rows(COUNT) == [(4,)]
        reading.bind(RUN)
        assert reading.rows(COUNT) == [(4,)]
    writer.close()


def test_a_writer_that_comes_while_a_closed_record_is_read_makes_it_read_again(record):
    seen = []

    def work(reading):
        before = reading.rows(COUNT)[0][0]
        if not seen:
            writer = sqlite3.connect(record)
            writer.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (RUN,))
            writer.commit()
            writer.close()  # the last one out moves the log into the file
        seen.append(before)
        return before

    assert read(record, work) == 4
    assert seen == [3, 4]


def test_a_writer_that_comes_while_a_closed_record_is_opened_makes_it_opened_again(record, monkeypatch):
    whole, connect = record.read_bytes(), sqlite3.connect

    def amid_a_write(*arguments, **options):
        if record.read_bytes() == whole:
            record.write_bytes(whole[:100] + bytes(len(whole) - 100))
            return connect(*arguments, **options)
        record.write_bytes(whole)
        return connect(*arguments, **options)

    monkeypatch.setattr("retrospan.record.sqlite3.connect", amid_a_write)
    assert read(record, lambda reading: reading.rows(COUNT)) == [(3,)]


def test_a_record_that_never_comes_to_rest_is_told(record):
    def work(_reading):
        os.utime(record)

    with pytest.raises(RecordError, match="changed again and again"):
        read(record, work)


def test_nothing_can_be_written(record):
    with Record.open(record) as reading, pytest.raises(RecordError, match=r"readonly|read-only"):
        reading.rows("DELETE FROM http_events")


def test_a_bound_name_means_the_rows_of_one_run(path):
    with making(path) as record:
        record.add("http_events", run_id="A")
        record.add("http_events", run_id="B")
        record.add("http_events", {}, {}, run_id="A")
    assert [counted(path, run_id) for run_id in ("A", "B", "C", None)] == [3, 1, 0, 0]


def test_binding_again_means_another_run(path):
    with making(path) as record:
        record.add("downloads", run_id="A")
        record.add("downloads", {}, {}, run_id="B")
    with Record.open(path) as reading:
        reading.bind("A")
        assert reading.rows("SELECT COUNT(*) FROM downloads") == [(1,)]
        reading.bind("B")
        assert reading.rows("SELECT COUNT(*) FROM downloads") == [(2,)]
        reading.release()
        assert reading.rows("SELECT COUNT(*) FROM downloads") == [(3,)]


def test_a_run_is_looked_for_within_its_range_only(path):
    with making(path) as record:
        for run_id in ("A", "B", "C"):
            record.add("http_events", {}, {}, run_id=run_id)
    with Record.open(path) as reading:
        assert reading.where("http_events", "B").endswith("id BETWEEN 3 AND 4")


def test_rows_past_every_range_are_never_missed(path):
    with making(path) as record:
        record.add("http_events", {}, {}, run_id="A")
        record.add("http_events", run_id="A", ranged=False)
        record.add("http_events", run_id="B")
        record.add("http_events", run_id="A", ranged=False)
    assert counted(path, "A") == 4


def test_a_run_without_a_range_is_never_missed(path):
    with making(path) as record:
        record.add("http_events", run_id="A")
        record.add("http_events", run_id="foreign", ranged=False)
        record.add("http_events", run_id="A")
    assert counted(path, "foreign") == 1


def test_a_legacy_database_reads_as_if_the_added_columns_were_null(path):
    with making(path, legacy=True) as record:
        record.add("http_events", ranged=False, status=200)
    before = listing(path)
    with Record.open(path) as reading:
        reading.bind(RUN)
        assert reading.rows("SELECT status, wire, hop_last, trace_id FROM http_events") == [(200, None, None, None)]
        assert reading.rows("SELECT COUNT(*) FROM breaker_rejections") == [(0,)]
    assert listing(path) == before


def test_a_column_that_another_tool_added_stays(path):
    with making(path) as record:
        record.connection.execute('ALTER TABLE http_events ADD COLUMN "their ""own""" TEXT')
        record.add("http_events")
        record.connection.execute('UPDATE http_events SET "their ""own""" = \'x\'')
    with Record.open(path) as reading:
        reading.bind(RUN)
        assert reading.rows('SELECT "their ""own""" FROM http_events') == [("x",)]


@pytest.mark.parametrize("run_id", ["'; DROP TABLE http_events; --", "it's", "a\x00b", "é\u202e", '"'])
def test_a_hostile_run_id_is_only_a_name(path, run_id):
    with making(path) as record:
        record.add("http_events", run_id=run_id)
        record.add("http_events", run_id="A")
    assert counted(path, run_id) == 1


def test_text_that_is_not_utf8_does_not_stop_the_reading(path):
    with making(path) as record:
        record.add("http_events")
        record.connection.execute("UPDATE http_events SET host = CAST(X'ff41' AS TEXT)")
    with Record.open(path) as reading:
        assert reading.rows("SELECT host FROM http_events") == [("\ufffdA",)]


def test_the_log_of_a_writer_that_has_just_come_is_not_cleared_away(path):
    with making(path) as record:
        record.run()
    # As SQLite opens a record: first the log, empty, and a moment later the log's index.
    log = path.with_name(f"{path.name}-wal")
    log.touch()
    assert [run.run_id for run in read(path, runs)] == [RUN]
    assert log.exists()
    assert beside(path) == [path.name, log.name]


def test_nor_is_one_that_came_while_a_log_without_index_was_opened(record, path, monkeypatch):
    copy = path.parent / "copy"
    copy.mkdir()
    writer = sqlite3.connect(record, isolation_level=None)
    writer.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (RUN,))
    for name in ("telemetry.sqlite", "telemetry.sqlite-wal"):
        shutil.copy(path.parent / name, copy)
    writer.close()
    log, connect = copy / "telemetry.sqlite-wal", sqlite3.connect

    def newcomer_first(*arguments, **options):
        log.unlink()
        log.touch()
        return connect(*arguments, **options)

    monkeypatch.setattr("retrospan.record.sqlite3.connect", newcomer_first)
    with pytest.raises(RecordError, match="try again"):
        read(copy / "telemetry.sqlite", runs)
    assert log.exists()
