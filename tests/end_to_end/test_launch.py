"""`retrospan run`: the program as it would be, its run begun and summed up, its signals and its exit code."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from .support import RETROSPAN, SPANS, environment, finish, read, start, statuses, wait_until

RUN = (RETROSPAN, "run", "--")


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.sqlite"


def test_the_program_is_recorded_its_streams_are_its_own_and_the_run_is_summed_up(record: Path) -> None:
    status, out, err = finish(
        start(record, f"{SPANS}\nspans(0); print('out'); print('err', file=sys.stderr)", launcher=RUN)
    )
    assert (status, out, err) == (0, "out\n", "err\n")
    assert statuses(record) == list(range(20))
    assert read(record, "SELECT command FROM run_info") == [("program.py",)]
    assert read(record, "SELECT COUNT(*) FROM run_summary") == [(1,)]


def test_record_and_run_id_are_options_and_what_follows_the_program_is_the_programs(
    tmp_path: Path, record: Path
) -> None:
    named = tmp_path / "named.sqlite"
    launcher = (RETROSPAN, "run", "--db", str(named), "--run-id", "nightly")
    program = f"{SPANS}\nspan(200); print(sys.argv[1:])"
    status, out, _ = finish(start(record, program, "--db", "x", "--slo", launcher=launcher))
    assert (status, out) == (0, "['--db', 'x', '--slo']\n")
    assert read(named, "SELECT run_id, status FROM http_events") == [("nightly", 200)]
    assert not record.exists()


@pytest.mark.parametrize(
    ("ending", "status"),
    [("sys.exit(5)", 5), ("raise RuntimeError", 1), ("os.kill(os.getpid(), signal.SIGKILL)", 128 + signal.SIGKILL)],
)
def test_the_programs_exit_code_is_passed_on_and_a_killed_run_is_summed_up(
    record: Path, ending: str, status: int
) -> None:
    assert finish(start(record, f"{SPANS}\n{ending}", launcher=RUN))[0] == status
    assert read(record, "SELECT COUNT(*) FROM run_summary") == [(1,)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_program_once_and_nothing_is_lost(record: Path, number: signal.Signals) -> None:
    program = f"""{SPANS}
told = []
def handler(number, frame):
    told.append(number); span(number); print("told", number, flush=True)
signal.signal({int(number)}, handler)
spans(100); print("ready", flush=True)
# A signal that comes between the last look for one and a read that blocks is seen after the read: Python's own gap.
while not told: time.sleep(0.01)
sys.stdin.readline()
"""
    process = start(record, program, launcher=RUN)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.readline() == f"told {int(number)}\n"
    status, out, _ = finish(process)
    assert (status, out) == (0, "")
    assert statuses(record) == [int(number), *range(100, 120)]


def test_a_program_that_dies_of_the_signal_gives_128_and_its_number(record: Path) -> None:
    process = start(record, f"{SPANS}\nspans(0); print('ready', flush=True); time.sleep(60)", launcher=RUN)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert finish(process)[0] == 128 + signal.SIGTERM
    assert statuses(record) == list(range(20))
    assert read(record, "SELECT COUNT(*) FROM run_summary") == [(1,)]


def test_with_slo_the_verdict_is_told_and_decides_only_where_the_program_did_not(record: Path) -> None:
    launcher = (RETROSPAN, "run", "--slo", "--")
    good = f"{SPANS}\nfor _ in range(400): span(200)"
    bad = f"{SPANS}\nfor _ in range(400): span(429)"
    status, out, err = finish(start(record, good, launcher=launcher))
    assert (status, out) == (0, "")
    assert "http_429" in err
    assert finish(start(record, bad, launcher=launcher))[0] == 1
    assert finish(start(record, f"{bad}\nsys.exit(9)", launcher=launcher))[0] == 9


def test_slo_takes_a_file_of_objectives_and_never_the_program_for_one(record: Path, tmp_path: Path) -> None:
    program = f"{SPANS}\nfor _ in range(100): span(200)"
    (tmp_path / "slo.toml").write_text('[slo.http_429]\nmax = "50%"\n')
    for launcher in ((RETROSPAN, "run", "--slo", str(tmp_path / "slo.toml")), (RETROSPAN, "run", "--slo")):
        status, _, err = finish(start(record, program, launcher=launcher))
        line = next(line for line in err.splitlines() if line.startswith("http_429"))
        assert (status, line.split()[1]) == ((0, "pass") if launcher[-1] != "--slo" else (3, "insufficient"))


def test_a_broken_file_of_objectives_is_2_before_the_program_starts(record: Path, tmp_path: Path) -> None:
    (tmp_path / "slo.toml").write_text('[slo.yield]\nmni = "50%"\n')
    launcher = (RETROSPAN, "run", "--slo", str(tmp_path / "slo.toml"), "--")
    status, out, err = finish(start(record, "print('started')", launcher=launcher))
    assert (status, out) == (2, "")
    assert "slo.toml:2:1: error: slo.yield.mni: unknown key: did you mean min?" in err
    assert not record.exists()


@pytest.mark.parametrize("variables", [{"OTEL_TRACES_EXPORTER": "console"}, {"OTEL_PYTHON_DISTRO": "distro"}])
def test_it_records_whatever_else_was_chosen(record: Path, variables: dict[str, str]) -> None:
    others = {"OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}
    finish(start(record, f"{SPANS}\nspans(0)", launcher=RUN, **{**others, **variables}))
    assert statuses(record) == list(range(20))


def test_switched_off_the_program_just_runs(record: Path) -> None:
    program = f"{SPANS}\nspan(200); print('done'); sys.exit(3)"
    status, out, err = finish(start(record, program, launcher=RUN, RETROSPAN_DISABLED="1"))
    assert (status, out, err) == (3, "done\n", "")
    assert not record.exists()


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("./not-a-program", 126)])
def test_a_program_that_cannot_be_started_is_told_as_a_shell_does(record: Path, command: str, status: int) -> None:
    (record.parent / "not-a-program").touch(mode=0o600)
    ran = subprocess.run(
        [*RUN, command],
        cwd=record.parent,
        env=environment(record),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == status
    assert ran.stderr.startswith(f"retrospan: {command}: ")
    assert ran.stderr.count("\n") == 1
    assert not record.exists(), "a run began that no program took part in"


def test_the_code_of_a_program_whose_record_is_gone_is_passed_on_all_the_same(record: Path) -> None:
    program = f"{SPANS}\nos.unlink(os.environ['RETROSPAN_DB']); os.mkdir(os.environ['RETROSPAN_DB']); os._exit(6)"
    status, _, err = finish(start(record, program, launcher=RUN))
    assert status == 6
    assert "retrospan: " in err


def test_the_run_shows_while_the_program_runs(record: Path) -> None:
    process = start(record, "import sys; sys.stdin.readline()", launcher=RUN)
    wait_until(lambda: read(record, "SELECT owner_process_id FROM run_info") == [(process.pid,)], "the run shows")
    listed = subprocess.run([RETROSPAN, "runs", "--db", record], capture_output=True, text=True, check=True)
    assert "live" in listed.stdout
    assert os.path.lexists(record)
    assert finish(process)[0] == 0
