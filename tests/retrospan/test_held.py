"""A record that is read in the process that writes it: the writer's locks outlast every look at the file."""

import gc
import sqlite3
import subprocess
import sys

import pytest

from retrospan.record import Record, RecordError, read
from retrospan.runs import runs
from retrospan.summary import summarize
from retrospan_exporters import held
from retrospan_exporters.database import Database

from .records import beside

COUNT = "SELECT COUNT(*) FROM http_events"


def count_in_another_process(path):
    """What another program sees; as the last one to close a record it would clear the log away."""
    program = (
        f"import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(*c.execute({COUNT!r}).fetchone()); c.close()"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=30, check=True)
    return int(done.stdout)


def write(store, run_id="R"):
    with store.transaction() as connection:
        connection.execute("INSERT OR IGNORE INTO run_info (run_id, started_at) VALUES (?, 1)", (run_id,))
        connection.execute("INSERT INTO http_events (run_id, ts) VALUES (?, 1)", (run_id,))


def reading(path):
    read(path, runs)


def reading_on(path):
    Record.open(path).close()
    with Record.open(path) as outer, Record.open(path) as inner:
        assert outer.rows(COUNT) == inner.rows(COUNT)


def summing_up(path):
    summarize(path, "R")


@pytest.mark.parametrize("look", [reading, reading_on, summing_up])
def test_a_look_at_a_record_takes_no_lock_from_its_writer_in_the_same_process(path, look):
    store = Database(path)
    write(store)
    look(path)
    assert count_in_another_process(path) == 1
    assert f"{path.name}-wal" in beside(path)  # it is still the writer's, and nobody cleared it away
    write(store)
    look(path)
    assert count_in_another_process(path) == 2
    store.release()
    assert count_in_another_process(path) == 2
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


HOLDER = """
import sys
from retrospan_exporters.database import Database
store = Database(sys.argv[1])
with store.transaction() as connection:
    connection.execute("INSERT INTO http_events (run_id, ts) VALUES ('R', 1)")
print("written", flush=True)
sys.stdin.readline()
store.release()
"""


def test_one_reading_takes_no_lock_from_another_one(path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "written\n"
    with Record.open(path) as record:
        reading_on(path)
        holder.communicate("release\n", timeout=30)  # the last one but for us, who still read its log
        assert f"{path.name}-wal" in beside(path)
        assert record.rows(COUNT) == [(1,)]


def test_nothing_is_held_any_more_when_all_is_closed(path):
    gc.collect()  # what other tests left to it
    before = list(held._held)
    store = Database(path)
    write(store)
    reading_on(path)
    assert held.is_held(path)
    store.release()
    assert not held.is_held(path)
    with pytest.raises(RecordError):
        Record.open(path.with_name("no.sqlite"))
    path.write_text("no database")
    with pytest.raises(sqlite3.DatabaseError), store.transaction():
        pass
    assert held._held == before


def test_a_hold_ends_with_whoever_has_the_connection(path):
    store = Database(path)
    write(store)
    assert held.is_held(path)
    del store
    gc.collect()
    assert not held.is_held(path)
