"""The statistics against definitions, and against scipy."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrospan.slo.statistics import (
    Z,
    difference_of_counts,
    effective_events,
    minimum_events,
    most_within,
    nearest_rank,
    newcombe,
    poisson,
    shortest_half,
    wilson,
)

values = st.lists(st.one_of(st.integers(-50, 50), st.floats(-50, 50)), min_size=1, max_size=60)
quantiles = st.fractions(0, 1, max_denominator=1000).filter(lambda q: q > 0)


def grouped(numbers):
    return [(value, numbers.count(value)) for value in sorted(set(numbers))]


@given(values, quantiles)
def test_the_nearest_rank_is_the_value_at_the_ceiling_of_q_n(numbers, q):
    rank = next(k for k in range(1, len(numbers) + 1) if k >= q * len(numbers))
    assert nearest_rank(grouped(numbers), q) == sorted(numbers)[rank - 1]


@given(values, quantiles, st.one_of(st.integers(-50, 50), st.floats(-50, 50)))
def test_a_percentile_within_t_is_a_share_of_at_least_q_within_t(numbers, q, t):
    share = Fraction(sum(value <= t for value in numbers), len(numbers))
    assert (nearest_rank(grouped(numbers), q) <= t) == (share >= q)


def test_the_p95_of_twenty_values_is_the_nineteenth():
    assert nearest_rank([(value, 1) for value in range(1, 21)], Fraction("0.95")) == 19


def test_a_rank_is_exact_where_floats_are_not():
    # 0.07 * 100 is 7.000000000000001 in floats, whose ceiling is 8.
    assert nearest_rank([(value, 1) for value in range(1, 101)], Fraction("0.07")) == 7


def test_no_value_has_no_percentile():
    assert nearest_rank([], Fraction(1, 2)) is None


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(counts):
    from scipy.stats import binomtest  # takes a second, which no other worker needs to collect this

    good, total = counts
    expected = binomtest(good, total).proportion_ci(0.95, method="wilson")
    low, high = wilson(good, total)
    assert low == pytest.approx(expected.low, abs=1e-12)
    assert high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= low <= good / total <= high <= 1


@pytest.mark.parametrize("total", [1, 3, 7, 29, 189, 10**6])
def test_the_interval_reaches_0_and_1_exactly_at_none_and_all(total):
    assert wilson(0, total)[0] == 0
    assert wilson(total, total)[1] == 1


def test_no_events_have_no_interval():
    with pytest.raises(ValueError, match="at least one event"):
        wilson(0, 0)


@pytest.mark.parametrize(
    ("target", "events"), [("0.85", 22), ("0.60", 6), ("0.50", 4), ("0.95", 73), ("0.98", 189), ("0", 1)]
)
def test_the_least_number_of_events_is_that_of_the_design(target, events):
    assert minimum_events(Fraction(target)) == events


@given(st.fractions(0, Fraction(999, 1000), max_denominator=1000))
def test_the_least_number_of_events_is_the_first_whose_all_good_bound_is_on_target(target):
    n = minimum_events(target)
    assert wilson(n, n)[0] >= float(target) - 1e-12
    assert n == 1 or wilson(n - 1, n - 1)[0] < target


@pytest.mark.parametrize("target", [1, Fraction(3, 2), Fraction(-1, 10)])
def test_no_number_of_events_shows_a_target_outside_0_to_1(target):
    with pytest.raises(ValueError, match="target"):
        minimum_events(Fraction(target))


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 10))
def test_the_most_within_a_window_are_those_of_the_best_start(moments, window):
    expected = max((sum(a <= b < a + window for b in moments) for a in moments), default=0)
    assert most_within(sorted(map(float, moments)), float(window)) == expected


shares = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@pytest.mark.parametrize(
    ("before", "after", "interval"),
    [
        # Newcombe 1998, table II, method 10 (his difference is the other way round).
        ((48, 80), (56, 70), (0.0524, 0.3339)),
        ((3, 10), (9, 10), (0.1705, 0.8090)),
        ((2, 7), (6, 7), (0.0582, 0.8062)),
        ((0, 29), (5, 56), (-0.0381, 0.1926)),
        ((0, 20), (0, 10), (-0.1611, 0.2775)),
    ],
)
def test_the_interval_of_a_difference_is_newcombes(before, after, interval):
    assert newcombe(before, after) == (pytest.approx(interval[0], abs=1e-4), pytest.approx(interval[1], abs=1e-4))


@given(shares, shares)
def test_the_interval_of_a_difference_holds_it_and_turns_round_with_it(before, after):
    low, high = newcombe(before, after)
    difference = after[0] / after[1] - before[0] / before[1]
    assert -1 <= low <= difference + 1e-12
    assert difference - 1e-12 <= high <= 1
    assert newcombe(after, before) == (pytest.approx(-high), pytest.approx(-low))


@given(st.integers(0, 1000))
def test_the_interval_of_a_count_is_the_score_interval(count):
    # The bounds are the means of which the count lies just z standard deviations away.
    low, high = poisson(count)
    assert low <= count <= high
    for bound in (low, high):
        assert abs(count - bound) == pytest.approx(Z * bound**0.5, rel=1e-6, abs=1e-6)


@given(st.integers(0, 200), st.integers(0, 200))
def test_the_interval_of_a_difference_of_counts_holds_it(before, after):
    low, high = difference_of_counts(before, after)
    assert low <= after - before <= high


@given(st.lists(st.tuples(st.sampled_from([1, 2, 0.5]), st.integers(1, 9)), min_size=1))
def test_weighted_events_are_worth_no_more_than_their_number_and_equal_ones_just_that(weights):
    number = sum(n for _, n in weights)
    assert effective_events(weights) <= number + 1e-9
    assert effective_events([(3, n) for _, n in weights]) == pytest.approx(number)


@given(
    st.dictionaries(st.integers(0, 20), st.integers(1, 4), min_size=1).map(lambda counts: [*counts.items()]), quantiles
)
def test_a_weight_is_how_often_a_value_occurs(pairs, q):
    pairs.sort()
    repeated = [value for value, n in pairs for _ in range(n)]
    assert nearest_rank([(value, Fraction(n, 2)) for value, n in pairs], q) == nearest_rank(grouped(repeated), q)


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 5), min_size=1).map(lambda counts: [*counts.items()]))
def test_the_shortest_half_is_the_shortest_stretch_with_half_of_all(pairs):
    counts = [(moment, moment + 0.5, n) for moment, n in sorted(pairs)]
    total = sum(n for *_, n in counts)
    stretches = [
        last[1] - first[0]
        for i, first in enumerate(counts)
        for j, last in enumerate(counts)
        if i <= j and 2 * sum(n for *_, n in counts[i : j + 1]) >= total
    ]
    first, last, held = shortest_half(counts)
    assert last - first == min(stretches)
    assert 2 * held >= total
    assert shortest_half([]) is None
