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
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final, Literal

from retrospan.record import RecordError
from retrospan.slo.blame import Blame, Offender, blame
from retrospan.slo.definitions import SLO
from retrospan.slo.measure import COMPARE, Measure, Sample
from retrospan.slo.statistics import Number, wilson
from retrospan.slo.windows import Scope

Verdict = Literal["pass", "fail", "no_data", "insufficient", "not_applicable", "error"]

# The verdicts that decide, the strongest first, each with the exit code that it means.
EXIT_CODES: Final[dict[Verdict, int]] = {"error": 2, "fail": 1, "no_data": 3, "insufficient": 3, "pass": 0}
REFUSED_REASON: Final = "refused"
_EXPLAINED: Final[frozenset[Verdict]] = frozenset({"fail", "insufficient"})


@dataclass(frozen=True, slots=True)
class Budget:
    """How many bad events (slices, with time slices) an objective allows, and how many there are.

    `burn_rate` is 1 when bad events come just as fast as would use up the budget by the end of what is judged.
    """

    allowed: Number
    bad: Number

    @property
    def left(self) -> Number:
        """What may still be bad, less than 0 when the budget is overdrawn."""
        return self.allowed - self.bad

    @property
    def burn_rate(self) -> float | None:
        """Bad events over those allowed; None when none are."""
        return float(Fraction(self.bad) / Fraction(self.allowed)) if self.allowed else None


@dataclass(frozen=True, slots=True)
class Result:
    """The verdict on one objective, and all it stands on. What is not known is None.

    `ci` is Wilson's interval of the share of good events. `scope` is what was judged, where that is the objective's own
    window and not the report's.
    """

    slo: SLO
    verdict: Verdict
    reason: str | None = None
    value: float | None = None
    sample: Sample | None = None
    ci: tuple[float, float] | None = None
    budget: Budget | None = None
    blame: Blame = field(default_factory=Blame)
    scope: Scope | None = None

    @property
    def offenders(self) -> tuple[Offender, ...]:
        """Who has most of the bad events, of an objective that did not pass."""
        return self.blame.offenders


def evaluate(measure: Measure, slos: Iterable[SLO], *, explained: bool = True) -> list[Result]:
    """The verdict on each objective; one whose numbers cannot be had is in error and keeps none of the others back.

    Unless `explained`, nobody looks for who is to blame.
    """
    results = []
    for slo in slos:
        try:
            results.append(_evaluate(measure, slo, explained))
        except RecordError as error:
            results.append(Result(slo, "error", str(error)))
    return results


def _evaluate(measure: Measure, slo: SLO, explained: bool) -> Result:
    if not measure.applies(slo):
        return Result(slo, "not_applicable", f"no {slo.sli.layer} was used in this run")
    sample = measure.sample(slo)
    if slo.sli.blind is not None and measure.blind(slo.sli):
        return Result(slo, "no_data", slo.sli.blind[1], sample=sample)
    result = judge(slo, sample)
    return replace(result, blame=blame(measure, slo)) if explained and result.verdict in _EXPLAINED else result


def judge(slo: SLO, sample: Sample) -> Result:
    """The verdict on a sample, by unrounded numbers."""
    if reason := missing(slo, sample):
        return Result(slo, "no_data", reason, sample=sample)
    assert sample.value is not None, "a sample that lacks nothing has a value"
    # What has no target has no share of good events to be on the safe side of: one event tells.
    ci = _interval(slo, sample)
    met = _is_met(slo, sample)
    verdict: Verdict = "pass" if met else "fail"
    reason = None
    events = sample.total if sample.events is None else sample.events
    # A count has a least number only where its definition says so, and once it is too high no event makes it less.
    asked = slo.target is not None or slo.events_needed is not None
    surely_missed = not met and (slo.target is None or (ci is not None and ci[1] < slo.target))
    if asked and events < slo.min_events and not surely_missed:
        verdict = "insufficient"
        reason = f"{float(events):.12g} of at least {slo.min_events} {'slices' if slo.slices else 'events'}"
    value = sample.value
    if math.isinf(value):
        reason = REFUSED_REASON
    return Result(slo, verdict, reason, None if math.isinf(value) else value, sample, ci, _budget(slo, sample))


def _is_met(slo: SLO, sample: Sample) -> bool:
    target = slo.target
    if target is None:
        assert sample.value is not None, "a sample that lacks nothing has a value"
        return COMPARE[slo.op](sample.value, slo.threshold)
    # Of a percentile the threshold is for each event, and the share of good ones need only reach the target.
    strict = slo.op in ("gt", "lt") and slo.statistic != "percentile"
    needed = target * Fraction(sample.total)
    return sample.good > needed if strict else sample.good >= needed


def _interval(slo: SLO, sample: Sample) -> tuple[float, float] | None:
    """Wilson's interval; of a mean of ratios it is on the safe side, since no numbers from 0 to 1 vary more than 0 and 1."""
    if slo.target is None or not 0 <= sample.good <= sample.total:
        return None
    return wilson(sample.good, sample.total, sample.events)


def missing(slo: SLO, sample: Sample) -> str | None:
    """Why nothing can be said; None when something can."""
    events = sample.total + sample.unknown
    if slo.max_unknown is not None and sample.unknown > slo.max_unknown * events:
        return f"{sample.unknown} of {events} are unknown, more than {float(slo.max_unknown * 100):g} %"
    return slo.sli.empty if sample.value is None else None


def _budget(slo: SLO, sample: Sample) -> Budget | None:
    if slo.target is not None:
        total = Fraction(sample.total)
        return Budget((1 - slo.target) * total, total - Fraction(sample.good))
    # A number is its own budget; a mean of values that are no ratios has none, nor has what must not fall short.
    if slo.statistic == "mean" or not slo.upper or sample.value is None:
        return None
    return Budget(slo.threshold, Fraction(sample.value))


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
