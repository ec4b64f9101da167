"""The report as one JSON object, as `docs/slo.schema.json` has it; unknown numbers are null, none is NaN or infinite.

json.loads(tell(report))["slos"][0]["verdict"]
"""

import json
import math
from fractions import Fraction
from typing import Any, Final

from retrospan.slo.baseline import Baseline
from retrospan.slo.blame import Offender
from retrospan.slo.gate import Report
from retrospan.slo.statistics import Number
from retrospan.slo.verdicts import Result
from retrospan.slo.windows import Scope

SCHEMA_VERSION: Final = 1


def tell(report: Report) -> str:
    """The object, indented."""
    return json.dumps(
        {
            "schema_version": SCHEMA_VERSION,
            "run_id": report.run and report.run.run_id,
            "provisional": report.scope.provisional,
            "sampler": report.run and report.run.sampler,
            "judged": _scope(report.scope),
            "verdict": report.verdict,
            "exit_code": report.exit_code,
            "summary": report.summary,
            "baseline": report.baseline and {"name": report.baseline.name, "regressed": report.baseline.regressed},
            "slos": [
                _fields(result) | {"change": _change(report.baseline, result.slo.name)} for result in report.results
            ],
        },
        indent=2,
        allow_nan=False,
    )


def _scope(scope: Scope) -> dict[str, Any]:
    return {"runs": [run.run_id for run in scope.runs], "from": scope.span.first, "to": scope.span.last}


def _fields(result: Result) -> dict[str, Any]:
    slo, sample, budget, worst = result.slo, result.sample, result.budget, result.blame.worst
    return {
        "name": slo.name,
        "verdict": result.verdict,
        "value": result.value,
        "reason": result.reason,
        "op": slo.op,
        "threshold": number(slo.threshold),
        "target": None if slo.target is None else float(slo.target),
        "good": sample and number(sample.good),
        "total": sample and number(sample.total),
        "unknown": sample and sample.unknown,
        "effective_events": sample and sample.events,
        "ci": result.ci,
        "min_events": slo.min_events,
        "budget_consumed": budget and budget.burn_rate,
        "budget": budget
        and {
            "allowed": number(budget.allowed),
            "bad": number(budget.bad),
            "left": number(budget.left),
            "burn_rate": budget.burn_rate,
        },
        "offenders": [_offender(offender) for offender in result.blame.offenders],
        "worst": worst and {"from": worst.first, "to": worst.last, "bad": worst.bad},
        "trace_ids": result.blame.traces,
        "window": result.scope and _scope(result.scope),
        "definition": {"file": slo.file, "line": slo.line},
    }


def _offender(offender: Offender) -> dict[str, Any]:
    return {
        "dimension": offender.dimension,
        "value": offender.value,
        "bad": offender.bad,
        "total": offender.total,
        "from": offender.first,
        "to": offender.last,
        "share_of_bad": offender.share,
        "trace_ids": offender.traces,
    }


def _change(baseline: Baseline | None, name: str) -> dict[str, Any] | None:
    if baseline is None:
        return None
    change = baseline.changes[name]
    return {
        "verdict": change.verdict,
        "value_before": change.value,
        "difference": change.difference,
        "ci": change.ci,
        "reason": change.reason,
    }


def number(value: Number) -> int | float | None:
    exact = Fraction(value)
    number = exact.numerator if exact.denominator == 1 else float(exact)
    return number if math.isfinite(number) else None
