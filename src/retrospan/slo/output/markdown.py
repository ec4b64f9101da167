"""The report as Markdown: a table, who burned the budget, and the total; GitHub's step summary is made of it.

Text from a record or a file is written as entities, so that nothing in it is a link, a mention or HTML.
"""

import re
from collections.abc import Sequence
from typing import Final

from retrospan.slo.gate import Report
from retrospan.slo.output import wording
from retrospan.slo.verdicts import Result, Verdict

_HEAD: Final = ("", "SLO", "Verdict", "Value", "Objective", "Good", "Of", "95 % of good", "Note")
_MARKS: Final[dict[Verdict, str]] = {
    "pass": "✅",
    "fail": "❌",
    "error": "💥",
    "no_data": "⚠️",
    "insufficient": "⚠️",
    "not_applicable": "➖",
}
_SPECIAL: Final = re.compile(r"[\\`*_\[\]#|<>&@~:]")


def tell(report: Report) -> str:
    """The page, without a last newline."""
    if not report.results:
        return "## SLOs: no run to judge"
    results = wording.in_order(report.results)
    lines = [f"## SLOs: {report.verdict.replace('_', ' ')}", "", _escaped(wording.total(report)), ""]
    lines += [_row(_HEAD), _row(["---"] * len(_HEAD)), *(_row(_cells(result, report)) for result in results)]
    for result in results:
        blamed = wording.blamed(result)
        if blamed:
            lines += ["", f"**{_escaped(result.slo.name)}**", ""]
            lines += [f"- {_escaped(dimension)}: {_escaped(said)}" for dimension, said in blamed]
    return "\n".join(lines)


def _cells(result: Result, report: Report) -> list[str]:
    sample = result.sample
    told = (
        result.slo.name,
        result.verdict,
        wording.amount(result.slo, result.value),
        wording.objective(result.slo).replace(">=", "≥").replace("<=", "≤"),
        wording.count(sample and sample.good),
        wording.count(sample and sample.total),
        wording.interval(result),
        wording.note(result, report),
    )
    return [_MARKS[result.verdict], *map(_escaped, told)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", text)
