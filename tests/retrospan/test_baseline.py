"""Better, same or worse: against another run, the run before, or a report that was kept."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest

from retrospan.record import RecordError
from retrospan.slo.baseline import Past, compare, of_file
from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.gate import Choice, Terms, judge
from retrospan.slo.measure import Sample
from retrospan.slo.verdicts import Result
from retrospan.slo.verdicts import judge as verdict_of

from .commands import in_one_line, retrospan
from .records import START, healthy, making


@pytest.fixture
def two(path):
    """A run without a 429, and one a thousand seconds later with a few more 429s than that: worse, and nothing else is."""
    with making(path) as record:
        for number, run in enumerate(("before", "after")):
            record.run(run, started_at=START + 1000 * number)
            healthy(record, run_id=run)
            record.add(
                "http_events", *[{}] * (1 + 9 * number), status=429 if number else 200, from_cache=0, wire=1, run_id=run
            )
            record.ended(run)
    return path


def changes(path, baseline, run="after", slos=None):
    report = judge(path, Choice((run,)), slos or [*DEFAULTS.values()], Terms(baseline=baseline))
    return {name: change.verdict for name, change in report.baseline.changes.items()}


def test_only_what_changed_is_worse_or_better(two):
    same = dict.fromkeys(DEFAULTS, "same")
    assert changes(two, "before") == same | {"http_429": "worse"}
    assert changes(two, "after", run="before") == same | {"http_429": "better"}
    assert changes(two, "after") == same
    assert changes(two, "previous") == same | {"http_429": "worse"}


def test_worse_than_the_baseline_is_1_when_told_to_fail_on_it(two):
    lax = ["slo", "--db", two, "--run", "after", "--baseline", "before"]
    assert retrospan(*lax).returncode == 1  # the objective itself is missed
    (two.parent / "slo.toml").write_text('[slo.http_429]\nmax = "50%"\n')
    lax += ["--config", two.parent / "slo.toml"]
    finished = retrospan(*lax)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "; against run before: 1 worse, 7 same; exit code 0" in finished.stdout
    assert retrospan(*lax, "--fail-on-regression").returncode == 1


def test_a_kept_report_is_as_good_as_its_run(two, tmp_path):
    kept = tmp_path / "main.json"
    retrospan("slo", "--db", two, "--run", "before", "--output", kept)
    by_file = json.loads(retrospan("slo", "--db", two, "--run", "after", "--format=json", "--baseline", kept).stdout)
    by_run = json.loads(retrospan("slo", "--db", two, "--run", "after", "--format=json", "--baseline=before").stdout)
    assert by_file["slos"] == by_run["slos"]
    assert by_file["baseline"] == {"name": str(kept), "regressed": True}
    change = next(slo["change"] for slo in by_file["slos"] if slo["name"] == "http_429")
    assert (change["verdict"], change["value_before"]) == ("worse", 0)
    assert change["ci"][0] < change["difference"] < change["ci"][1] < 0


@pytest.mark.parametrize(
    "spoilt", ["", "[]", '{"slos": []}', '{"schema_version": 2, "slos": []}', '{"schema_version": 1, "slos": [{}]}']
)
def test_a_file_that_is_no_report_is_2_in_one_line(two, tmp_path, spoilt):
    (tmp_path / "main.json").write_text(spoilt)
    finished = retrospan("slo", "--db", two, "--baseline", tmp_path / "main.json")
    assert finished.returncode == 2
    assert "main.json" in in_one_line(finished)


def test_numbers_that_no_report_has_are_refused(two, tmp_path):
    kept = tmp_path / "main.json"
    retrospan("slo", "--db", two, "--run", "before", "--output", kept)
    report = json.loads(kept.read_text())
    for field, value in {"good": 10**6, "threshold": "2 %", "name": 3}.items():
        kept.write_text(json.dumps(report | {"slos": [report["slos"][0] | {field: value}]}))
        with pytest.raises(RecordError, match="is no report"):
            of_file(kept)


@pytest.mark.parametrize(
    ("baseline", "run", "said"),
    [("previous", "before", "no run before"), ("nowhere", "after", "no run"), ("no.json", "after", "cannot be read")],
)
def test_a_baseline_that_is_not_there_is_2_in_one_line(two, baseline, run, said):
    finished = retrospan("slo", "--db", two, "--run", run, "--baseline", baseline)
    assert finished.returncode == 2
    assert said in in_one_line(finished)


def test_fail_on_regression_without_a_baseline_is_wrong_usage(two):
    assert retrospan("slo", "--db", two, "--fail-on-regression").returncode == 2


# -- what can be compared


def result(name, good, total, value=None, **changed):
    return verdict_of(
        replace(DEFAULTS[name], **changed), Sample(good, total, 0, good / total if value is None else value)
    )


def test_a_percentile_is_compared_by_the_share_within_its_threshold():
    before, after = result("ttfp_p95", 990, 1000, 9000), result("ttfp_p95", 960, 1000, 19000)
    change = compare(after, Past.of(before))
    assert (change.verdict, change.value, change.difference) == ("worse", 9000, pytest.approx(-0.03))
    moved = result("ttfp_p95", 960, 1000, 19000, threshold=Fraction(19500))
    assert compare(moved, Past.of(before)).reason == "the baseline had another threshold"


@pytest.mark.parametrize(
    ("before", "after", "verdict"), [(2, 3, "same"), (0, 12, "worse"), (30, 2, "better"), (0, 0, "same")]
)
def test_openings_are_compared_as_numbers_that_are_better_when_less(before, after, verdict):
    past = Past.of(result("breaker_opens", 1, 1 + before, before))
    assert compare(result("breaker_opens", 1, 1 + after, after), past).verdict == verdict


def test_what_has_no_numbers_then_or_now_is_unknown():
    known = result("yield", 90, 100)
    assert compare(known, None).reason == "the baseline does not have it"
    assert compare(known, Past.of(Result(DEFAULTS["yield"], "no_data"))).verdict == "unknown"
    assert compare(Result(DEFAULTS["yield"], "error"), Past.of(known)).verdict == "unknown"


def test_an_empty_record_has_nothing_to_compare(path):
    with making(path):
        pass
    assert retrospan("slo", "--db", path, "--baseline", "previous").returncode == 3
