"""`retrospan trend`: every period is judged as `retrospan slo` would judge it, on a record and on an archive alike."""

import csv
import io
import json
import random

import pytest

from .archives import command, fill
from .records import START, healthy, making

DAY = 86_400.0
FIRST = "2025-10-09"


@pytest.fixture
def record(path):
    """Three days with 429s on the second, a gap of two days, and one more; in two runs."""
    with making(path) as record:
        for number, (day, bad) in enumerate(((0, 0), (1, 30), (2, 2), (5, 1))):
            run_id = "A" if number < 2 else "B"
            if number in (0, 2):
                record.run(run_id, started_at=START + day * DAY)
            rows = [{"status": 429 if place < bad else 200, "wire": 1} for place in range(100)]
            record.add("http_events", *rows, run_id=run_id, ts=START + day * DAY)
    return path


def told(*arguments):
    result = command("trend", *arguments, "--format", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_trend_by_day_has_each_day_and_the_gap_between(record):
    found = told("http_429", "--db", record, "--to", "2025-10-15")
    assert [(one["from"][:10], one["value"], one["total"], one["verdict"]) for one in found["periods"]] == [
        ("2025-10-09", 0.0, 100, "insufficient"),
        ("2025-10-10", 0.3, 100, "fail"),
        ("2025-10-11", 0.02, 100, "insufficient"),
        ("2025-10-12", None, 0, "no_data"),
        ("2025-10-13", None, 0, "no_data"),
        ("2025-10-14", 0.01, 100, "insufficient"),
    ]


def test_a_trend_by_week_begins_on_mondays(record):
    found = told("http-429", "--db", record, "--by", "week", "--to", "2025-10-20")
    assert [(one["from"], one["to"][:10], one["total"]) for one in found["periods"]] == [
        ("2025-10-06T00:00:00Z", "2025-10-13", 300),
        ("2025-10-13T00:00:00Z", "2025-10-20", 100),
    ]


def test_budgets_are_those_of_long_windows_across_runs(record):
    found = told("http_429", "--db", record, "--to", "2025-10-15", "--window", "4d", "--window", "28d")
    windows = {
        one["window"]: (one["total"], one["budget"]["bad"], one["budget"]["allowed"]) for one in found["windows"]
    }
    assert windows == {"4d": (200, 3.0, 4.0), "28d": (400, 33.0, 8.0)}
    assert [one["budget"]["consumed"] for one in found["windows"]] == [0.75, 4.125]
    assert [one["window"] for one in told("http_429", "--db", record)["windows"]] == ["28d", "90d"]


def test_each_period_is_what_slo_says_of_it_and_of_an_archive_the_same(path, tmp_path):
    with making(path) as record:
        fill(record, random.Random(5), run_id="R0", rows=400, processes=1)
        healthy(record, 40)
    archive = tmp_path / "archive"
    assert command("parquet", "--db", path, "--out", archive).exit_code == 0
    for name in ("yield", "breaker_opens"):
        here = told(name, "--db", path, "--to", "2025-10-14")
        assert here == told(name, "--from", archive, "--to", "2025-10-14")
        for one in here["periods"]:
            judged = command("slo", "--db", path, "--from", one["from"], "--to", one["to"], "--format", "json")
            slo = next(slo for slo in json.loads(judged.stdout)["slos"] if slo["name"] == name)
            told_by_both = ("verdict", "value", "good", "total", "unknown")
            assert {key: one[key] for key in told_by_both} == {key: slo[key] for key in told_by_both}


def test_the_first_period_has_the_rows_before_its_first_artifacts_last(path):
    """An artifact is stored before its attempt ends, and one may begin before another that ends first."""
    with making(path) as record:
        record.run(started_at=START)
        stored = {"artifact_id": "a", "sha256": "0" * 64, "final_path": "a.pdf", "content_length": 1}
        record.add("downloads", stored, ts=START + 1)
        record.add("fallback_attempts", {"artifact_id": "b", "outcome": "error"}, ts=START)
        record.add("fallback_attempts", {"artifact_id": "a", "outcome": "success"}, ts=START + 2)
        record.add("fallback_attempts", {"artifact_id": "b", "outcome": "error"}, ts=START + 3)
    (period,) = told("yield", "--db", path, "--to", "2025-10-10")["periods"]
    assert (period["from"], period["good"], period["total"]) == ("2025-10-09T00:00:00Z", 1, 2)


def test_a_trend_is_of_all_runs_and_offers_none():
    assert "--run" not in command("trend", "--help").stdout


def test_csv_has_the_same_numbers(record):
    arguments = ("http_429", "--db", record, "--to", "2025-10-15")
    lines = list(csv.DictReader(io.StringIO(command("trend", *arguments, "--format", "csv").stdout)))
    expected = told(*arguments)["periods"]
    assert [line["verdict"] for line in lines] == [one["verdict"] for one in expected]
    assert [line["value"] for line in lines] == ["" if one["value"] is None else str(one["value"]) for one in expected]


def test_the_chart_shows_value_threshold_events_and_budget(record):
    lines = command("trend", "http_429", "--db", record, "--to", "2025-10-15").stdout.splitlines()
    assert lines[0] == "http_429 by day, asked <= 2 %"
    assert lines[2].startswith("2025-10-10 ##|#####")
    assert lines[2].endswith("30 %       100  fail")
    assert lines[-2].startswith("last 28d: 8.25 %, fail, 412 % of the budget spent (33 bad of 8 allowed, -25 left)")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nothing",), "did you mean"),
        (("yield", "--run", "A"), "No such option"),
        (("yield", "--window", "long"), "--window"),
        (("yield",), "has no event of yield"),
        (("http_429", "--from", "1980-01-01"), "more than 3700 periods"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_to_do(record, arguments, said):
    refused = command("trend", *arguments, "--db", record)
    assert refused.exit_code == 2
    assert said in refused.stderr
