"""The forms of a report, each against a page that was read by a human once, and against what others read it with.

`UPDATE_GOLDEN=1 pytest tests/retrospan/test_output.py` writes the pages anew: read the difference.
"""

import json
import os
import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from retrospan.slo.definitions import DEFAULTS, SLI, Query, TimeSlices
from retrospan.slo.gate import Choice, Terms, judge, judge_run
from retrospan.slo.output import FORMATS
from retrospan.slo.output.plain import Style, tell

from .commands import retrospan
from .records import RUN, START, healthy, making
from .test_cli import not_finite

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "slo.schema.json").read_text())
# What strangers may have put into a record: escapes of a terminal, of Markdown, of a workflow's log, of XML.
HOSTILE = "\x1b[31m|<b>`x`\r\n::error::%0A@all"
FILES = {
    "text": "report.txt",
    "json": "report.json",
    "junit": "report.xml",
    "github": "report.github",
    "markdown": "report.md",
}


@pytest.fixture
def report(path):
    """A run of which something passes, fails, is too little, unknown, not applicable or in error; against another."""
    with making(path) as record:
        record.run("before", started_at=START - 9000)
        healthy(record, run_id="before")
        record.ended("before")
        record.run(layers="http,cache,fallback,download")
        healthy(record, 100)
        bad = [{"ts": START + 70 + n, "trace_id": bytes([n] * 16)} for n in range(40)]
        record.add("http_events", *bad, status=429, wire=1, from_cache=0, host=HOSTILE, role="artifact")
        record.connection.execute(
            "UPDATE http_events SET from_cache = NULL WHERE role = 'metadata' AND run_id = ?", (RUN,)
        )
        record.connection.execute("UPDATE http_events SET breaker_state = NULL WHERE run_id = ?", (RUN,))
        record.ended()
    where = {"file": "slo,a:b.toml", "line": 3, "column": 1}
    slos = [replace(slo, **where) if name == "http_429" else slo for name, slo in DEFAULTS.items()]
    sliced = replace(DEFAULTS["yield"], name="sliced", slices=TimeSlices(60, Fraction(1, 2)), events_needed=5)
    query = Query("events", "SELECT ts AS timestamp, 1 AS value FROM nowhere", file="slo.toml", line=9)
    broken = replace(
        sliced, name="broken", default=False, slices=None, sli=SLI("broken", None, (), "", queries=(query,))
    )
    return judge(path, Choice((RUN,)), [*slos, sliced, broken], Terms(baseline="before"))


@pytest.mark.parametrize("form", FILES)
def test_a_report_reads_as_it_did(report, form):
    told = FORMATS[form](report) + "\n"
    page = GOLDEN / FILES[form]
    if os.environ.get("UPDATE_GOLDEN"):
        page.write_text(told, encoding="utf-8")
    assert told == page.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", FILES)
def test_no_form_lets_a_control_character_through(report, form):
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", FORMATS[form](report))


def test_json_is_what_its_schema_says(report, path):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    everything = json.loads(FORMATS["json"](report), parse_constant=not_finite)
    jsonschema.validate(everything, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert {slo["verdict"] for slo in everything["slos"]} == {
        "pass",
        "fail",
        "no_data",
        "insufficient",
        "not_applicable",
        "error",
    }
    over_time = FORMATS["json"](judge(path, Choice(span=replace(Choice().span, first=START))))
    jsonschema.validate(json.loads(over_time, parse_constant=not_finite), SCHEMA)


def test_the_schema_refuses_what_is_no_report(report):
    told = json.loads(FORMATS["json"](report))
    for spoil in ({"exit_code": 4}, {"extra": 1}, {"slos": [{}]}, {"verdict": "fine"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(told | spoil, SCHEMA)


def test_junit_is_valid_and_counts_what_it_holds(report):
    import xmlschema  # takes half a second, as in test_statistics

    told = FORMATS["junit"](report)
    xmlschema.XMLSchema(GOLDEN / "junit.xsd").validate(told)
    (suite,) = ElementTree.fromstring(told)
    for outcome, attribute in {
        "failure": "failures",
        "error": "errors",
        "skipped": "skipped",
        "testcase": "tests",
    }.items():
        assert int(suite.get(attribute)) == len(list(suite.iter(outcome)))
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]


def test_junit_of_a_tolerated_verdict_is_skipped_and_else_a_failure(path):
    with making(path) as record:
        record.run()
    outcome = {}
    for tolerated in (frozenset(), frozenset({"no_data"})):
        suite = ElementTree.fromstring(FORMATS["junit"](judge_run(path, tolerated=tolerated)))[0]
        outcome[bool(tolerated)] = suite.get("failures"), suite.get("skipped")
    assert outcome == {False: ("7", "0"), True: ("0", "7")}


def test_an_annotation_stands_at_its_definition_and_is_one_line_each(report):
    lines = FORMATS["github"](report).splitlines()
    (line,) = [line for line in lines if "http_429" in line]
    assert line.startswith("::error file=slo%2Ca%3Ab.toml,line=3,col=1,title=SLO http_429%3A fail::")
    assert all(line.startswith("::error ") for line in lines[:-1])
    assert not lines[-1].startswith("::")


def test_no_file_name_ends_an_annotation_or_begins_another(path):
    with making(path) as record:
        record.run()
    slo = replace(DEFAULTS["http_429"], file="100%\r\n::error::x", line=1)
    annotation, *_ = FORMATS["github"](judge_run(path, slos=[slo])).splitlines()
    assert annotation.startswith("::error file=100%25%0D%0A%3A%3Aerror%3A%3Ax,line=1,title=")


def test_what_is_tolerated_is_a_warning(path):
    with making(path) as record:
        record.run()
    report = judge_run(path, tolerated={"no_data"})
    assert [line.split()[0] for line in FORMATS["github"](report).splitlines()[:-1]] == ["::warning"] * 7


def test_what_failed_stands_last_next_to_the_total(report):
    verdicts = [line.split()[1] for line in FORMATS["text"](report).splitlines()[1:-2] if not line.startswith("  ")]
    assert verdicts == sorted(
        verdicts, key=["pass", "not_applicable", "insufficient", "no_data", "fail", "error"].index
    )


def test_colour_and_signs_are_for_terminals_that_take_them(report, monkeypatch):
    class Stream:
        encoding = "utf-8"

        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = tell(report, Style.of(Stream()))
    assert "\x1b[31mfail\x1b[0m" in coloured
    assert "≤ 2 %" in coloured
    monkeypatch.setenv("NO_COLOR", "1")
    assert Style.of(Stream()) == Style(colour=False, unicode=True)
    Stream.encoding = "ascii"
    assert tell(report, Style.of(Stream())) == FORMATS["text"](report)
    assert FORMATS["text"](report).isascii()


# -- where they go


def test_files_are_written_beside_stdout_in_the_form_of_their_ending(path, tmp_path):
    with making(path) as record:
        record.run()
        healthy(record)
        record.ended()
    files = [tmp_path / f"report{ending}" for ending in (".json", ".xml", ".md", ".txt")]
    finished = retrospan("slo", "--db", path, *(f"--output={file}" for file in files))
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith("SLO ")
    assert json.loads(files[0].read_text())["verdict"] == "pass"
    assert ElementTree.parse(files[1]).getroot().get("failures") == "0"
    assert files[2].read_text().startswith("## SLOs: pass")
    assert files[3].read_text() == finished.stdout


@pytest.mark.parametrize("name", ["report.pdf", "no-such-folder/report.json"])
def test_a_file_that_cannot_be_written_is_2_in_one_line(path, tmp_path, name):
    with making(path) as record:
        record.run()
    finished = retrospan("slo", "--db", path, "--output", tmp_path / name)
    assert finished.returncode == 2
    assert (finished.stdout, finished.stderr.count("\n")) == ("", 1)
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_github_job_gets_its_step_summary(path, tmp_path):
    with making(path) as record:
        record.run()
        healthy(record)
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    retrospan("slo", "--db", path, "--format", "github", GITHUB_STEP_SUMMARY=str(summary))
    assert summary.read_text().startswith("before\n## SLOs: pass\n")
