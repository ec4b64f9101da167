"""The report as JUnit XML: a test suite of one test case an objective, for whatever draws CI results.

What sets a bad exit code is a failure, or an error where the numbers could not be had; what does not apply, or is
tolerated, is skipped. The shape is that of the XSD that Jenkins publishes, which others read too.
"""

import time
from xml.etree import ElementTree

from retrospan.slo.gate import Report
from retrospan.slo.output import wording
from retrospan.slo.verdicts import Result
from retrospan.text import printable

_SUITE = "retrospan slo"


def tell(report: Report) -> str:
    """The document, with its declaration."""
    outcomes = [_outcome(report, result) for result in report.results]
    counts = {
        "tests": str(len(outcomes)),
        "failures": str(outcomes.count("failure")),
        "errors": str(outcomes.count("error")),
    }
    root = ElementTree.Element("testsuites", {"name": _SUITE, "time": "0", **counts})
    about = {"name": _SUITE, "time": "0", **counts, "skipped": str(outcomes.count("skipped"))}
    if report.run is not None and report.run.started_at is not None:
        about["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(report.run.started_at))
    suite = ElementTree.SubElement(root, "testsuite", about)
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(report):
        ElementTree.SubElement(properties, "property", {"name": name, "value": value})
    for result, outcome in zip(report.results, outcomes, strict=True):
        _add_case(suite, report, result, outcome)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode")


def _outcome(report: Report, result: Result) -> str | None:
    if result.verdict == "pass":
        return None
    if result.verdict == "not_applicable" or report.tolerates(result):
        return "skipped"
    return "error" if result.verdict == "error" else "failure"


def _properties(report: Report) -> list[tuple[str, str]]:
    return [
        ("judged", wording.judged(report.scope)),
        ("verdict", report.verdict),
        ("exit_code", str(report.exit_code)),
    ]


def _add_case(suite: ElementTree.Element, report: Report, result: Result, outcome: str | None) -> None:
    name = printable(result.slo.name)
    case = ElementTree.SubElement(suite, "testcase", {"classname": "retrospan.slo", "name": name, "time": "0"})
    if outcome == "skipped":
        ElementTree.SubElement(case, outcome, {"message": wording.brief(result, report)})
    elif outcome is not None:
        about = {"type": result.verdict, "message": wording.brief(result, report)}
        ElementTree.SubElement(case, outcome, about).text = "\n".join(wording.at_length(result))
    ElementTree.SubElement(case, "system-out").text = wording.brief(result, report)
