"""The statistics of the gate: nearest rank, Wilson's interval, the least number of events, the worst window.

    nearest_rank([(120.0, 3), (900.0, 1)], Fraction("0.95"))     # 900.0
    wilson(17, 20)                                               # (0.6396, 0.9476)

Counts and ranks are whole numbers and quantiles are fractions, so nothing is rounded before it is compared.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

# Two-sided 95 %: the normal distribution's quantile at 0.975.
Z: Final = 1.959963984540054


def nearest_rank(values: Sequence[tuple[float, int]], quantile: Fraction) -> float | None:
    """The value at rank ceil(q * n), from 1, of values given sorted with how often each occurs; None when there is none.

    With this definition "the q-quantile is at most t" is the same as "the share of values up to t is at least q"
    (Hyndman and Fan 1996, definition 1).
    """
    rank = -(-quantile.numerator * sum(n for _, n in values) // quantile.denominator)
    for value, n in values:
        rank -= n
        if rank <= 0:
            return value
    return None


def wilson(good: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927), clamped to [0, 1] and to hold good / total.

    Raises ValueError when there are no events: nothing is known then.
    """
    if total <= 0:
        raise ValueError("an interval needs at least one event")
    share = good / total
    square = Z * Z
    centre = (good + square / 2) / (total + square)
    half = Z * math.sqrt(share * (1 - share) * total + square / 4) / (total + square)
    # At 0 and at n the bounds are 0 and 1 exactly, where floats come out a little beyond or within.
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def minimum_events(target: Fraction) -> int:
    """The least n at which a run of n good events has its lower bound on the target, a share in [0, 1).

    The bound of an all-good run is n / (n + z²). Raises ValueError for a target that no number of events can show.
    """
    if not 0 <= target < 1:
        raise ValueError(f"a target must be at least 0 and less than 1, not {target}")
    return max(1, math.ceil(Fraction(Z) ** 2 * target / (1 - target)))


def most_within(moments: Iterable[float], window: float) -> int:
    """The most moments in any window [a, a + window); in seconds, sorted."""
    found: list[float] = []
    first = most = 0
    for moment in moments:
        found.append(moment)
        while found[first] + window <= moment:
            first += 1
        most = max(most, len(found) - first)
    return most
