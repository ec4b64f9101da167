"""What every form says alike: values with their units, objectives, notes, the total.

    amount(slo, 0.84996)          # "84.996 %"
    objective(slo)                # ">= 85 %"

All text from a record is made printable here or where it is put in; escaping for a form is the form's own business.
"""

import time
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from itertools import groupby
from typing import Final

from retrospan.slo.baseline import Comparison
from retrospan.slo.blame import MINUTE, Offender
from retrospan.slo.definitions import SIGNS, SLO
from retrospan.slo.gate import Report
from retrospan.slo.verdicts import Result, Verdict
from retrospan.slo.windows import Scope
from retrospan.text import printable

# In the order of telling: what matters most comes last, next to the total.
ORDER: Final[tuple[Verdict, ...]] = ("pass", "not_applicable", "insufficient", "no_data", "fail", "error")
_UNITS: Final = {"ratio": " %", "ms": " ms", "number": ""}


def in_order(results: Iterable[Result]) -> list[Result]:
    """Results with what failed last, each kind in the order of the definitions."""
    return sorted(results, key=lambda result: ORDER.index(result.verdict))


def amount(slo: SLO, value: float | None) -> str:
    """A value in its unit, or "-" for none, with as few digits as do not make it look as if it lay on the threshold."""
    if value is None:
        return "-"
    scale, unit, goal = _terms(slo)
    return _beside(value * scale, float(goal * scale)) + unit


def objective(slo: SLO) -> str:
    """What is asked: sign, threshold, unit; with time slices, of what."""
    scale, unit, goal = _terms(slo)
    slices = slo.slices
    sign = SIGNS[slo.op] if goal == slo.threshold else ">="
    said = f"{sign} {float(goal * scale):g}{unit}"
    if slices is None:
        return said
    length = f"{slices.seconds // 60} min" if slices.seconds % 60 == 0 else f"{slices.seconds} s"
    return f"{said}, mean of {length}" if slices.target is None else f"{said} of {length} {percent(slices.target)} good"


def interval(result: Result) -> str:
    """The interval of the share of good events, in percent."""
    return "-" if result.ci is None else f"{result.ci[0] * 100:.1f} to {result.ci[1] * 100:.1f}"


def count(number: object) -> str:
    """A number of events; weights may make it a fraction."""
    return "-" if number is None else f"{float(number):.12g}" if isinstance(number, Fraction | float) else str(number)


def percent(share: Fraction | float | None) -> str:
    """A share in percent."""
    return "-" if share is None else f"{float(share * 100):.4g} %"


def note(result: Result, report: Report) -> str:
    """Why a verdict is no plain pass or fail, what is shown beside it, and how it changed."""
    sample, sli = result.sample, result.slo.sli
    notes = [result.reason] if result.reason else []
    if sample is not None and sample.unknown:
        notes.append(f"{sample.unknown} {sli.unknown}")
    if sample is not None and sample.apart and sli.apart:
        notes.append(f"{sample.apart} {sli.apart[0]}")
    if result.scope is not None:
        notes.append(f"its own window, {stretch(result.scope.span.first, result.scope.span.last)}")
    if report.baseline is not None:
        notes.append(_changed(result.slo, report.baseline.changes[result.slo.name]))
    return printable("; ".join(notes), 300)


def blamed(result: Result, most: int = 3) -> list[tuple[str, str]]:
    """Who and when, a line a dimension: its name, and the worst of it with their bad events among all."""
    lines = [
        (printable(dimension), ", ".join(map(offence, list(offenders)[:most])))
        for dimension, offenders in groupby(result.blame.offenders, key=lambda offender: offender.dimension)
    ]
    worst = result.blame.worst
    if worst is not None and result.blame.bad > 1:
        lines.append(("worst", f"{worst.bad} of {result.blame.bad} bad within {stretch(worst.first, worst.last)}"))
    if result.blame.traces:
        lines.append(("traces", ", ".join(map(printable, result.blame.traces))))
    return lines


def brief(result: Result, report: Report) -> str:
    """A result in one line."""
    value = f"{amount(result.slo, result.value)}, asked {objective(result.slo)}"
    said = f"{printable(result.slo.name)}: {result.verdict}, {value}"
    if result.sample is not None:
        said += f"; {count(result.sample.good)} of {count(result.sample.total)} good"
    told = note(result, report)
    return f"{said}; {told}" if told else said


def at_length(result: Result) -> list[str]:
    """Who and when, a line a dimension."""
    return [f"{dimension}: {said}" for dimension, said in blamed(result)]


def offence(offender: Offender) -> str:
    """One offender: its bad events among all of it, and their share of all bad ones."""
    value = "unknown" if offender.value is None else printable(offender.value)
    share = "" if offender.dimension == MINUTE else f" ({percent(offender.share)} of the bad)"
    return f"{value}: {offender.bad} of {offender.total} bad{share}"


def stretch(first: float | None, last: float | None) -> str:
    """A stretch of time, UTC."""
    return f"{_moment(first)} to {_moment(last, after=first)}"


def judged(scope: Scope) -> str:
    """What was judged: a run, runs, or a stretch of time."""
    ids = [printable(run.run_id) for run in scope.runs]
    said = f"run {ids[0]}" if len(ids) == 1 else f"{len(ids)} runs" if scope.every else f"runs {', '.join(ids)}"
    if scope.span.first is not None or scope.span.last is not None:
        said += f", {stretch(scope.span.first, scope.span.last)}"
    unended = "the run has not ended" if len(ids) == 1 else "not all of them have ended"
    return f"{said} (provisional: {unended})" if scope.provisional else said


def _changed(slo: SLO, change: Comparison) -> str:
    before = f", was {amount(slo, change.value)}" if change.value is not None else ""
    if change.ci is None:
        return f"change {change.verdict}{before}" + (f" ({change.reason})" if change.reason else "")
    scale, unit = (1, "") if slo.statistic == "worst_hour" else (100, " points of good")
    low, high = (f"{bound * scale:+.2f}" for bound in change.ci)
    return f"{change.verdict}{before} ({(change.difference or 0) * scale:+.2f}{unit}, {low} to {high})"


def total(report: Report) -> str:
    """The verdict in one line."""
    counts = Counter(result.verdict for result in report.results)
    said = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
    if report.baseline is not None:
        changes = Counter(change.verdict for change in report.baseline.changes.values())
        against = ", ".join(f"{changes[change]} {change}" for change in ("worse", "better", "same") if changes[change])
        said += f"; against {printable(report.baseline.name)}: {against or 'nothing to compare'}"
    return f"{judged(report.scope)}: {report.verdict}; {said}; exit code {report.exit_code}"


def _terms(slo: SLO) -> tuple[int, str, Fraction]:
    """By what a value is multiplied, its unit, and what it is held against."""
    sliced = slo.slices is not None and (slo.slices.target is not None or slo.statistic == "percentile")
    if sliced and slo.target is not None:
        return 100, " %", slo.target
    if slo.unit == "ratio":
        return 100, " %", slo.threshold
    return 1, " an hour" if slo.statistic == "worst_hour" else _UNITS[slo.unit], slo.threshold


def _beside(value: float, threshold: float) -> str:
    """84.996 against 85, not 85."""
    return next(
        text
        for text in (f"{value:.{digits}g}" if value < 1e4 else f"{value:.{digits}f}" for digits in (4, 6, 9, 17))
        if float(text) != threshold or value == threshold
    )


def _moment(moment: float | None, after: float | None = None) -> str:
    if moment is None:
        return "now" if after is not None else "the first row"
    told = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))
    same_day = after is not None and told[:10] == time.strftime("%Y-%m-%d", time.gmtime(after))
    return (told[11:] if same_day else told) + ("Z" if after is not None else "")
