"""The verdict on each objective, on what is missing too, and the exit code of them all."""

from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.gate import judge_run
from retrospan.slo.measure import Sample
from retrospan.slo.verdicts import exit_code, judge, overall

from .records import START, healthy, making


def sample(good, total, value=None, unknown=0):
    return Sample(good, total, unknown, good / total if value is None else value)


def test_a_healthy_run_passes_everything(path, judged):
    with making(path) as record:
        record.run()
        healthy(record)
    results = judged()
    assert {name: result.verdict for name, result in results.items()} == dict.fromkeys(DEFAULTS, "pass")
    assert {name: result.value for name, result in results.items()} == {
        "yield": 1.0,
        "ttfp_p50": pytest.approx(900, abs=0.001),
        "ttfp_p95": pytest.approx(900, abs=0.001),
        "http_429": 0.0,
        "cache_hit": 0.75,
        "rate_delay_p95": 0.0,
        "breaker_opens": 0,
        "corruption": 0,
    }


# -- enough events, and too few


@pytest.mark.parametrize(
    ("good", "total", "verdict"), [(17, 20, "insufficient"), (21, 21, "insufficient"), (22, 22, "pass")]
)
def test_a_share_below_the_minimum_is_never_a_pass(good, total, verdict):
    assert judge(DEFAULTS["yield"], sample(good, total)).verdict == verdict


def test_too_few_events_whose_whole_interval_misses_are_a_fail():
    assert judge(DEFAULTS["yield"], sample(0, 3)).verdict == "fail"  # the interval ends at 0.56
    assert judge(DEFAULTS["yield"], sample(2, 3)).verdict == "insufficient"


def test_too_few_events_say_how_many_there_must_be():
    assert judge(DEFAULTS["http_429"], sample(10, 10, 0.0)).reason == "10 of at least 189 events"


def test_a_share_is_compared_unrounded():
    missed = judge(DEFAULTS["yield"], sample(84_996, 100_000))
    assert (missed.verdict, missed.value) == ("fail", 0.84996)
    assert judge(DEFAULTS["yield"], sample(85_000, 100_000)).verdict == "pass"
    assert judge(DEFAULTS["yield"], sample(84_999, 100_000)).verdict == "fail"


def test_a_share_on_its_threshold_passes_where_floats_would_not():
    # 1 - 0.98 is more than 0.02 in floats, and 4 / 200 is not.
    assert judge(DEFAULTS["http_429"], sample(196, 200, 4 / 200)).verdict == "pass"
    assert judge(DEFAULTS["http_429"], sample(195, 200, 5 / 200)).verdict == "fail"


@given(
    st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.sampled_from(["yield", "cache_hit"]),
)
def test_one_more_good_event_in_place_of_a_bad_one_never_worsens_the_verdict(counts, name):
    order = ["fail", "insufficient", "pass"]
    good, total = counts
    worse, better = (judge(DEFAULTS[name], sample(k, total)).verdict for k in (good, min(good + 1, total)))
    assert order.index(worse) <= order.index(better)


def test_the_interval_is_that_of_the_good_share_and_a_count_has_none():
    assert judge(DEFAULTS["http_429"], sample(190, 200, 0.05)).ci == pytest.approx((0.9104, 0.9726), abs=1e-4)
    assert judge(DEFAULTS["ttfp_p95"], sample(95, 100, 900.0)).ci == pytest.approx((0.8882, 0.9785), abs=1e-4)
    assert judge(DEFAULTS["corruption"], sample(5, 5, 0)).ci is None


def test_the_budget_consumed_is_bad_events_by_those_allowed():
    assert judge(DEFAULTS["yield"], sample(70, 100)).budget.burn_rate == 2.0
    assert judge(DEFAULTS["http_429"], sample(198, 200, 0.01)).budget.burn_rate == 0.5
    assert judge(DEFAULTS["breaker_opens"], sample(1, 4, 3)).budget.burn_rate == 0.25
    assert (
        judge(DEFAULTS["corruption"], sample(5, 5, 0)).budget.burn_rate is None
    )  # nothing is allowed, so no share of it


def test_the_thresholds_are_those_of_the_design():
    assert {name: (slo.op, slo.threshold, slo.target) for name, slo in DEFAULTS.items()} == {
        "yield": ("gte", Fraction(85, 100), Fraction(85, 100)),
        "ttfp_p50": ("lte", 3000, Fraction(1, 2)),
        "ttfp_p95": ("lte", 20_000, Fraction(95, 100)),
        "http_429": ("lte", Fraction(2, 100), Fraction(98, 100)),
        "cache_hit": ("gte", Fraction(60, 100), Fraction(60, 100)),
        "rate_delay_p95": ("lte", 250, Fraction(95, 100)),
        "breaker_opens": ("lte", 12, None),
        "corruption": ("lte", 0, None),
    }
    assert [slo.min_events for slo in DEFAULTS.values()] == [22, 4, 73, 189, 6, 73, 1, 1]


# -- what does not apply


def test_a_layer_never_entered_is_not_applicable_which_wins_over_no_data(path, judged):
    with making(path) as record:
        record.run(layers="http")
        record.add("http_events", *[{}] * 200, status=200, from_cache=0, role="metadata", method="GET")
    assert {name: result.verdict for name, result in judged().items()} == {
        "yield": "not_applicable",
        "ttfp_p50": "not_applicable",
        "ttfp_p95": "not_applicable",
        "http_429": "pass",
        "cache_hit": "not_applicable",
        "rate_delay_p95": "not_applicable",
        "breaker_opens": "not_applicable",
        "corruption": "not_applicable",
    }
    assert judge_run(path).exit_code == 0


def test_a_layer_with_rows_applies_whatever_the_run_says(path, judged):
    with making(path) as record:
        record.run(layers="")
        healthy(record)
    assert {result.verdict for result in judged().values()} == {"pass"}


def test_everything_applies_to_a_run_without_run_info(path, judged):
    with making(path) as record:
        record.add("http_events", *[{}] * 200, status=200, from_cache=0)
    assert {name: result.verdict for name, result in judged().items()} == {
        **dict.fromkeys(DEFAULTS, "no_data"),
        "http_429": "pass",
    }


def test_an_objective_that_is_no_default_always_applies(path):
    from dataclasses import replace

    with making(path) as record:
        record.run(layers="http")
        record.add("http_events", status=200)
    (result,) = judge_run(path, slos=[replace(DEFAULTS["yield"], default=False)]).results
    assert result.verdict == "no_data"


def test_a_run_to_which_nothing_applies_is_one_without_data(path):
    with making(path) as record:
        record.run(layers="retry")
    report = judge_run(path)
    assert {result.verdict for result in report.results} == {"not_applicable"}
    assert (report.verdict, report.exit_code) == ("no_data", 3)


def test_an_objective_whose_numbers_cannot_be_had_is_in_error_and_keeps_none_back(path, monkeypatch):
    from retrospan.slo import definitions

    text = definitions.SLI.text
    monkeypatch.setattr(definitions.SLI, "text", lambda sli: "SELECT nothing" if sli.name == "ttfp" else text(sli))
    with making(path) as record:
        record.run()
        healthy(record)
    report = judge_run(path)
    verdicts = {result.slo.name: result.verdict for result in report.results}
    assert verdicts == {**dict.fromkeys(DEFAULTS, "pass"), "ttfp_p50": "error", "ttfp_p95": "error"}
    assert "nothing" in next(result.reason for result in report.results if result.verdict == "error")
    assert (report.verdict, report.exit_code, report.summary) == ("error", 2, None)


# -- who


def test_what_fails_names_the_worst_offenders_with_their_time(path, judged):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"status": 429, "ts": START + n} for n in range(10)], host="bad", role="landing")
        record.add("http_events", *[{"status": 429}] * 3, *[{"status": 200}] * 200, host="fair", role="metadata")
        record.add("http_events", status=200, host="good")
    offenders = judged()["http_429"].offenders
    assert [(o.dimension, o.value, o.bad, o.total) for o in offenders] == [
        ("host", "bad", 10, 10),
        ("host", "fair", 3, 203),
        ("role", "landing", 10, 10),
        ("role", "metadata", 3, 203),
        ("minute", "2025-10-09T08:53Z", 10, 10),
        ("minute", "2025-10-09T08:54Z", 3, 204),
    ]
    assert (offenders[0].first, offenders[0].last) == (START, START + 9)


def test_what_passes_names_nobody(path, judged):
    with making(path) as record:
        record.run()
        healthy(record)
        record.add("http_events", status=429, host="h")
    assert judged()["http_429"].offenders == ()


# -- the exit code

CODES = {"pass": 0, "fail": 1, "error": 2, "no_data": 3, "insufficient": 3}


@pytest.mark.parametrize(("verdict", "code"), CODES.items())
def test_each_verdict_alone_has_its_exit_code(verdict, code):
    assert exit_code([verdict, "pass"]) == code
    assert overall([verdict, "pass", "not_applicable"]) == verdict


@pytest.mark.parametrize("pair", list(combinations(CODES, 2)))
def test_2_wins_over_1_and_1_over_3_and_3_over_0(pair):
    strength = [2, 1, 3, 0]
    assert exit_code(pair) == min((CODES[verdict] for verdict in pair), key=strength.index)


@pytest.mark.parametrize(
    ("verdicts", "tolerated", "code"),
    [
        (["pass", "no_data"], {"no_data"}, 0),
        (["pass", "no_data"], {"insufficient"}, 3),
        (["no_data", "insufficient"], {"insufficient"}, 3),
        (["no_data", "insufficient"], {"no_data", "insufficient"}, 0),
        (["no_data", "fail"], {"no_data"}, 1),
        (["no_data", "error"], {"no_data"}, 2),
        ([], {"no_data"}, 0),
        ([], set(), 3),
        (["not_applicable"], set(), 3),
        (["not_applicable", "pass"], set(), 0),
    ],
)
def test_a_tolerated_verdict_turns_its_3_into_0_and_nothing_else(verdicts, tolerated, code):
    assert exit_code(verdicts, tolerated) == code
