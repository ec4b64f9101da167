"""The report as commands of GitHub's workflow log: an annotation for each objective that did not pass, and the total.

An annotation stands at the line of the definition, where there is a file; what leaves the exit code alone is a warning.
"""

from typing import Final

from retrospan.slo.gate import Report
from retrospan.slo.output import wording
from retrospan.slo.verdicts import Result

# What ends a command, or a property of one, in the log.
_DATA: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def tell(report: Report) -> str:
    """The lines; the last is no command."""
    return "\n".join(
        [_annotation(report, result) for result in report.results if result.verdict not in ("pass", "not_applicable")]
        + [wording.total(report) if report.results else "no run to judge"]
    )


def _annotation(report: Report, result: Result) -> str:
    level = "warning" if report.tolerates(result) else "error"
    slo = result.slo
    place = {"file": slo.file, "line": slo.line, "col": slo.column} if slo.file is not None else {}
    properties = {**place, "title": f"SLO {slo.name}: {result.verdict}"}
    said = ",".join(
        f"{name}={str(value).translate(_PROPERTY)}" for name, value in properties.items() if value is not None
    )
    text = "\n".join([wording.brief(result, report), *wording.at_length(result)])
    return f"::{level} {said}::{text.translate(_DATA)}"
