"""Burn rates: over which windows, and how fast a budget must burn there for somebody to be told.

    [float(burn.factor) for burn in burns(30 * DAY)]         # [14.4, 6.0, 3.0, 1.0]

After "The Site Reliability Workbook" (Google 2018), chapter 5, "Multiwindow, multi-burn-rate alerts": of a period's budget
2 % in one hour, 5 % in six, 10 % in a day and 10 % in three days, each confirmed by a short window of a twelfth. These
windows are for 30 days. Those of another period are the same parts of it, brought to a length that people say; the factor
is that of the length, share x period / window, exactly.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from retrospan.slo.definitions import BurnPolicy, Op

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

# The share of the budget, the part of the period that a window is, and who is told.
_PARTS: Final = (
    (Fraction(2, 100), 720, "page"),
    (Fraction(5, 100), 120, "page"),
    (Fraction(10, 100), 30, "ticket"),
    (Fraction(10, 100), 10, "ticket"),
)
_LENGTHS: Final = (
    *(minutes * MINUTE for minutes in (10, 15, 30)),
    *(hours * HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * DAY for days in (1, 2, 3, 7, 14, 30)),
)
_CONFIRMED_BY: Final = 12
# Of less than a few scrapes `increase` knows nothing.
_SHORTEST: Final = 5 * MINUTE
_UNITS: Final = (("d", DAY), ("h", HOUR), ("m", MINUTE))


@dataclass(frozen=True, slots=True)
class Burn:
    """Telling somebody that the budget burns `factor` times as fast as it may, over `long` and over `short` seconds.

    A policy of a definition file has no short window, compares as it says, and waits for `after` seconds.
    """

    factor: Fraction
    long: int
    short: int | None
    severity: str
    op: Op = "gt"
    after: int = 0
    policy: str | None = None

    @classmethod
    def of(cls, policy: BurnPolicy) -> "Burn":
        """What a policy says."""
        return cls(policy.rate, policy.lookback, None, policy.severity, policy.op, policy.after, policy.name)

    @property
    def windows(self) -> tuple[int, ...]:
        """Its windows in seconds, the long one first."""
        return (self.long,) if self.short is None else (self.long, self.short)

    def threshold(self, budget: Fraction) -> Fraction:
        """The share of bad events that it comes to."""
        return self.factor * budget

    def can_fire(self, budget: Fraction) -> bool:
        """Whether any share of bad events is beyond it: none is, once all of them being bad burns no faster."""
        return self.op in ("lt", "lte") or float(self.threshold(budget)) < 1


def burns(period: int) -> Iterator[Burn]:
    """What the workbook tells of in a period of so many seconds, the fastest first; nothing in one too short for it.

    A window that would be under ten minutes, or be another's length after all, is left out.
    """
    seen = set()
    for share, part, severity in _PARTS:
        ideal = Fraction(period, part)
        long = min(_LENGTHS, key=lambda length: max(length / ideal, ideal / length))
        if ideal >= _LENGTHS[0] and long not in seen:
            seen.add(long)
            yield Burn(share * period / long, long, max(long // _CONFIRMED_BY, _SHORTEST), severity)


def length(seconds: int) -> str:
    """A length of whole minutes as Prometheus writes it: 90 minutes are 90m, a day is 1d."""
    unit, size = next((unit, size) for unit, size in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"
