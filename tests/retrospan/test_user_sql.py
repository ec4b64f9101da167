"""The queries of definition files: what they may do, how long, and what their rows must be."""

import sqlite3
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrospan.record import Record
from retrospan.slo.definitions import SLI, Query
from retrospan.slo.user_sql import QueryError, gather

from .records import RUN, START, making

BOUNDS = {"run_id": RUN, "date_from": START, "date_to": START + 3600}
EVENTS = "SELECT ts AS timestamp, elapsed_ms AS value, host FROM http_events"


def sli(**queries):
    return SLI(
        "mine",
        None,
        (),
        "the query gave no event",
        queries=tuple(
            Query(role, sql, file="slo.toml", line=4, column=7, path=f"slo.mine.{role}")
            for role, sql in queries.items()
        ),
    )


@pytest.fixture
def record(path):
    with making(path) as made:
        made.run()
        made.run("OTHER")
        hosts = [{"host": f"h{n % 3}", "elapsed_ms": n, "status": 500 if n % 5 == 0 else 200} for n in range(30)]
        made.add("http_events", *hosts)
        made.add("http_events", host="other", elapsed_ms=1, run_id="OTHER")
    with Record.open(path) as opened:
        opened.bind(RUN)
        yield opened


def rows(record, **queries):
    events = gather(record, sli(**queries), BOUNDS)
    return events, record.rows(f"SELECT * FROM ({events.text})")


def refusal(record, **queries):
    with pytest.raises(QueryError) as caught:
        gather(record, sli(**queries), BOUNDS)
    place, _, said = str(caught.value).partition(": slo.mine.")
    assert place == "slo.toml:4:7"
    return said.partition(": ")[2]


def test_a_query_sees_the_rows_of_its_run_and_its_bounds(record):
    events, found = rows(
        record,
        events="SELECT ts AS timestamp, elapsed_ms AS value, host, run_id, :date_to - :date_from AS span FROM http_events"
        " WHERE run_id = :run_id",
    )
    assert events.dimensions == ("host", "span")
    assert len(found) == 30
    assert found[4] == (START + 60, 4, "h1", RUN, 3600.0)


def test_good_and_total_are_events_whose_value_says_which(record):
    total = "SELECT ts AS timestamp, host, id FROM http_events"
    events, found = rows(record, good=f"{total} WHERE status < 500", total=total)
    assert events.dimensions == ("host",)
    counted = {}
    for row in found:
        key = row[events.columns.index("host")], row[events.columns.index("value")]
        counted[key] = counted.get(key, 0) + 1
    assert counted == {("h0", 1): 8, ("h1", 1): 8, ("h2", 1): 8, ("h0", 0): 2, ("h1", 0): 2, ("h2", 0): 2}


def test_equal_rows_of_good_and_total_are_as_many_as_they_are(record):
    total = "SELECT ts AS timestamp FROM http_events"
    _, found = rows(record, good=f"{total} WHERE status < 500", total=total)
    assert sorted(value for _, value in found) == [0] * 6 + [1] * 24


def test_bad_and_total_are_events_whose_value_is_1_for_the_bad(record):
    total = "SELECT ts AS timestamp, host FROM http_events"
    _, found = rows(record, bad=f"{total} WHERE status >= 500", total=total)
    assert sum(row[-1] for row in found) == 6
    assert len(found) == 30


def test_a_null_value_is_in_no_count_of_good_and_total(record):
    total = "SELECT ts AS timestamp, NULLIF(elapsed_ms, 3) AS value, id FROM http_events"
    _, found = rows(record, good=f"{total} WHERE elapsed_ms BETWEEN 1 AND 9", total=total)
    assert sorted(row[-1] for row in found) == [0] * 21 + [1] * 8


def test_a_good_event_that_the_total_lacks_is_an_error(record):
    said = refusal(
        record,
        good="SELECT ts + 1 AS timestamp FROM http_events",
        total="SELECT ts AS timestamp FROM http_events",
    )
    assert said == "30 of its rows are not among those of total, compared by timestamp"


def test_a_row_of_good_events_with_value_0_is_an_error(record):
    total = "SELECT ts AS timestamp, 0 AS value FROM http_events"
    assert refusal(record, good=total, total=total).startswith("column value: 0, although all its rows are counted")


@pytest.mark.parametrize(
    ("select", "said"),
    [
        ("ts AS moment, 1 AS value", "lacks the column timestamp: its columns are moment, value"),
        ("ts AS timestamp, host", "lacks the column value: its columns are timestamp, host"),
        ("ts AS timestamp, 1 AS value, 2 AS Value", "has the column value more than once"),
        ("host AS timestamp, 1 AS value", "row 1, column timestamp: text instead of seconds since 1970"),
        ("NULL AS timestamp, 1 AS value", "row 1, column timestamp: NULL instead of seconds since 1970"),
        ("ts AS timestamp, host AS value", "row 1, column value: text instead of a number or NULL"),
        ("ts AS timestamp, 9e999 AS value", "row 1, column value: a number out of range instead of a number or NULL"),
        (
            "ts AS timestamp, 1 AS value, 4 - elapsed_ms AS weight",
            "row 5, column weight: a number out of range instead of a number above 0",
        ),
        ("ts AS timestamp, 1 AS value, X'00' AS host", "row 1, column host: a blob, which tells nobody anything"),
    ],
)
def test_a_query_that_breaks_the_contract_says_which_column_in_which_line(record, select, said):
    assert refusal(record, events=f"SELECT {select} FROM http_events") == said


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM main.http_events", "not allowed: anything but one SELECT"),
        ("DELETE FROM http_events", "not allowed: anything but one SELECT"),
        ("CREATE TEMP TABLE mine (a)", "not allowed: anything but one SELECT"),
        ("DROP VIEW temp.http_events", "not allowed: anything but one SELECT"),
        ("ATTACH 'other.sqlite' AS other", "not allowed: anything but one SELECT"),
        ("PRAGMA user_version", "not allowed: anything but one SELECT"),
        ("COMMIT", "not allowed: anything but one SELECT"),
        ("SELECT * FROM pragma_table_info('http_events')", "not allowed: anything but one SELECT"),
        ("SELECT name AS timestamp, 1 AS value FROM sqlite_master", "not allowed: table sqlite_master"),
        ("SELECT load_extension('x') AS timestamp, 1 AS value", "not allowed: function load_extension"),
        ("SELECT 1 AS timestamp, length(randomblob(9)) AS value", "not allowed: function randomblob"),
        (f"{EVENTS}; {EVENTS}", "You can only execute one statement at a time."),
        ("SELECT ts AS timestamp, tss AS value FROM http_events", "no such column: tss"),
    ],
)
def test_a_query_may_read_and_nothing_else(record, path, sql, said):
    before = path.read_bytes()
    assert refusal(record, events=sql) == said
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == [path.name]


def test_a_bound_that_nobody_gives_is_named(record):
    assert ":since" in refusal(record, events=f"{EVENTS} WHERE ts > :since")


def test_a_query_that_takes_too_long_is_stopped(record):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1 AS timestamp, COUNT(*) AS value FROM n"
    slow = SLI("mine", None, (), "none", queries=(Query("events", endless, seconds=1, file="slo.toml"),))
    began = time.monotonic()
    with pytest.raises(QueryError, match="took longer than 1 s"):
        gather(record, slow, BOUNDS)
    assert time.monotonic() - began < 50  # not what ends a test that hangs


def test_endless_rows_are_stopped_too(record):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1 AS timestamp, i AS value FROM n"
    slow = SLI("mine", None, (), "none", queries=(Query("events", endless, seconds=1, file="slo.toml"),))
    with pytest.raises(QueryError, match="took longer than 1 s"):
        gather(record, slow, BOUNDS)


def test_a_text_may_not_grow_without_bounds(record):
    grown = "replace('" + "a" * 2000 + "', 'a', '" + "b" * 2000 + "')"
    assert refusal(record, events=f"SELECT 1 AS timestamp, length({grown}) AS value") == "string or blob too big"


def test_after_a_query_the_record_is_as_free_as_before(record):
    for sql in (EVENTS, "DROP TABLE main.http_events"):
        try:
            gather(record, sli(events=sql), BOUNDS)
        except QueryError:
            pass
        record.rows("CREATE TEMP TABLE free AS SELECT randomblob(2000000) AS a")
        record.rows("DROP TABLE free")
        assert record.connection.getlimit(sqlite3.SQLITE_LIMIT_LENGTH) > 1_000_000


@settings(max_examples=2 * settings.default.max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sql=st.text() | st.sampled_from([EVENTS, "SELECT", "\0", "SELECT ?1 AS timestamp", "-- nothing"]))
def test_whatever_stands_in_a_query_it_is_answered_or_refused(record, sql):
    said = ""
    try:
        gather(record, sli(events=sql), BOUNDS)
    except QueryError as error:
        said = str(error)
    assert "\n" not in said
