"""The row of run_summary: written once, from the rows, NULL for what cannot be said."""

import sqlite3

import pytest

from retrospan.record import RecordError
from retrospan.slo.gate import judge_run
from retrospan.summary import summarize
from retrospan_exporters import tables

from .records import RUN, START, healthy, making, stored


def row(path):
    connection = sqlite3.connect(path)
    cursor = connection.execute("SELECT * FROM run_summary")
    names = [column[0] for column in cursor.description]
    rows = [dict(zip(names, found, strict=True)) for found in cursor]
    connection.close()
    assert len(rows) == 1
    return rows[0]


def test_a_run_is_summed_up_from_its_rows(path):
    with making(path) as record:
        record.run()
        healthy(record, 100)
        record.add("fallback_attempts", artifact_id="lost", outcome="no_pdf", ts=START + 30)
        record.add("http_events", *[{"status": 429}] * 25, wire=1)
        record.add("breaker_transitions", {"ts": START}, {"ts": START + 7200}, old_state="closed", new_state="open")
        healthy(record, 3, "another")
    assert summarize(path, RUN, dropped_rows=4) is True
    assert row(path) == {
        "run_id": RUN,
        "started_at": START,
        "finished_at": START + 7200,
        "artifacts_total": 101,
        "artifacts_success": 100,
        "yield_pct": 100 * 100 / 101,
        "ttfp_p50_ms": 900.0,
        "ttfp_p95_ms": 900.0,
        "cache_hit_pct": 75.0,
        "rate_delay_p95_ms": 0.0,
        "http_429_ratio": 25 / 150,
        "breaker_open_events": 2,
        "dedupe_saved_mb": 0.0,
        "corruption_count": 0,
        "dropped_rows": 4,
    }


def test_bytes_saved_are_those_of_hardlinks_copies_and_skips(path):
    actions = {"hardlink": 2**20, "copy": 2**19, "skipped": 2**18, "none": 2**30, None: 2**30}
    with making(path) as record:
        record.add(
            "downloads", *[{"dedupe_action": action, "content_length": size} for action, size in actions.items()]
        )
    summarize(path, RUN)
    assert row(path)["dedupe_saved_mb"] == 1.75


def test_what_cannot_be_said_is_null_never_0(path):
    with making(path) as record:
        record.run()
        record.add("fallback_attempts", artifact_id="a", outcome="success", elapsed_ms=5)
        record.add("http_events", {"from_cache": 1}, {"from_cache": None}, role="metadata", method="GET")
        record.add("rate_events", role="metadata", action="block")
    summarize(path, RUN)
    summed = row(path)
    unknown = ["yield_pct", "cache_hit_pct", "rate_delay_p95_ms", "http_429_ratio", "corruption_count", "dropped_rows"]
    assert {name: summed[name] for name in unknown} == dict.fromkeys(unknown)
    assert summed["artifacts_total"] == 1


def test_no_breaker_seen_is_null_openings(path):
    with making(path, legacy=True) as record:
        record.add("http_events", ranged=False, status=200)
    summarize(path, RUN)
    assert row(path)["breaker_open_events"] is None


def test_a_summary_is_written_once(path):
    with making(path) as record:
        record.run()
        record.add("downloads", stored())
    assert summarize(path, RUN, dropped_rows=1) is True
    assert summarize(path, RUN, dropped_rows=9) is False
    assert row(path)["dropped_rows"] == 1


def test_a_summary_is_written_once_where_the_table_has_no_key(path):
    with making(path, legacy=True) as record:
        record.add("http_events", ranged=False, status=200, ts=START)
    assert summarize(path, RUN) is True
    assert summarize(path, RUN) is False
    assert (row(path)["started_at"], row(path)["http_429_ratio"]) == (START, 0.0)


def test_a_connection_that_writes_the_record_can_sum_it_up(path):
    with making(path) as record:
        record.run()
        healthy(record, 30)
        record.commit()
        record.connection.isolation_level = None
        assert summarize(record.connection, RUN, finished_at=START + 99) is True
        # The names mean the tables again.
        record.add("http_events")
    assert (row(path)["artifacts_success"], row(path)["finished_at"]) == (30, START + 99)


def test_a_run_without_rows_ends_when_it_began(path):
    with making(path) as record:
        record.run()
    summarize(path, RUN)
    assert (row(path)["finished_at"], row(path)["artifacts_total"]) == (START, 0)


def test_a_run_that_is_not_there_is_not_summed_up(path):
    with making(path) as record:
        record.run()
    with pytest.raises(RecordError, match="no run 'else'"):
        summarize(path, "else")


def test_the_gate_reports_the_same_columns_without_reading_the_row(path):
    with making(path) as record:
        record.run()
        healthy(record, 30)
        record.ended(artifacts_total=999, finished_at=START + 50, dropped_rows=3)
    summary = judge_run(path).summary
    assert tuple(summary) == tables.RUN_SUMMARY.names()
    assert (summary["artifacts_total"], summary["finished_at"], summary["dropped_rows"]) == (30, START + 50, 3)
