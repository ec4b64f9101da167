"""Which series of `retrospan metrics` tells of an objective, and when none does.

    events(DEFAULTS["http_429"])        # retrospan_slo_events_total{slo="http_429"}

The sidecar counts the events of the objectives that it is started with, so it must be given the same definition files. These
series are there from its first page on, at 0. The counters by host are not: of one that is born at 1 `increase` sees nothing.
"""

from fractions import Fraction
from typing import Final

from retrospan.prometheus import names
from retrospan.slo.definitions import SLO

_COUNTS: Final = ("count", "worst_hour")
# `increase` extrapolates: of whole events it gives a little more or less.
HALF: Final = Fraction(1, 2)


class OmittedError(Exception):
    """No rule can be written for an objective; the text says why."""


def check(slo: SLO) -> None:
    """Raise OmittedError when no series tells of an objective."""
    if slo.slices is not None:
        raise OmittedError("it is judged by slices of time, which no series counts")
    if is_count(slo) and slo.op != "lte":
        raise OmittedError("a count is alerted on when it is too high, not when it is too low")
    if slo.target is None and not is_count(slo):
        raise OmittedError("it is a mean of plain numbers, which has no good and bad events")


def events(slo: SLO, *labels: str, verdict: str | None = None) -> str:
    """The counters of an objective's events, of one verdict or of both; `labels` are more matchers."""
    matchers = [f'slo="{slo.name}"', *([] if verdict is None else [f'verdict="{verdict}"']), *labels]
    return f"{names.SLO_EVENTS}{{{','.join(matchers)}}}"


def is_count(slo: SLO) -> bool:
    """Whether it is a number of bad events that an objective allows, instead of a share."""
    return slo.statistic in _COUNTS


def number(value: Fraction) -> str:
    """The nearest double, as PromQL reads it back."""
    return repr(float(value))
