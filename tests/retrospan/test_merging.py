"""`retrospan merge`: every run of every record, apart from each other; or a reason and no file."""

import json
import sqlite3
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrospan.merging import _names, merge
from retrospan.record import RecordError, read
from retrospan_exporters import tables

from .commands import in_one_line, retrospan
from .records import RUN, START, beside, healthy, making


@pytest.fixture
def out(tmp_path):
    return tmp_path / "all.sqlite"


@pytest.fixture
def shards(tmp_path):
    """Makes a record for each list of (run id, status) rows."""

    def make(*contents):
        made = []
        for number, rows in enumerate(contents):
            made.append(tmp_path / f"shard{number}.sqlite")
            with making(made[-1]) as record:
                for run_id in sorted({run_id for run_id, _ in rows}):
                    record.run(run_id, started_at=START + number)
                    record.ended(run_id, http_429_ratio=0.25)
                for run_id, status in rows:
                    record.add("http_events", run_id=run_id, status=status, span_id=b"\x00" * 8, error="é")
        return made

    return make


def rows(path, query):
    connection = sqlite3.connect(path)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_the_shards_of_a_run_become_one_record_with_all_that_they_held(shards, out):
    first, second = shards([("A", 1), ("B", 2), ("A", 3)], [("C", 4)])
    finished = retrospan("merge", out, first, second)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == f"{out}: 4 rows of 3 runs from 2 records\n"
    names = ", ".join(column.name for column in tables.HTTP_EVENTS.inserted())
    for table, columns in (("http_events", names), ("run_info", "*"), ("run_summary", "*")):
        query = f"SELECT {columns} FROM {table}"
        assert rows(out, query) == rows(first, query) + rows(second, query)
    assert rows(out, "SELECT * FROM run_ranges ORDER BY 1") == [
        ("A", "http_events", 1, 3),
        ("B", "http_events", 2, 2),
        ("C", "http_events", 4, 4),
    ]
    assert rows(out, "PRAGMA integrity_check") == [("ok",)]
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert beside(out) == ["all.sqlite", "shard0.sqlite", "shard1.sqlite"]


def test_runs_of_the_same_id_stay_apart_and_that_is_told(shards, out):
    made = shards([("R", 1)], [("R", 2), ("R.2", 3)], [("R", 4)])
    finished = retrospan("merge", out, *made)
    assert finished.returncode == 0
    assert finished.stderr.splitlines() == [
        f"retrospan: {made[1]}: a run R is there already: this one is R.3",
        f"retrospan: {made[2]}: a run R is there already: this one is R.4",
    ]
    assert rows(out, "SELECT run_id, status FROM http_events ORDER BY id") == [
        ("R", 1),
        ("R.3", 2),
        ("R.2", 3),
        ("R.4", 4),
    ]
    assert rows(out, "SELECT run_id, started_at FROM run_info ORDER BY 2, 1") == [
        ("R", START), ("R.2", START + 1), ("R.3", START + 1), ("R.4", START + 2),
    ]  # fmt: skip
    assert rows(out, "SELECT run_id FROM run_summary ORDER BY 1") == [("R",), ("R.2",), ("R.3",), ("R.4",)]


RUN_IDS = st.sets(st.sampled_from(["R", "R.2", "R.3", "R.2.2", "S"]))


@settings(deadline=None)
@given(RUN_IDS, RUN_IDS)
def test_no_two_runs_ever_get_the_same_name_and_none_is_renamed_without_need(taken, run_ids):
    names = _names(sorted(run_ids), taken)
    assert set(names) == run_ids
    assert len(set(names.values())) == len(run_ids)
    assert not set(names.values()) & taken
    assert all(name == old or (old in taken and name.startswith(f"{old}.")) for old, name in names.items())


def test_the_verdict_on_a_run_is_that_of_its_own_record(path, out, shards):
    with making(path) as record:
        record.run()
        healthy(record)
    (other,) = shards([("R", 429)] * 1)
    merge(out, [other, path], print)
    ours, theirs = (
        json.loads(retrospan("slo", "--db", db, "--run", RUN, "--format", "json").stdout) for db in (out, path)
    )
    assert ours == theirs


def test_a_legacy_record_is_taken_and_what_belongs_to_no_run_is_counted(tmp_path, shards, out):
    legacy = tmp_path / "legacy.sqlite"
    with making(legacy, legacy=True) as record:
        record.connection.executemany(
            "INSERT INTO http_events (run_id, ts, status) VALUES (?, ?, 200)",
            [("old", START), (None, START), ("old", None), ("old", START + 1)],
        )
        record.connection.execute("INSERT INTO run_summary (run_id, yield_pct) VALUES ('old', 90)")
        record.connection.execute("INSERT INTO run_summary (run_id, yield_pct) VALUES ('old', 90)")
    finished = retrospan("merge", out, legacy, *shards([("R", 1)]))
    assert finished.returncode == 0
    assert finished.stdout == f"{out}: 3 rows of 2 runs from 2 records, 3 rows without a run or a time left out\n"
    assert rows(out, "SELECT run_id, ts, status, wire FROM http_events ORDER BY id") == [
        ("old", START, 200, None), ("old", START + 1, 200, None), ("R", START + 60, 1, None),
    ]  # fmt: skip
    assert rows(out, "SELECT run_id, yield_pct, dropped_rows FROM run_summary ORDER BY 1 DESC") == [
        ("old", 90.0, None),
        ("R", None, None),
    ]
    assert rows(out, "SELECT * FROM run_ranges ORDER BY 1 DESC") == [
        ("old", "http_events", 1, 2),
        ("R", "http_events", 3, 3),
    ]


def test_a_record_that_is_being_written_is_taken_as_it_stands_and_left_alone(shards, path, out):
    with making(path) as live:
        live.run("L")
        live.add("http_events", run_id="L", status=1)
        live.commit()
        live.add("http_events", run_id="L", status=2)
        before = beside(path)
        merge(out, [path, *shards([("R", 3)])], print)
        assert [name for name in beside(path) if name.startswith(path.name)] == before
    assert rows(out, "SELECT run_id, status FROM http_events ORDER BY id") == [("L", 1), ("R", 3)]
    assert [name for name in beside(path) if name.startswith(".")] == []


def test_what_changes_while_it_is_copied_is_copied_anew(shards, out, monkeypatch):
    first, second = shards([("A", 1)], [("B", 2)])
    import retrospan.merging as merging

    original, tries = merging._copy, []

    def copy(record, connection, table, names):
        count = original(record, connection, table, names)
        if table is tables.HTTP_EVENTS and record.name == str(second) and not tries:
            tries.append(1)
            changed = sqlite3.connect(second)
            changed.execute("INSERT INTO http_events (run_id, ts, status) VALUES ('B', 7.0, 3)")
            changed.commit()
            changed.close()
        return count

    monkeypatch.setattr(merging, "_copy", copy)
    merged = merge(out, [first, second], print)
    assert tries
    assert merged.rows["http_events"] == 3
    assert rows(out, "SELECT run_id, status FROM http_events ORDER BY id") == [("A", 1), ("B", 2), ("B", 3)]


@pytest.mark.parametrize(
    ("bad", "said"),
    [("no.sqlite", "no such file"), ("text.sqlite", "is not a SQLite database"), ("newer.sqlite", "upgrade retrospan"),
     ("other.sqlite", "but no record"), ("./shard0.sqlite", "is named twice")],
)  # fmt: skip
def test_one_that_cannot_be_taken_is_told_and_nothing_is_made(shards, out, tmp_path, bad, said):
    (good,) = shards([("R", 1)])
    (tmp_path / "text.sqlite").write_text("text " * 100)
    for name, script in (
        ("newer.sqlite", f"{tables.ddl()} PRAGMA user_version = 99"),
        ("other.sqlite", "CREATE TABLE t (x)"),
    ):
        connection = sqlite3.connect(tmp_path / name)
        connection.executescript(script)
        connection.close()
    before = beside(out)
    finished = retrospan("merge", out, good, f"{tmp_path}/{bad}")
    assert finished.returncode == 2
    assert said in in_one_line(finished)
    assert beside(out) == before


def test_a_record_that_is_there_is_left_as_it_is(shards, out):
    first, second = shards([("A", 1)], [("B", 2)])
    before = second.read_bytes()
    with pytest.raises(RecordError, match="is there already"):
        merge(second, [first, second], print)
    assert second.read_bytes() == before


def test_a_merged_record_is_written_on_as_any_other(shards, out):
    from retrospan_exporters.database import Database

    merge(out, shards([("A", 1)], [("B", 2)]), print)
    store = Database(out)
    with store.transaction() as connection:
        connection.execute("INSERT INTO http_events (run_id, ts, status) VALUES ('N', 9.0, 5)")
    store.release()
    assert read(out, lambda record: record.rows("SELECT id, run_id FROM http_events")) == [(1, "A"), (2, "B"), (3, "N")]
