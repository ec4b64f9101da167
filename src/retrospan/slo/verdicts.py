"""From numbers to verdicts, and from verdicts to an exit code.

    judge(DEFAULTS["yield"], Sample(good=21, total=21, unknown=0, value=1.0)).verdict      # "insufficient"
    exit_code({"pass", "no_data"}, tolerated={"no_data"})                                  # 0

| verdict        | when                                                                                        |
|----------------|---------------------------------------------------------------------------------------------|
| pass, fail     | enough events, and it is met or missed; or too few, and the whole interval lies beyond       |
| insufficient   | too few events to tell                                                                      |
| no_data        | no event, or too many of which the value is unknown                                         |
| not_applicable | a default objective of a layer that the run never entered                                   |
| error          | the numbers could not be had                                                                |
"""

import math
from collections.abc import Iterable, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, Literal

from retrospan.record import RecordError
from retrospan.slo.definitions import SLO
from retrospan.slo.measure import Measure, Offender, Sample
from retrospan.slo.statistics import wilson

Verdict = Literal["pass", "fail", "no_data", "insufficient", "not_applicable", "error"]

# The verdicts that decide, the strongest first, each with the exit code that it means.
EXIT_CODES: Final[dict[Verdict, int]] = {"error": 2, "fail": 1, "no_data": 3, "insufficient": 3, "pass": 0}
REFUSED_REASON: Final = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one objective, and all it stands on. What is not known is None.

    `ci` is Wilson's interval of the share of good events. `budget_consumed` is 1 when just as many events are bad as the
    objective allows.
    """

    slo: SLO
    verdict: Verdict
    reason: str | None = None
    value: float | None = None
    sample: Sample | None = None
    ci: tuple[float, float] | None = None
    budget_consumed: float | None = None
    offenders: tuple[Offender, ...] = ()


def evaluate(measure: Measure, slos: Iterable[SLO]) -> list[Result]:
    """The verdict on each objective; one whose numbers cannot be had is in error and keeps none of the others back."""
    results = []
    for slo in slos:
        try:
            results.append(_evaluate(measure, slo))
        except RecordError as error:
            results.append(Result(slo, "error", str(error)))
    return results


def _evaluate(measure: Measure, slo: SLO) -> Result:
    if not measure.applies(slo):
        return Result(slo, "not_applicable", f"no {slo.sli.layer} was used in this run")
    sample = measure.sample(slo)
    if slo.sli.blind is not None and measure.blind(slo.sli):
        return Result(slo, "no_data", slo.sli.blind[1], sample=sample)
    result = judge(slo, sample)
    return replace(result, offenders=measure.offenders(slo)) if result.verdict == "fail" else result


def judge(slo: SLO, sample: Sample) -> Result:
    """The verdict on a sample, by unrounded numbers."""
    if reason := missing(slo, sample):
        return Result(slo, "no_data", reason, sample=sample)
    assert sample.value is not None, "a sample that lacks nothing has a value"
    target = slo.target
    # A count has no share of good events to be on the safe side of: one event tells.
    ci = None if target is None else wilson(sample.good, sample.total)
    met = sample.value <= slo.threshold if target is None else sample.good >= target * sample.total
    verdict: Verdict = "pass" if met else "fail"
    reason = None
    if ci is not None and target is not None and sample.total < slo.min_events and (met or ci[1] >= target):
        verdict = "insufficient"
        reason = f"{sample.total} of at least {slo.min_events} events"
    value = sample.value
    if math.isinf(value):
        reason = REFUSED_REASON
    return Result(slo, verdict, reason, None if math.isinf(value) else value, sample, ci, _budget_consumed(slo, sample))


def missing(slo: SLO, sample: Sample) -> str | None:
    """Why nothing can be said; None when something can."""
    events = sample.total + sample.unknown
    if slo.max_unknown is not None and sample.unknown > slo.max_unknown * events:
        return f"{sample.unknown} of {events} are unknown, more than {float(slo.max_unknown * 100):g} %"
    return slo.sli.empty if sample.value is None else None


def _budget_consumed(slo: SLO, sample: Sample) -> float | None:
    target = slo.target
    allowed = slo.threshold if target is None else (1 - target) * sample.total
    if not allowed or sample.value is None:
        return None
    spent = Fraction(sample.value) if target is None else Fraction(sample.total - sample.good)
    return float(spent / allowed)


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The strongest verdict; no_data when nothing was judged at all."""
    found = set(verdicts)
    return next((verdict for verdict in EXIT_CODES if verdict in found), "no_data")


def exit_code(verdicts: Iterable[Verdict], tolerated: Set[Verdict] = frozenset()) -> int:
    """0 all pass, 1 an objective failed, 2 one is in error, 3 no data or too few; 2 wins over 1, 1 over 3.

    `tolerated` verdicts (no_data, insufficient) do not count, but for the rest to be judged. A run of which nothing was
    judged at all is one without data.
    """
    found = set(verdicts) - {"not_applicable"} or {"no_data"}
    return next((code for verdict, code in EXIT_CODES.items() if verdict in found - tolerated), 0)
