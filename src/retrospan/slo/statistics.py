"""The statistics of the gate: nearest rank, Wilson's and Newcombe's intervals, the least number of events, worst windows.

    nearest_rank([(120.0, 3), (900.0, 1)], Fraction("0.95"))     # 900.0
    wilson(17, 20)                                               # (0.6396, 0.9476)

Counts and ranks are whole numbers and quantiles are fractions, so nothing is rounded before it is compared.
"""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Final

Number = int | float | Fraction
Counts = tuple[Number, Number] | tuple[Number, Number, float | None]

# Two-sided 95 %: the normal distribution's quantile at 0.975.
Z: Final = 1.959963984540054


def nearest_rank(values: Sequence[tuple[float, Number]], quantile: Fraction) -> float | None:
    """The value at rank ceil(q * n), from 1, of values given sorted with how often each occurs; None when there is none.

    How often may be a fraction, a weight: then it is the first value up to which at least q of all the weight lies. With
    this definition "the q-quantile is at most t" is the same as "the share of values up to t is at least q" (Hyndman and
    Fan 1996, definition 1).
    """
    total = sum(n for _, n in values)
    missing: Number = quantile * total
    if isinstance(total, int):
        missing = math.ceil(missing)  # the same, by whole numbers all the way
    for value, n in values:
        missing -= n
        if missing <= 0:
            return value
    return None


def wilson(good: Number, total: Number, events: float | None = None) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927), clamped to [0, 1] and to hold good / total.

    `events` is how many independent events the share stands on, `total` unless given. Raises ValueError when there are
    none: nothing is known then.
    """
    if total <= 0:
        raise ValueError("an interval needs at least one event")
    share = float(Fraction(good) / Fraction(total))
    total = float(total) if events is None else events
    square = Z * Z
    centre = (share * total + square / 2) / (total + square)
    half = Z * math.sqrt(share * (1 - share) * total + square / 4) / (total + square)
    # At 0 and at n the bounds are 0 and 1 exactly, where floats come out a little beyond or within.
    return min(max(0.0, centre - half), share), max(min(1.0, centre + half), share)


def newcombe(before: Counts, after: Counts) -> tuple[float, float]:
    """95 % interval of the difference of two independent shares, after - before.

    Each is given as `wilson` takes it: (good, total), and perhaps how many independent events that stands on.

    Newcombe 1998 ("Interval estimation for the difference between independent proportions", Statistics in Medicine 17,
    method 10): with shares p and Wilson's bounds l and u of each, d - sqrt((p2 - l2)^2 + (u1 - p1)^2) to
    d + sqrt((u2 - p2)^2 + (p1 - l1)^2). Raises ValueError when either has no events.
    """
    (low_1, high_1), (low_2, high_2) = wilson(*before), wilson(*after)
    share_1, share_2 = (float(Fraction(good) / Fraction(total)) for good, total, *_ in (before, after))
    difference = share_2 - share_1
    return (
        max(-1.0, difference - math.hypot(share_2 - low_2, high_1 - share_1)),
        min(1.0, difference + math.hypot(high_2 - share_2, share_1 - low_1)),
    )


def poisson(count: float) -> tuple[float, float]:
    """95 % score interval of a Poisson mean of which `count` was seen: what Wilson's comes to for rare events."""
    square = Z * Z
    half = Z * math.sqrt(count + square / 4)
    return max(0.0, count + square / 2 - half), count + square / 2 + half


def difference_of_counts(before: float, after: float) -> tuple[float, float]:
    """95 % interval of the difference of two independent Poisson means, after - before.

    Each bound's distance is that of Newcombe's: the two distances to the means' own bounds, squared, summed, rooted (Zou
    and Donner 2008, "Construction of confidence limits about effect measures", Statistics in Medicine 27).
    """
    (low_1, high_1), (low_2, high_2) = poisson(before), poisson(after)
    difference = after - before
    return (
        difference - math.hypot(after - low_2, high_1 - before),
        difference + math.hypot(high_2 - after, before - low_1),
    )


def effective_events(weights: Iterable[tuple[Number, int]]) -> float:
    """How many equal events weights are worth, given with how often each occurs: (sum w)^2 / sum w^2 (Kish 1965)."""
    pairs = [(float(weight), n) for weight, n in weights]
    squares = math.fsum(weight * weight * n for weight, n in pairs)
    return math.fsum(weight * n for weight, n in pairs) ** 2 / squares if squares else 0.0


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


def shortest_half(counts: Sequence[tuple[float, float, int]]) -> tuple[float, float, int] | None:
    """The shortest stretch that holds at least half of what is counted in (first, last, n), sorted and apart; None of none.

    Given and returned with the moments of the first and the last that is in it.
    """
    total = sum(n for _, _, n in counts)
    best: tuple[float, float, int] | None = None
    begin = held = 0
    if not total:
        return None
    for _, last, n in counts:
        held += n
        while 2 * (held - counts[begin][2]) >= total:
            held -= counts[begin][2]
            begin += 1
        if 2 * held >= total and (best is None or last - counts[begin][0] < best[1] - best[0]):
            best = counts[begin][0], last, held
    return best
