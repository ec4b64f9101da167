"""Which rows are judged: by run, by runs, by time, and by an objective's own window."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrospan.record import RecordError
from retrospan.slo.definitions import DEFAULTS, Window
from retrospan.slo.gate import Choice, judge
from retrospan.slo.windows import Span, duration, moment, promised

from .commands import in_one_line, retrospan
from .records import RUN, START, making

HTTP = DEFAULTS["http_429"]


@pytest.fixture
def sends(path):
    """Three runs of ten seconds each, 1 000 s apart, a send a second: all 200, all 429, half."""
    with making(path) as record:
        for number, run in enumerate(("one", "two", "three")):
            begin = START + 1000 * number
            record.run(run, started_at=begin, layers="http")
            statuses = [200 if (number, n % 2) in ((0, 0), (0, 1), (2, 0)) else 429 for n in range(10)]
            record.add("http_events", *[{"ts": begin + n, "status": s} for n, s in enumerate(statuses)], run_id=run)
            record.ended(run, finished_at=begin + 10)
    return path


def counts(path, *run_ids, first=None, last=None, slo=HTTP, now=START + 3000):
    report = judge(path, Choice(run_ids, Span(first, last), now), [slo])
    (result,) = report.results
    return [run.run_id for run in report.scope.runs], result.sample.good, result.sample.total


@pytest.mark.parametrize(
    ("runs", "found"),
    [
        (["one"], (["one"], 10, 10)),
        (["latest"], (["three"], 5, 10)),
        ([], (["three"], 5, 10)),
        (["one", "three"], (["one", "three"], 15, 20)),
        (["three", "latest", "three"], (["three"], 5, 10)),
    ],
)
def test_named_runs_are_judged_together_each_once(sends, runs, found):
    assert counts(sends, *runs) == found


@pytest.mark.parametrize(
    ("first", "last", "found"),
    [
        (START, START + 10_000, (["three", "two", "one"], 15, 30)),
        (START + 1000, None, (["three", "two"], 5, 20)),
        (None, START + 1000, (["one"], 10, 10)),
        (START + 5, START + 1005, (["two", "one"], 5, 10)),
        (START + 1009, START + 1010, (["two"], 0, 1)),
    ],
)
def test_a_stretch_of_time_holds_the_rows_from_its_begin_and_before_its_end(sends, first, last, found):
    assert counts(sends, first=first, last=last) == found


def test_a_run_within_a_stretch_of_time_is_judged_by_its_rows_there(sends):
    assert counts(sends, "three", first=START + 2005) == (["three"], 2, 5)


def test_a_stretch_without_a_run_is_3_and_says_so(sends):
    finished = retrospan("slo", "--db", sends, "--from", "2001-01-01", "--to", "2001-02-01")
    assert finished.returncode == 3
    assert "holds no run in that time" in in_one_line(finished)


def test_since_counts_back_from_now(path):
    import time

    with making(path) as record:
        record.run(layers="http")
        record.add("http_events", *[{"ts": time.time() - 60}] * 300, *[{"ts": time.time() - 7200}] * 9, status=200)
    finished = retrospan("slo", "--db", path, "--since", "1h")
    assert finished.returncode == 0
    assert re.search(r"http_429 .* 300 +300 ", finished.stdout)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--since", "yesterday"], "is no duration: say 90s"),
        (["--from", "soon"], "is no moment: say 2026-11-24"),
        (["--since", "1h", "--to", "2026-11-24"], "leave --from and --to out"),
        (["--from", "2026-11-24", "--to", "2026-11-24"], "--from must lie before --to"),
    ],
)
def test_a_time_that_is_none_is_wrong_usage(path, options, said):
    finished = retrospan("slo", "--db", path, *options)
    assert finished.returncode == 2
    assert said in finished.stderr


@given(st.integers(0, 10**6), st.sampled_from("smhdw"))
def test_a_duration_is_its_number_of_units(number, unit):
    assert duration(f"{number}{unit}") == number * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[unit]


def test_durations_add_up():
    assert duration("1h30m") == 5400
    assert duration("1.5 h") == 5400


@given(st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)))
def test_a_moment_is_utc_unless_it_says_otherwise(when):
    utc = when.replace(tzinfo=UTC).timestamp()
    assert moment(when.isoformat()) == utc
    assert moment(when.isoformat() + "+01:00") == pytest.approx(utc - 3600, abs=1e-5)


def test_a_number_is_seconds_since_1970():
    assert moment("1760000000.5") == START + 0.5


# -- windows of an objective's own


def test_an_objective_is_judged_over_its_own_window_unless_it_is_said_which_rows(sends):
    rolling = replace(HTTP, window=Window(30, "m"))
    now = START + 2010
    assert counts(sends, slo=rolling, now=now)[1:] == (5, 20)  # the last 1 800 s hold the runs two and three
    assert counts(sends, "one", slo=rolling, now=now)[1:] == (10, 10)
    (result,) = judge(sends, Choice(now=now), [rolling]).results
    assert (result.scope.span, [run.run_id for run in result.scope.runs]) == (Span(now - 1800, now), ["three", "two"])


def test_objectives_with_and_without_a_window_stand_in_their_order(sends):
    slos = [replace(HTTP, name="a", window=Window(1, "w")), HTTP, replace(HTTP, name="b", window=Window(1, "m"))]
    report = judge(sends, Choice(now=START + 2010), slos)
    assert [(result.slo.name, result.sample.total) for result in report.results] == [
        ("a", 30),
        ("http_429", 10),
        ("b", 10),
    ]


def test_a_time_zone_that_is_none_is_an_error_of_that_objective_alone(sends):
    calendar = replace(HTTP, name="a", window=Window(1, "d", "2025-01-01 00:00:00", "Mars/Olympus"))
    report = judge(sends, Choice(), [calendar, HTTP])
    assert [result.verdict for result in report.results] == ["error", "fail"]
    assert "IANA time zone" in report.results[0].reason


def local(text, zone):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("window", "now", "first", "last"),
    [
        (Window(1, "d", "2025-01-01", "Europe/Berlin"), "2025-03-30 12:00", "2025-03-30", "2025-03-31"),  # of 23 hours
        (Window(1, "w", "2025-01-06", "Europe/Berlin"), "2025-01-12 23:59", "2025-01-06", "2025-01-13"),
        (Window(1, "M", "2024-01-31", "Europe/Berlin"), "2024-02-29 00:00", "2024-02-29", "2024-03-31"),
        (Window(1, "M", "2024-01-31", "Europe/Berlin"), "2024-02-28 23:00", "2024-01-31", "2024-02-29"),
        (Window(1, "Q", "2024-01-01", "Europe/Berlin"), "2024-12-31 23:00", "2024-10-01", "2025-01-01"),
        (Window(1, "Y", "2020-07-01", "Europe/Berlin"), "2024-06-30 12:00", "2023-07-01", "2024-07-01"),
        (
            Window(12, "h", "2025-01-01 06:00", "Europe/Berlin"),
            "2025-01-03 05:00",
            "2025-01-02 18:00",
            "2025-01-03 06:00",
        ),
        (
            Window(2, "d", "2025-01-10", "Europe/Berlin"),
            "2025-01-03 12:00",
            "2025-01-02",
            "2025-01-04",
        ),  # before its start
    ],
)
def test_a_calendar_window_is_the_period_around_now_by_the_zones_clock(window, now, first, last):
    zone = window.time_zone
    assert promised(window, local(now, zone)) == Span(local(first, zone), local(last, zone))


@pytest.mark.parametrize(
    ("window", "first"),
    [(Window(7, "d"), "2025-03-24 12:00"), (Window(1, "M"), "2025-02-28 12:00"), (Window(1, "Q"), "2024-12-31 12:00")],
)
def test_a_rolling_window_ends_now(window, first):
    now = local("2025-03-31 12:00", "UTC")
    assert promised(window, now) == Span(local(first, "UTC"), now)


@given(st.integers(1, 400), st.sampled_from("dwMQY"), st.datetimes(datetime(2001, 1, 1), datetime(2060, 1, 1)))
def test_every_moment_lies_in_its_period(count, unit, when):
    window = Window(min(count, 12), unit, "2024-01-31 10:00:00", "UTC")
    span = promised(window, when.replace(tzinfo=UTC).timestamp())
    assert span.first <= when.replace(tzinfo=UTC).timestamp() < span.last


def test_a_start_that_is_no_date_is_told():
    with pytest.raises(RecordError, match="give an ISO date"):
        promised(Window(1, "d", "some day", "UTC"), START)


def test_the_json_says_what_was_judged(sends):
    import json

    finished = retrospan("slo", "--db", sends, "--run", "one", "--run", "two", "--format", "json")
    report = json.loads(finished.stdout)
    assert (report["run_id"], report["judged"]) == (None, {"runs": ["one", "two"], "from": None, "to": None})
    assert report["summary"] is None
    assert RUN not in finished.stdout
