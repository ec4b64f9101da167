"""The command line as a user has it: exit codes, what goes to stdout, and one clear line on stderr."""

import json
import os
import platform
import sqlite3
import subprocess
import sys
from importlib import import_module

import click
import pytest

from retrospan import cli
from retrospan.slo.definitions import DEFAULTS
from retrospan_exporters import tables

from .commands import in_one_line, process, python, retrospan
from .records import RUN, START, beside, healthy, making, now

# -- slo


def test_an_empty_record_is_3_in_one_line(path):
    with making(path):
        pass
    finished = retrospan("slo", "--db", path)
    assert finished.returncode == 3
    assert "holds no run yet" in in_one_line(finished)
    assert beside(path) == [path.name]


def test_an_empty_record_is_3_in_json_too(path):
    with making(path):
        pass
    finished = retrospan("slo", "--db", path, "--format", "json")
    report = json.loads(finished.stdout)
    assert (finished.returncode, report["run_id"], report["verdict"], report["slos"]) == (3, None, "no_data", [])


def test_a_missing_file_is_2_in_one_line_and_not_created(path):
    finished = retrospan("slo", "--db", path)
    assert finished.returncode == 2
    assert "no such file" in in_one_line(finished)
    assert beside(path) == []


def test_a_file_that_is_not_sqlite_is_2_in_one_line(path):
    path.write_text("<html>not a database at all</html>")
    finished = retrospan("slo", "--db", path)
    assert finished.returncode == 2
    assert "is not a SQLite database" in in_one_line(finished)
    assert beside(path) == [path.name]


def test_a_damaged_record_is_2_in_one_line_that_says_what_to_do(path):
    with making(path) as record:
        healthy(record, 200)
    octets = path.read_bytes()
    path.write_bytes(octets[: len(octets) // 2])
    finished = retrospan("slo", "--db", path)
    assert finished.returncode == 2
    assert "sqlite3 FILE .recover" in in_one_line(finished)
    assert path.read_bytes() == octets[: len(octets) // 2]


def test_an_unknown_run_is_2_in_one_line_that_says_what_is_near(path):
    with making(path) as record:
        record.run()
    finished = retrospan("slo", "--db", path, "--run", RUN[:-1])
    assert finished.returncode == 2
    assert f"did you mean {RUN}?" in in_one_line(finished)
    assert beside(path) == [path.name]


@pytest.mark.parametrize("option", [["--db", "x"], ["--run", "latest"], ["--baseline", "previous"]])
def test_an_option_before_a_subcommand_is_wrong_usage_not_ignored(option):
    finished = retrospan("slo", *option, "suggest")
    assert finished.returncode == 2
    assert f"{option[0]} belongs after suggest" in finished.stderr


def test_wrong_usage_is_2():
    assert retrospan("slo", "--format", "yaml").returncode == 2
    assert retrospan("slow").returncode == 2


def test_a_healthy_run_is_0_and_its_table_on_stdout(path):
    with making(path) as record:
        record.run()
        healthy(record)
        record.ended()
    finished = retrospan("slo", "--db", path)
    assert (finished.returncode, finished.stderr) == (0, "")
    lines = finished.stdout.splitlines()
    assert lines[0].split()[:3] == ["SLO", "VERDICT", "VALUE"]
    assert [line.split()[:2] for line in lines[1:9]] == [[name, "pass"] for name in DEFAULTS]
    assert lines[-1] == f"run {RUN}: pass; 8 pass; exit code 0"


def test_a_failed_objective_is_1_and_names_its_offender(path):
    with making(path) as record:
        record.run()
        healthy(record)
        record.add("http_events", *[{}] * 50, status=429, wire=1, host="\x1b[31mslow.example")
    finished = retrospan("slo", "--db", path)
    assert finished.returncode == 1
    assert "  host     ?[31mslow.example: 50 of 50 bad (100 % of the bad)" in finished.stdout
    assert "(provisional: the run has not ended)" in finished.stdout


def test_too_few_events_are_3_and_0_when_told_to_warn(path):
    with making(path) as record:
        record.run(layers="download,fallback")
        healthy(record, 10)
    assert retrospan("slo", "--db", path).returncode == 3
    assert retrospan("slo", "--db", path, "--no-data=warn").returncode == 3
    assert retrospan("slo", "--db", path, "--insufficient=warn").returncode == 0


def test_a_run_that_had_rows_dropped_is_judged_with_a_warning_on_stderr(path):
    with making(path) as record:
        healthy(record, 30)
        record.run("SHORT", started_at=START + 1, layers="http", dropped_rows=1234)
        record.add("http_events", run_id="SHORT", status=200, wire=1)
    assert retrospan("slo", "--db", path, "--run", RUN).stderr == ""
    judged = retrospan("slo", "--db", path, "--run", "SHORT", "--format", "json")
    assert judged.stderr == (
        f"retrospan: {path}: run SHORT had 1,234 rows dropped for want of room: its numbers may be those of what was left\n"
    )
    assert json.loads(judged.stdout)["summary"]["dropped_rows"] == 1234


def test_no_data_is_3_and_0_when_told_to_warn(path):
    with making(path) as record:
        record.run()
    assert retrospan("slo", "--db", path).returncode == 3
    assert retrospan("slo", "--db", path, "--insufficient=warn").returncode == 3
    assert retrospan("slo", "--db", path, "--no-data=warn").returncode == 0


def test_a_value_just_below_its_threshold_does_not_look_as_if_on_it(path):
    with making(path) as record:
        record.add("fallback_attempts", *[{"artifact_id": str(n)} for n in range(25_000)], outcome="no_pdf")
        sound = {"outcome": "stored", "sha256": "0" * 64, "final_path": "p", "content_length": 1}
        record.add("downloads", *[{"artifact_id": str(n)} for n in range(21_249)], **sound)
    finished = retrospan("slo", "--db", path)
    (line,) = [line for line in finished.stdout.splitlines() if line.startswith("yield")]
    assert line.split()[:4] == ["yield", "fail", "84.996", "%"]


def not_finite(constant):
    raise AssertionError(f"{constant} is no JSON")


def test_json_has_the_documented_fields_and_nothing_but_json_on_stdout(path):
    with making(path) as record:
        record.run(started_at=START)
        healthy(record)
        record.add("rate_events", *[{}] * 50, role="metadata", action="block", host="h0.example")
    finished = retrospan("slo", "--db", path, "--format", "json")
    assert (finished.returncode, finished.stderr) == (1, "")
    report = json.loads(finished.stdout, parse_constant=not_finite)
    assert list(report) == [
        "schema_version",
        "run_id",
        "provisional",
        "sampler",
        "judged",
        "verdict",
        "exit_code",
        "summary",
        "baseline",
        "slos",
    ]
    assert list(report["summary"]) == list(tables.RUN_SUMMARY.names())
    assert (report["schema_version"], report["run_id"], report["provisional"]) == (1, RUN, True)
    assert (report["verdict"], report["exit_code"]) == ("fail", 1)
    slos = {slo["name"]: slo for slo in report["slos"]}
    assert list(slos) == list(DEFAULTS)
    offender = {"bad": 50, "from": START + 60, "to": START + 60, "share_of_bad": 1.0, "trace_ids": []}
    assert slos["rate_delay_p95"] == {
        "name": "rate_delay_p95",
        "verdict": "fail",
        "value": None,
        "reason": "refused",
        "op": "lte",
        "threshold": 250,
        "target": 0.95,
        "good": 200,
        "total": 250,
        "unknown": 0,
        "ci": [pytest.approx(0.7460, abs=1e-4), pytest.approx(0.8449, abs=1e-4)],
        "min_events": 73,
        "budget_consumed": 4.0,
        "budget": {"allowed": 12.5, "bad": 50, "left": -37.5, "burn_rate": 4.0},
        "effective_events": None,
        "offenders": [
            offender | {"dimension": "host", "value": "h0.example", "total": 117},
            offender | {"dimension": "minute", "value": "2025-10-09T08:54Z", "total": 50},
        ],
        "worst": {"from": START + 60, "to": START + 60, "bad": 50},
        "trace_ids": [],
        "window": None,
        "definition": {"file": None, "line": None},
        "change": None,
    }
    assert [slos["breaker_opens"][field] for field in ("ci", "target", "min_events", "value")] == [None, None, 1, 0]
    assert [slos["http_429"][field] for field in ("threshold", "target", "value")] == [0.02, 0.98, 0.0]


def test_the_record_is_the_one_of_the_environment(path):
    with making(path) as record:
        record.run()
        healthy(record)
    assert retrospan("slo", RETROSPAN_DB=str(path)).returncode == 0


# -- runs, summarize, ddl


def test_runs_lists_live_killed_and_finished_runs_latest_first(path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with making(path) as record:
        owner = {"host_name": platform.node(), "layers": "http,cache"}
        record.run("live", started_at=now(), owner_process_id=os.getpid(), command="downloader", **owner)
        record.run("killed", started_at=now() - 60, owner_process_id=gone.pid, **owner)
        record.run("done", started_at=START, owner_process_id=gone.pid, **owner)
        record.ended("done", finished_at=START + 12.5)
    listed = retrospan("runs", "--db", path)
    assert [line.split()[:2] for line in listed.stdout.splitlines()] == [
        ["RUN", "STATE"],
        ["live", "live"],
        ["killed", "killed"],
        ["done", "finished"],
    ]
    assert listed.stdout.splitlines()[3].split()[2:5] == ["2025-10-09", "08:53:20", "12.5"]
    runs = json.loads(retrospan("runs", "--db", path, "--format", "json").stdout)
    assert runs[2] == {
        "run_id": "done",
        "state": "finished",
        "started_at": START,
        "finished_at": START + 12.5,
        "command": None,
        "host_name": platform.node(),
        "owner_process_id": gone.pid,
        "layers": ["cache", "http"],
        "dropped_rows": None,
        "pruned_rows": None,
        "sampler": None,
    }


def test_runs_of_a_missing_record_is_2_in_one_line(path):
    finished = retrospan("runs", "--db", path)
    assert finished.returncode == 2
    in_one_line(finished)


def test_runs_of_an_empty_record_are_none(path):
    with making(path):
        pass
    assert "holds no run yet" in in_one_line(retrospan("runs", "--db", path))
    assert json.loads(retrospan("runs", "--db", path, "--format", "json").stdout) == []


def test_a_killed_run_is_summed_up_once_and_finished_then(path):
    with making(path) as record:
        record.run()
        healthy(record, 5)
    assert retrospan("summarize", "--db", path).stdout == f"run {RUN}: summary written\n"
    assert retrospan("summarize", "--db", path, "--run", RUN).stdout == f"run {RUN}: had its summary already\n"
    assert json.loads(retrospan("runs", "--db", path, "--format", "json").stdout)[0]["state"] == "finished"


def test_a_live_run_is_not_summed_up(path):
    with making(path) as record:
        record.run(started_at=now(), owner_process_id=os.getpid(), host_name=platform.node())
    finished = retrospan("summarize", "--db", path)
    assert finished.returncode == 2
    assert "still live" in in_one_line(finished)


def test_ddl_prints_a_schema_that_sqlite_takes():
    printed = retrospan("ddl", "sqlite").stdout
    connection = sqlite3.connect(":memory:")
    connection.executescript(printed)
    found = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    assert found == {table.name for table in tables.TABLES}


# -- the command itself


def test_its_own_process_says_and_ends_as_it_does_in_ours(path):
    with making(path) as record:
        record.run("none")
        record.run(started_at=START + 1)
        healthy(record)
        record.run("bad", started_at=START + 2)
        record.add("http_events", *[{}] * 50, status=429, wire=1, host="é.example", run_id="bad")
    for run, code in ((RUN, 0), ("bad", 1), ("nun", 2), ("none", 3)):
        asked = ("slo", "--db", path, "--run", run)
        assert process(*asked) == retrospan(*asked)
        assert retrospan(*asked).returncode == code


def test_help_lists_every_command_and_imports_none_of_them():
    loaded = python(
        "import sys; from click.testing import CliRunner; from retrospan.cli import cli;"
        "print(CliRunner().invoke(cli, ['--help']).output);"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in"
        " ('sqlite3', 'opentelemetry', 'retrospan_exporters', 'retrospan_instrumentation')))"
    )
    assert loaded.splitlines()[-1] == "[]"
    assert all(f"  {name} " in loaded for name in cli.COMMANDS)


@pytest.mark.parametrize("name", ["slo", "runs", "summarize", "ddl"])
def test_reading_a_record_never_imports_opentelemetry(name):
    module, _ = cli.COMMANDS[name].target.split(":")
    assert python(f"import sys, {module}; print([name for name in sys.modules if 'opentelemetry' in name])") == "[]\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_line_of_help_is_the_commands_own(name):
    module, attribute = cli.COMMANDS[name].target.split(":")
    assert getattr(import_module(module), attribute).get_short_help_str(200) == cli.COMMANDS[name].help


def test_version_is_the_distributions():
    from importlib.metadata import version

    assert retrospan("--version").stdout == f"retrospan {version('retrospan')}\n"


@click.command()
def broken():
    raise ValueError("two\nlines")


@click.command()
def interrupted():
    raise KeyboardInterrupt


@pytest.mark.parametrize(("name", "code", "said"), [("broken", 2, "ValueError in broken"), ("interrupted", 130, "")])
def test_a_fault_or_an_interrupt_is_never_exit_code_1(monkeypatch, capsys, name, code, said):
    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: {"broken": broken, "interrupted": interrupted}[name])
    monkeypatch.setattr(sys, "argv", ["retrospan", "runs"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_disk_under_stdout_is_no_fault_of_ours():
    with open("/dev/full", "w") as full:  # noqa: PTH123
        finished = subprocess.run(
            [sys.executable, "-m", "retrospan", "ddl", "sqlite"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    assert finished.returncode == 2
    assert finished.stderr == "retrospan: the output cannot be written: No space left on device\n"


def test_a_reader_that_has_gone_is_never_exit_code_1():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        finished = subprocess.run(
            [sys.executable, "-m", "retrospan", "ddl", "sqlite"], stdout=writing, stderr=subprocess.PIPE, timeout=30
        )
    finally:
        os.close(writing)
    assert (finished.returncode, finished.stderr) == (141, b"")
