"""The report as text: a line an objective, what failed last with its offenders, and a line that sums it up.

    print(tell(report, Style.of(sys.stdout)))

Colour, and signs beyond ASCII, only where the terminal takes them.
"""

import os
from dataclasses import dataclass
from typing import Final, TextIO

from retrospan.slo.gate import Report
from retrospan.slo.output import wording
from retrospan.slo.verdicts import Result, Verdict
from retrospan.text import printable, table

_HEAD: Final = ("SLO", "VERDICT", "VALUE", "OBJECTIVE", "GOOD", "OF", "95 % OF GOOD", "NOTE")
_COLOURS: Final[dict[Verdict, int]] = {
    "pass": 32,
    "fail": 31,
    "error": 31,
    "no_data": 33,
    "insufficient": 33,
    "not_applicable": 2,
}
_SIGNS: Final = {">=": "≥", "<=": "≤"}


@dataclass(frozen=True, slots=True)
class Style:
    """What the place where text goes can show."""

    colour: bool = False
    unicode: bool = False

    @classmethod
    def of(cls, stream: TextIO) -> "Style":
        """What a stream can show: colour on a terminal unless NO_COLOR is set or TERM is dumb, signs by its encoding."""
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
        encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
        return cls(terminal and not os.environ.get("NO_COLOR"), terminal and encoding.startswith("utf"))


PLAIN: Final = Style()


def tell(report: Report, style: Style = PLAIN) -> str:
    """The text, without a last newline; nothing of a record without a run."""
    if not report.results:
        return ""
    results = wording.in_order(report.results)
    head, *lines = table(_HEAD, [_cells(result, report) for result in results]).splitlines()
    told = [head]
    for line, result in zip(lines, results, strict=True):
        told.append(coloured(line, result.verdict, style))
        told += [f"  {dimension:8} {said}" for dimension, said in wording.blamed(result)]
    text = "\n".join([*told, "", coloured(wording.total(report), report.verdict, style)])
    if style.unicode:
        for plain, sign in _SIGNS.items():
            text = text.replace(f" {plain} ", f" {sign} ")
    return text


def _cells(result: Result, report: Report) -> tuple[str, ...]:
    sample = result.sample
    return (
        printable(result.slo.name),
        result.verdict,
        wording.amount(result.slo, result.value),
        wording.objective(result.slo),
        wording.count(sample and sample.good),
        wording.count(sample and sample.total),
        wording.interval(result),
        wording.note(result, report),
    )


def coloured(line: str, verdict: Verdict, style: Style) -> str:
    """The first mention of the verdict in a line, in its colour."""
    return line.replace(verdict, f"\x1b[{_COLOURS[verdict]}m{verdict}\x1b[0m", 1) if style.colour else line
