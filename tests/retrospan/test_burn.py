"""Burn rates: the workbook's numbers, and the same arithmetic for any period and target."""

import re
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrospan.slo.definitions import DEFAULTS, Window
from retrospan.slo.rules.alerts import BELOW, BURN, rules_for
from retrospan.slo.rules.burn import DAY, HOUR, MINUTE, burns, length

# "The Site Reliability Workbook", chapter 5: the configuration under "Multiwindow, multi-burn-rate alerts", 30 days.
WORKBOOK = [
    (14.4, "1h", "5m", "page"),
    (6.0, "6h", "30m", "page"),
    (3.0, "1d", "2h", "ticket"),
    (1.0, "3d", "6h", "ticket"),
]
PERIODS = st.integers(100, 36_500 * 24 * 60).map(lambda minutes: minutes * MINUTE)
TARGETS = st.fractions(Fraction(1, 100), Fraction(99_999, 100_000), max_denominator=10**6)


def told(period):
    return [(float(burn.factor), length(burn.long), length(burn.short), burn.severity) for burn in burns(period)]


def test_of_30_days_windows_and_factors_are_the_workbooks():
    assert told(30 * DAY) == WORKBOOK


@pytest.mark.parametrize(
    ("days", "numbers"),
    [
        # The usual windows: of four weeks, each factor is 28/30 of the workbook's.
        (28, [(13.44, "1h"), (5.6, "6h"), (2.8, "1d"), (14 / 15, "3d")]),
        (7, [(13.44, "15m"), (8.4, "1h"), (2.8, "6h"), (1.4, "12h")]),
        (90, [(14.4, "3h"), (4.5, "1d"), (3.0, "3d"), (9 / 7, "7d")]),
    ],
)
def test_the_period_chooses_the_windows(days, numbers):
    assert [burn[:2] for burn in told(days * DAY)] == numbers


def test_a_short_period_has_fewer_windows_and_a_very_short_one_none():
    assert told(12 * HOUR) == [(2.4, "30m", "5m", "ticket"), (1.2, "1h", "5m", "ticket")]
    assert told(HOUR) == []


@given(PERIODS)
def test_burning_at_the_factor_for_the_window_uses_up_the_share_of_the_budget_for_any_period(period):
    found = list(burns(period))
    assert found
    assert [burn.long for burn in found] == sorted({burn.long for burn in found})
    for burn in found:
        used = [share for share in map(Decimal, ("0.02", "0.05", "0.1")) if _close(burn, share, period)]
        assert used, burn
        assert burn.short is not None
        assert burn.short < burn.long
        assert burn.short in (burn.long // 12, 5 * MINUTE)


def _close(burn, share, period):
    """Whether the float that is written differs from share x period / window by less than 1e-12 of it."""
    with localcontext(prec=60):
        exact = share * period / burn.long
        return abs(Decimal(float(burn.factor)) - exact) < Decimal("1e-12") * exact


@given(PERIODS, TARGETS, st.sampled_from(["yield", "http_429"]))
def test_the_written_thresholds_are_factor_times_budget_and_no_alert_is_written_that_cannot_fire(period, target, name):
    threshold = 1 - target if name == "http_429" else target
    window = Window(period // MINUTE, "m")
    made = rules_for([replace(DEFAULTS[name], threshold=threshold, window=window)], 30 * DAY)
    budget = 1 - target
    with localcontext(prec=60):
        exact_budget = Decimal(budget.numerator) / budget.denominator
        factors = {
            length(burn.long): Decimal(burn.factor.numerator) / burn.factor.denominator for burn in burns(period)
        }
        for alert in made.alerts:
            written = [Decimal(text) for text in re.findall(r"ratio_increase\w+\{[^}]*\} > (\S+)", alert["expr"])]
            wanted = exact_budget * (factors[alert["labels"]["window"]] if alert["alert"] == BURN else 1)
            assert len(written) == 2
            assert all(abs(one - wanted) < Decimal("1e-12") * wanted for one in written)
            assert all(one < 1 for one in written)
        can = {window for window, factor in factors.items() if factor * exact_budget < 1}
    assert {alert["labels"]["window"] for alert in made.alerts if alert["alert"] == BURN} == can
    assert any(alert["alert"] == BELOW for alert in made.alerts) == (can != set(factors))
