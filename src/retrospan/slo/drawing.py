"""Pictures made of letters: how values are spread, and when bad events came.

    print("\n".join(histogram([(120.0, 3), (900.0, 1)], 250.0, " ms", bar="#")))

Lines fit into 80 columns; a bar is of ASCII unless the place where it goes shows more.
"""

import itertools
import math
import time
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from retrospan.slo.statistics import Number

ASCII_BAR: Final = "#"
BLOCK: Final = "█"
_WIDTH: Final = 40
_BINS: Final = 14
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400, 604800, 2592000)
_WIDEST: Final = 1e6
_DAY: Final = 86400


def histogram(values: Sequence[tuple[float, Number]], threshold: float, unit: str, bar: str = ASCII_BAR) -> list[str]:
    """A line a bin: (low, high], its bar, its number. Values are sorted, with how often each occurs; finite, and not none.

    Bins are as wide as each other, or grow by a factor where values spread over more than a hundredfold; one ends at the
    threshold, which is marked.
    """
    high = max(values[-1][0], threshold)
    low = max(values[0][0], high / _WIDEST)
    edges = sorted({*_edges(low, high), threshold})
    counts: list[Number] = [0] * (len(edges) + 1)
    for value, n in values:
        counts[bisect_left(edges, value)] += n
    most = max(counts)
    labels = [
        "up to " + _short(edges[0]),
        *(f"{_short(a)} to {_short(b)}" for a, b in itertools.pairwise(edges)),
    ]
    width = max(map(len, labels))
    lines = []
    for edge, label, n in zip(edges, labels, counts, strict=False):
        lines.append(f"{label:>{width}}{unit} |{_bar(n, most, bar):<{_WIDTH}} {float(n):g}")
        if edge == threshold:
            lines.append(f"{'asked':>{width}}{' ' * len(unit)} +{'-' * _WIDTH} {_short(threshold)}{unit}")
    return lines


def timeline(moments: Sequence[tuple[float, int, int]], bar: str = ASCII_BAR) -> list[str]:
    """A line a stretch of time, UTC: the bar is the share of bad events, then their number and that of all.

    `moments` are (begin, bad, total), sorted, as `step` apart as `step_of` said; stretches without events are told too, or
    their number where there are many.
    """
    lines: list[str] = []
    length = min((b[0] - a[0] for a, b in itertools.pairwise(moments)), default=1)
    previous: float | None = None
    for begin, bad, total in moments:
        if previous is not None and begin - previous > 1.5 * length:
            lines.append(f"{'':19} ... {round((begin - previous) / length) - 1} without events")
        lines.append(f"{_told(begin)} |{_bar(bad, total, bar):<{_WIDTH}} {bad} of {total} bad")
        previous = begin
    return lines


def step_of(first: float, last: float, most: int = 24) -> int:
    """The shortest of some usual lengths, in seconds, of which `most` cover a stretch of time."""
    return next(
        (step for step in _STEPS if (last - first) / step < most), math.ceil((last - first) / most / _DAY) * _DAY
    )


def _edges(low: float, high: float) -> list[float]:
    if low > 0 and high / low > 100:
        factor = (high / low) ** (1 / _BINS)
        return [*(_rounded(low * factor**n) for n in range(1, _BINS)), high]
    if low == high:
        return [high]
    width = (high - low) / _BINS
    return [*(_rounded(low + width * n) for n in range(1, _BINS)), high]


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _short(value: float) -> str:
    return f"{value:.10g}" if value == int(value) else f"{value:.4g}"


def _bar(part: Number, whole: Number, bar: str) -> str:
    """At least one letter for anything at all."""
    return bar * math.ceil(_WIDTH * part / whole) if whole else ""


def _told(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))
