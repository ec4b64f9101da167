"""Definition files on the command line: linted, judged by, written out."""

import json
import sqlite3
from pathlib import Path

import pytest

from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.documents.load import load

from .commands import python, retrospan
from .records import START, healthy, making

OPENSLO = Path(__file__).parent / "openslo"
LATENCY = "SELECT ts AS timestamp, elapsed_ms AS value, host FROM http_events WHERE elapsed_ms IS NOT NULL"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "slo.toml"


@pytest.fixture
def report(path):
    """The report on a record of 100 requests of 1 to 100 ms, every tenth answered 503, by files; and how it ended."""
    with making(path) as record:
        record.run(layers="http")
        rows = [{"elapsed_ms": n, "status": 503 if n % 10 == 0 else 200, "host": f"h{n % 4}"} for n in range(1, 101)]
        record.add("http_events", *rows, wire=1, ts=START)
        record.ended()

    def report(*files):
        configs = [argument for file in files for argument in ("--config", file)]
        finished = retrospan("slo", "--db", path, "--run", "latest", *configs, "--format", "json")
        slos = {slo["name"]: slo for slo in json.loads(finished.stdout or '{"slos": []}')["slos"]}
        return finished, slos

    return report


def test_lint_tells_every_problem_with_its_place_and_what_is_near(file):
    file.write_text(
        f'[slo.yield]\nmni = "85%"\n[slo.mine]\nsql = """\n{LATENCY.replace("elapsed_ms AS", "elapsed AS")}"""\nmax = 1\n'
    )
    finished = retrospan("slo", "lint", file)
    assert (finished.returncode, finished.stderr) == (2, "")
    assert finished.stdout.splitlines() == [
        f"{file}:2:1: error: slo.yield.mni: unknown key: did you mean min?",
        f"{file}:4:7: error: slo.mine.sql: no such column: elapsed",
        "9 objectives; errors: 2, warnings: 0",
    ]


def test_lint_tries_the_query_of_an_objective_whose_other_keys_are_wrong(file):
    file.write_text(
        f"""
[slo.mine]
sql = "{LATENCY.replace("elapsed_ms AS", "elapsed AS")}"
max = "3 parsecs"

[slo.'No name']
sql = "SELECT ts AS timestamp, absent AS value FROM http_events"
max = 1

[slo.halves]
good = "SELECT ts AS timestamp FROM nowhere"
total = "SELECT ts AS time FROM http_events"
min = "90%"

[slo.alone]
good = "SELECT 1"
total = 1
"""
    )
    finished = retrospan("slo", "lint", file)
    assert finished.returncode == 2
    assert finished.stdout.splitlines() == [
        f"{file}:3:7: error: slo.mine.sql: no such column: elapsed",
        f"{file}:4:7: error: slo.mine.max: 'parsecs' is no unit: known are %, ms, s, m, h, d",
        f"{file}:6:1: error: slo.No name: a name has at most 60 of a-z, 0-9 and _, and begins and ends with no _",
        f"{file}:7:7: error: slo.No name.sql: no such column: absent",
        f"{file}:11:8: error: slo.halves.good: no such table: nowhere",
        f"{file}:12:9: error: slo.halves.total: lacks the column timestamp: its columns are time",
        f"{file}:15:1: error: slo.alone: lacks a threshold: give min or max",
        f"{file}:16:8: error: slo.alone.good: lacks the column timestamp: its columns are 1",
        f"{file}:17:9: error: slo.alone.total: must be a text, not a number",
        "9 objectives; errors: 9, warnings: 0",
    ]


def test_lint_tries_no_query_of_an_objective_that_is_switched_off(file):
    file.write_text('[slo.mine]\nenabled = false\nsql = "SELECT absent"\nmax = 1\n')
    assert retrospan("slo", "lint", file).returncode == 0


def test_lint_tries_the_queries_of_openslo_objectives_whose_other_keys_are_wrong(tmp_path):
    file = tmp_path / "slo.yaml"
    file.write_text(
        """apiVersion: openslo/v1
kind: SLO
metadata: {name: answered}
spec:
  service: downloader
  budgetingMethod: Occurrences
  timeWindow: [{duration: 1d, isRolling: true}]
  objectives: [{target: 7}]
  indicator:
    metadata: {name: answered}
    spec:
      ratioMetric:
        good: {metricSource: {type: sqlite, spec: {query: SELECT absent}}}
        total: {metricSource: {type: sqlite, spec: {query: 1}}}
---
apiVersion: openslo/v1
kind: SLI
metadata: {name: nobody-asks}
spec:
  ratioMetric:
    rawType: mixed
    raw: {metricSource: {type: sqlite, spec: {query: SELECT absent}}}
"""
    )
    finished = retrospan("slo", "lint", file)
    assert finished.returncode == 2
    assert finished.stdout.splitlines() == [
        f"{file}:8:25: error: spec.objectives[0].target: must be at least 0 and less than 1",
        f"{file}:13:59: error: spec.indicator.spec.ratioMetric.good.metricSource.spec.query: no such column: absent",
        f"{file}:14:60: error: spec.indicator.spec.ratioMetric.total.metricSource.spec.query: must be a text, not a number",
        f"{file}:21:14: error: spec.ratioMetric.rawType: 'mixed' is not known: known are success, failure",
        f"{file}:22:54: error: spec.ratioMetric.raw.metricSource.spec.query: no such column: absent",
        "8 objectives; errors: 5, warnings: 0",
    ]


def test_lint_is_0_with_warnings_at_most():
    finished = retrospan("slo", "lint", OPENSLO / "lenient.yaml")
    assert finished.returncode == 0
    assert finished.stdout.splitlines()[-1] == "9 objectives; errors: 0, warnings: 13"
    assert all(": warning: " in line for line in finished.stdout.splitlines()[:-1])


def test_lint_reads_several_files_as_one(file):
    file.write_text('[slo.answered]\nmin = "50%"\n')
    assert retrospan("slo", "lint", OPENSLO / "every_kind.yaml", file).returncode == 0
    assert retrospan("slo", "lint", file).returncode == 2


def test_lint_tries_the_queries_on_a_record_with_columns_of_its_own(file, path):
    with making(path):
        pass
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE http_events ADD COLUMN shard INTEGER")
    connection.close()
    file.write_text('[slo.mine]\nsql = "SELECT ts AS timestamp, shard AS value FROM http_events"\nmax = 1\n')
    assert "no such column: shard" in retrospan("slo", "lint", file).stdout
    assert retrospan("slo", "lint", "--db", path, file).returncode == 0


def test_lint_holds_the_rows_of_the_latest_run_of_a_record_to_their_contract(file, path):
    with making(path) as record:
        record.run("OLD", started_at=START - 60)
        record.add("http_events", {"elapsed_ms": 1, "method": "GET"}, run_id="OLD")
        record.run("NEW")
        record.add("http_events", {"elapsed_ms": 1}, {"elapsed_ms": 2, "method": "GET"}, run_id="NEW")
    file.write_text('[slo.mine]\nsql = "SELECT ts AS timestamp, method AS value FROM http_events"\nmax = 1\n')
    assert retrospan("slo", "lint", file).returncode == 0
    linted = retrospan("slo", "lint", "--db", path, file)
    assert linted.returncode == 2
    assert "slo.mine.sql: row 2, column value: text instead of a number or NULL" in linted.stdout


def test_lint_without_a_file_is_wrong_usage():
    assert retrospan("slo", "lint").returncode == 2


@pytest.mark.parametrize("name", sorted(file.name for file in OPENSLO.glob("*.yaml")))
def test_every_query_of_the_documents_can_be_run(name):
    finished = retrospan("slo", "lint", OPENSLO / name)
    assert (finished.returncode, "errors: 0" in finished.stdout) == (0, True)


def test_the_gate_judges_by_the_files_and_says_where_each_objective_stands(file, report):
    file.write_text(
        f"""
[slo.http_429]
max = "5%"

[slo.mean_ms]
sql = "{LATENCY}"
max = "50ms"

[slo.p90_ms]
sql = "{LATENCY}"
p = 0.9
max = "90ms"

[slo.answered]
good = "SELECT ts AS timestamp, host, id FROM http_events WHERE status < 500"
total = "SELECT ts AS timestamp, host, id FROM http_events"
min = "89%"
"""
    )
    finished, slos = report(file)
    assert finished.returncode == 1
    told = {
        name: (slos[name]["verdict"], slos[name]["value"]) for name in ("mean_ms", "p90_ms", "answered", "http_429")
    }
    assert told == {
        "mean_ms": ("fail", 50.5),
        "p90_ms": ("pass", 90.0),
        "answered": ("pass", 0.9),
        "http_429": ("pass", 0.0),
    }
    assert slos["p90_ms"]["target"] == 0.9
    assert (slos["answered"]["good"], slos["answered"]["total"]) == (90, 100)
    places = {name: slo["definition"]["line"] for name, slo in slos.items() if slo["definition"]["file"] == str(file)}
    assert places == {"http_429": 2, "mean_ms": 5, "p90_ms": 9, "answered": 14}


def test_openslo_is_judged_by_its_own_numbers(report):
    _, slos = report(OPENSLO / "ratios.yaml", OPENSLO / "thresholds.yaml", OPENSLO / "every_kind.yaml")
    assert {name: (slo["verdict"], slo["value"]) for name, slo in slos.items() if slo["definition"]["file"]} == {
        "good_of_total_1": ("pass", 0.9),
        "good_of_total_2": ("fail", 0.9),
        "bad_of_total": ("insufficient", 0.0),
        "raw_success": ("pass", 0.9),
        "raw_failure": ("pass", 0.0),
        "one_select": ("pass", 0.9),
        "at_most": ("pass", 95.0),
        "below": ("pass", 95.0),
        # The 99 % that are largest begin with 2, and all of the values with 1.
        "at_least": ("fail", 2.0),
        "above": ("pass", 100.0),
        "answered": ("pass", 0.9),
    }


def test_a_query_that_breaks_its_contract_is_an_error_of_its_objective_alone(file, report):
    file.write_text('[slo.mine]\nsql = "SELECT ts AS timestamp, host AS value FROM http_events"\nmax = 1\n')
    finished, slos = report(file)
    assert finished.returncode == 2
    assert (slos["mine"]["verdict"], slos["mine"]["reason"]) == (
        "error",
        f"{file}:2:7: slo.mine.sql: row 1, column value: text instead of a number or NULL",
    )
    assert slos["yield"]["verdict"] == "not_applicable"


def test_a_query_that_writes_is_an_error_and_changes_nothing(file, report, path):
    before = path.read_bytes()
    file.write_text('[slo.mine]\nsql = "DELETE FROM http_events RETURNING ts AS timestamp, 1 AS value"\nmax = 1\n')
    finished, slos = report(file)
    assert (finished.returncode, slos["mine"]["reason"].rpartition(": ")[2]) == (2, "anything but one SELECT")
    assert path.read_bytes() == before


def test_a_wrong_file_is_2_with_a_line_each_and_nothing_on_stdout(file, report):
    file.write_text('[slo.yield]\nmni = "85%"\n[slo.ttfp_p50]\nmax = "3 parsecs"\n')
    finished, _ = report(file)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr.splitlines() == [
        f"retrospan: {file}:2:1: error: slo.yield.mni: unknown key: did you mean min?",
        f"retrospan: {file}:4:7: error: slo.ttfp_p50.max: 'parsecs' is no unit: known are %, ms, s, m, h, d",
    ]


def test_what_a_file_names_is_never_not_applicable(file, report):
    file.write_text('[slo.yield]\nmin = "85%"\n')
    _, slos = report(file)
    assert (slos["yield"]["verdict"], slos["cache_hit"]["verdict"]) == ("no_data", "not_applicable")


def test_a_file_in_the_current_directory_counts_only_when_it_is_named(file, path, monkeypatch):
    file.write_text("[slo.corruption]\nenabled = false\n")
    with making(path) as record:
        record.run()
        healthy(record)
        record.ended()
    monkeypatch.chdir(file.parent)
    assert "8 pass" in retrospan("slo", "--db", path).stdout
    assert "7 pass" in retrospan("slo", "--db", path, "--config", "slo.toml").stdout


@pytest.mark.parametrize(("form", "suffix"), [("toml", "toml"), ("openslo", "yaml")])
def test_export_writes_what_reads_back(tmp_path, form, suffix):
    documents = [OPENSLO / name for name in ("every_kind.yaml", "ratios.yaml", "slices.yaml", "thresholds.yaml")]
    finished = retrospan(
        "slo", "export", "--format", form, *[part for file in documents for part in ("--config", file)]
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    written = tmp_path / f"slo.{suffix}"
    written.write_text(finished.stdout, encoding="utf-8")
    found = load([written])
    assert found.warnings == ()
    before = [slo for slo in load(documents).slos if not slo.default]
    assert [slo for slo in found.slos if slo.name not in DEFAULTS] == before


def test_a_target_of_100_percent_cannot_be_exported_to_openslo(file):
    file.write_text('[slo.yield]\nmin = "100%"\nmin_events = 50\n')
    finished = retrospan("slo", "export", "--format", "openslo", "--config", file)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert finished.stderr == f"retrospan: {file}:1:1: error: yield: OpenSLO has no target of 100 %\n"
    assert retrospan("slo", "export", "--format", "toml", "--config", file).returncode == 0


def test_help_and_toml_need_no_yaml(file):
    file.write_text("")
    needed = f"from retrospan.slo.documents.load import load; import sys; load([{str(file)!r}]); print('yaml' in sys.modules)"
    assert python(needed) == "False\n"
    assert (
        python("import retrospan.slo.command, sys; print('yaml' in sys.modules, 'tomllib' in sys.modules)")
        == "False False\n"
    )
