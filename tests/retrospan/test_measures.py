"""What objectives of definition files come to, against a brute force: weights, means, time slices, percentiles from above."""

import math
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrospan.runs import Run
from retrospan.slo.definitions import SLI, SLO, Query, TimeSlices
from retrospan.slo.gate import judge_run
from retrospan.slo.measure import Measure, Sample
from retrospan.slo.statistics import wilson
from retrospan.slo.verdicts import judge
from retrospan.slo.windows import Scope

from .records import RUN, START, making
from .test_counts import opened

# elapsed_ms is the value, retry_count the weight.
MINE = SLI(
    "mine",
    None,
    (),
    "no event",
    queries=(Query("events", "SELECT ts AS timestamp, elapsed_ms AS value, host FROM http_events"),),
)
HEAVY = replace(
    MINE, queries=(replace(MINE.queries[0], sql=MINE.queries[0].sql.replace("host", "retry_count AS weight")),)
)
events = st.lists(
    st.fixed_dictionaries(
        {
            "ts": st.integers(0, 900).map(lambda second: START + second),
            "elapsed_ms": st.sampled_from([None, 0, 1, 2, 5]),
            "retry_count": st.sampled_from([1, 2, 7]),
        }
    ),
    max_size=30,
)
ops = st.sampled_from(["gte", "lte", "gt", "lt"])
OPS = {"gte": "__ge__", "lte": "__le__", "gt": "__gt__", "lt": "__lt__"}


def objective(sli, statistic, op, threshold, **said):
    return SLO("mine", "", sli, statistic, op, Fraction(threshold), **said)


def sample(rows, slo):
    with opened({"http_events": [{"run_id": RUN, **row} for row in rows]}) as record:
        return Measure(record, Scope.of(Run(RUN, "unknown"))).sample(slo)


def known(rows):
    return [row["elapsed_ms"] for row in rows if row["elapsed_ms"] is not None]


@given(events, ops, st.sampled_from(["0", "1", "1.5", "5"]), st.sampled_from(["0.5", "0.9", "0.95"]))
def test_a_percentile_keeps_its_threshold_just_when_its_share_of_values_does(rows, op, threshold, share):
    slo = objective(MINE, "percentile", op, threshold, quantile=Fraction(share), unit="ms")
    found = sample(rows, slo)
    values = known(rows)
    good = sum(getattr(Fraction(value), OPS[op])(Fraction(threshold)) for value in values)
    assert (found.good, found.total, found.unknown) == (good, len(values), len(rows) - len(values))
    if values:
        ordered = sorted(values, reverse=not slo.upper)
        assert found.value == ordered[math.ceil(Fraction(share) * len(values)) - 1]
        met = getattr(Fraction(found.value), OPS[op])(Fraction(threshold))
        assert met == (good >= Fraction(share) * len(values))
        assert judge(slo, found).verdict in (("pass", "insufficient") if met else ("fail", "insufficient"))


@given(events, ops)
def test_a_mean_is_exact(rows, op):
    slo = objective(MINE, "mean", op, "2", unit="ms")
    values = known(rows)
    found = sample(rows, slo)
    assert found.value == (float(Fraction(sum(values), len(values))) if values else None)
    expected = (
        "no_data" if not values else "pass" if getattr(Fraction(sum(values), len(values)), OPS[op])(2) else "fail"
    )
    assert judge(slo, found).verdict == expected


@given(events, st.sampled_from(["gte", "lte"]))
def test_a_weight_is_how_many_events_a_row_stands_for(rows, op):
    slo = objective(HEAVY, "share", op, "0.5")
    once = [row for row in rows for _ in range(row["retry_count"])]
    heavy, light = sample(rows, slo), sample(once, replace(slo, sli=MINE))
    assert (heavy.good, heavy.total, heavy.value) == (light.good, light.total, light.value)
    weights = [row["retry_count"] for row in rows if row["elapsed_ms"] is not None]
    if weights:
        assert heavy.events == pytest.approx(sum(weights) ** 2 / sum(weight**2 for weight in weights))
        low, high = judge(slo, heavy).ci or (0, 1)
        assert (low, high) == wilson(heavy.good, heavy.total, heavy.events)
    percentile = objective(HEAVY, "percentile", "lte", "1", quantile=Fraction(9, 10), unit="ms")
    assert sample(rows, percentile).value == sample(once, replace(percentile, sli=MINE)).value


@given(events, st.sampled_from(["gte", "lte"]), st.sampled_from([None, "0.5", "0.75"]))
def test_time_slices_are_judged_by_those_that_have_events(rows, op, target):
    slices = TimeSlices(300, None if target is None else Fraction(target))
    slo = objective(MINE, "share", op, "0.5", slices=slices)
    by_slice = defaultdict(list)
    for row in rows:
        if row["elapsed_ms"] is not None:
            by_slice[row["ts"] // 300].append(row["elapsed_ms"] >= 1 if op == "gte" else row["elapsed_ms"] < 1)
    shares = [Fraction(sum(good), len(good)) for good in by_slice.values()]
    found = sample(rows, slo)
    assert found.total == len(shares)
    good = sum(shares) if target is None else sum(share >= Fraction(target) for share in shares)
    assert found.good == good
    if shares:
        part = len(shares) - good if target is None and op == "lte" else good
        assert found.value == float(Fraction(part, 1) / len(shares))


def test_a_strict_share_must_be_more_than_its_threshold():
    half = Sample(50, 100, 0, 0.5)
    assert judge(objective(MINE, "share", "gte", "0.5"), half).verdict == "pass"
    assert judge(objective(MINE, "share", "gt", "0.5"), half).verdict == "fail"
    assert judge(objective(MINE, "share", "lte", "0.5"), half).verdict == "pass"
    assert judge(objective(MINE, "share", "lt", "0.5"), half).verdict == "fail"


@given(
    st.integers(0, 60), st.integers(1, 60), st.sampled_from(["gte", "lte"]), st.sampled_from(["0.5", "0.85", "0.95"])
)
def test_one_more_good_event_never_turns_a_pass_into_a_miss_nor_one_more_bad_a_miss_into_a_pass(
    good, bad, op, threshold
):
    strength = ["fail", "insufficient", "pass"]
    slo = objective(MINE, "share", op, threshold)

    def verdict(good, total):
        share = good / total if op == "gte" else (total - good) / total
        return strength.index(judge(slo, Sample(good, total, 0, share)).verdict)

    total = good + bad
    assert verdict(good + 1, total) >= verdict(good, total)  # one that was bad is good
    if verdict(good, total) == 2:
        assert verdict(good + 1, total + 1) == 2
    if verdict(good, total) == 0:
        assert verdict(good, total + 1) == 0


def test_a_mean_of_ratios_has_a_budget_and_an_interval_and_one_of_anything_else_has_none(path):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"elapsed_ms": n % 2} for n in range(100)])
    ratio = objective(MINE, "mean", "gte", "0.4")
    plain = objective(MINE, "mean", "lte", "0.6", unit="number")
    of_ratio, of_plain = judge_run(path, slos=[ratio, plain]).results
    assert (of_ratio.verdict, of_ratio.value, of_ratio.ci) == ("pass", 0.5, wilson(50, 100))
    assert (of_ratio.budget.allowed, of_ratio.budget.bad) == (60, 50)
    assert (of_plain.verdict, of_plain.value, of_plain.ci, of_plain.budget) == ("pass", 0.5, None, None)


def test_a_least_number_of_events_of_a_definition_counts(path):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"elapsed_ms": 1}] * 9)
    slos = [replace(objective(MINE, "share", "gte", "0.5"), name=str(n), events_needed=n) for n in (9, 10)]
    assert [result.verdict for result in judge_run(path, slos=slos).results] == ["pass", "insufficient"]


@pytest.mark.parametrize(
    ("policy", "told", "code"), [(None, "fail", 3), (None, "warn", 0), ("fail", "warn", 3), ("warn", "fail", 0)]
)
def test_what_a_definition_says_of_no_data_wins_over_the_command(path, policy, told, code):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"elapsed_ms": 1}] * 9)
    empty = replace(MINE, queries=(replace(MINE.queries[0], sql=MINE.queries[0].sql + " WHERE 0"),))
    slos = [objective(MINE, "share", "gte", "0.5"), objective(empty, "share", "gte", "0.5", no_data=policy)]
    report = judge_run(path, slos=slos, tolerated={"no_data"} if told == "warn" else frozenset())
    assert ([result.verdict for result in report.results], report.exit_code) == (["pass", "no_data"], code)
