"""Which series of `retrospan metrics` tells of an objective, and when none does.

    counted(DEFAULTS["http_429"])        # retrospan_slo_events_total{slo="http_429"}

The counters tell of the built-in objectives. Another one is told of by the series of that whose events it shares and which
takes the same events for good; its target and its window are its own.
"""

from dataclasses import dataclass
from typing import Final

from retrospan.slo.definitions import DEFAULTS, SLO
from retrospan.slo.output.wording import objective

EVENTS: Final = "retrospan_slo_events_total"
# Counters of bad events alone, by indicator.
_BAD: Final = {"breaker_opens": "retrospan_breaker_opens_total", "corruption": "retrospan_corruptions_total"}
_COUNTS: Final = ("count", "worst_hour")


class OmittedError(Exception):
    """No rule can be written for an objective; the text says why."""


@dataclass(frozen=True, slots=True)
class Counted:
    """The good and the bad events of an objective, by the name that they have as those of `slo`."""

    slo: str

    def selector(self, verdict: str | None = None) -> str:
        """The series, of one verdict or of both."""
        labels = f'slo="{self.slo}"' + ("" if verdict is None else f',verdict="{verdict}"')
        return f"{EVENTS}{{{labels}}}"


def counted(slo: SLO) -> Counted:
    """The series of an objective with a target. Raises OmittedError."""
    _refuse(slo)
    if slo.statistic not in ("share", "percentile"):
        raise OmittedError("of a mean there is no series")
    alike = [one for one in DEFAULTS.values() if one.sli == slo.sli and one.target is not None]
    for one in alike:
        if one.good == slo.good:
            return Counted(one.name)
    known = ", ".join(f"{one.name} {objective(one)}" for one in alike) or "none of this indicator"
    raise OmittedError(f"no series counts its good events: those that there are count {known}")


def is_count(slo: SLO) -> bool:
    """Whether it is a number of bad events that an objective allows, instead of a share."""
    return slo.statistic in _COUNTS


def bad(slo: SLO) -> str:
    """The series of the bad events of an objective that is a count. Raises OmittedError."""
    _refuse(slo)
    if slo.op != "lte":
        raise OmittedError("a count is alerted on when it is too high, not when it is too low")
    if slo.sli.name in _BAD:
        return _BAD[slo.sli.name]
    alike = (one for one in DEFAULTS.values() if one.sli == slo.sli and one.target is not None and one.good == slo.good)
    found = next(alike, None)
    if found is None:
        raise OmittedError("no series counts its bad events")
    return Counted(found.name).selector("bad")


def _refuse(slo: SLO) -> None:
    if slo.sli.queries:
        raise OmittedError("its events come from a query of its own, which no series knows")
    if slo.slices is not None:
        raise OmittedError("it is judged by slices of time, which no series counts")
