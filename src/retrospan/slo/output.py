"""The forms in which a report is told: a table for people, JSON for programs.

    FORMATS["json"](report)

Nothing is judged here: what is told stands in the report.
"""

import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

from retrospan.slo.gate import Report
from retrospan.slo.measure import Offender
from retrospan.slo.verdicts import Result
from retrospan.text import printable, table

SCHEMA_VERSION: Final = 1
_SIGNS: Final = {"gte": ">=", "lte": "<="}
_UNITS: Final = {"share": " %", "percentile": " ms", "count": "", "worst_hour": " an hour"}


def as_json(report: Report) -> str:
    """The report as one JSON object; unknown numbers are null, and no number is NaN or infinite."""
    return json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "run_id": report.run and report.run.run_id,
            "provisional": report.run is not None and report.run.provisional,
            "sampler": report.run and report.run.sampler,
            "verdict": report.verdict,
            "exit_code": report.exit_code,
            "summary": report.summary,
            "slos": [_fields(result) for result in report.results],
        },
        indent=2,
        allow_nan=False,
    )


def as_text(report: Report) -> str:
    """The report as a table, a line an objective, offenders under what failed, and a line that sums it up."""
    if report.run is None:
        return ""
    head = ("SLO", "VERDICT", "VALUE", "OBJECTIVE", "GOOD", "OF", "95 % OF GOOD", "NOTE")
    first, *lines = table(head, [_cells(result) for result in report.results]).splitlines()
    told = [first]
    for line, result in zip(lines, report.results, strict=True):
        told += [line, *map(_offender, result.offenders)]
    return "\n".join([*told, "", _total(report)])


FORMATS: Final[dict[str, Callable[[Report], str]]] = {"text": as_text, "json": as_json}


def _fields(result: Result) -> dict[str, Any]:
    slo, sample = result.slo, result.sample
    return {
        "name": slo.name,
        "verdict": result.verdict,
        "value": result.value,
        "reason": result.reason,
        "op": slo.op,
        "threshold": _number(slo.threshold),
        "target": None if slo.target is None else float(slo.target),
        "good": sample and sample.good,
        "total": sample and sample.total,
        "unknown": sample and sample.unknown,
        "ci": result.ci,
        "min_events": slo.min_events,
        "budget_consumed": result.budget_consumed,
        "offenders": [
            {
                "dimension": offender.dimension,
                "value": offender.value,
                "bad": offender.bad,
                "total": offender.total,
                "from": offender.first,
                "to": offender.last,
            }
            for offender in result.offenders
        ],
        "definition": {"file": slo.file, "line": slo.line},
    }


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


def _cells(result: Result) -> tuple[str, ...]:
    slo, sample = result.slo, result.sample
    scale, unit = (100 if slo.statistic == "share" else 1), _UNITS[slo.statistic]
    value = "-" if result.value is None else _beside(result.value * scale, float(slo.threshold * scale)) + unit
    return (
        printable(slo.name),
        result.verdict,
        value,
        f"{_SIGNS[slo.op]} {float(slo.threshold * scale):g}{unit}",
        "-" if sample is None else str(sample.good),
        "-" if sample is None else str(sample.total),
        "-" if result.ci is None else f"{result.ci[0] * 100:.1f} to {result.ci[1] * 100:.1f}",
        _note(result),
    )


def _beside(value: float, threshold: float) -> str:
    """As few digits as do not make a value look as if it lay on its threshold: 84.996 against 85, not 85."""
    return next(
        text
        for text in (f"{value:.{digits}g}" if value < 1e4 else f"{value:.{digits}f}" for digits in (4, 6, 9, 17))
        if float(text) != threshold or value == threshold
    )


def _note(result: Result) -> str:
    sample, sli = result.sample, result.slo.sli
    notes = [result.reason] if result.reason else []
    if sample is not None and sample.unknown:
        notes.append(f"{sample.unknown} {sli.unknown}")
    if sample is not None and sample.apart and sli.apart:
        notes.append(f"{sample.apart} {sli.apart[0]}")
    return "; ".join(notes)


def _offender(offender: Offender) -> str:
    return f"  {offender.dimension} {printable(offender.value)}: {offender.bad} of {offender.total} bad"


def _total(report: Report) -> str:
    assert report.run is not None, "a report of no run has no total"
    counts = Counter(result.verdict for result in report.results)
    said = ", ".join(f"{n} {verdict}" for verdict, n in sorted(counts.items()))
    provisional = " (provisional: the run has not ended)" if report.run.provisional else ""
    return f"run {printable(report.run.run_id)}{provisional}: {report.verdict}; {said}; exit code {report.exit_code}"
