"""What the start makes of the environment, beyond a record: the run's id, the sampler."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .support import LAUNCHER, SPANS, environment, finish, launched, read, start, statuses


def test_programs_of_these_tests_start_in_the_environment_that_the_launcher_makes(tmp_path: Path) -> None:
    record, code = tmp_path / "telemetry.sqlite", "import json, os; print(json.dumps(dict(os.environ)))"
    own = environment(record, PYTHONPATH="one", OTEL_SERVICE_NAME="mine")
    ran = subprocess.run(
        [LAUNCHER, sys.executable, "-S", "-c", code], cwd=tmp_path, env=own, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout) == launched(record, tmp_path, PYTHONPATH="one", OTEL_SERVICE_NAME="mine")


def test_the_runs_id_is_on_the_resource_and_in_the_environment_of_children(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    program = (
        f"{SPANS}\nspan(200)\nimport json; attributes = trace.get_tracer_provider().resource.attributes\n"
        "print(json.dumps([attributes['retrospan.run_id'], os.environ['RETROSPAN_RUN_ID']]))"
    )
    status, out, err = finish(start(record, program, OTEL_RESOURCE_ATTRIBUTES="service.name=mine"))
    assert (status, err) == (0, "")
    ((run_id,),) = read(record, "SELECT run_id FROM http_events")
    assert json.loads(out) == [run_id, run_id]


def test_a_complete_run_goes_on_under_a_number_everywhere(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    program = f"{SPANS}\nspan(200); print(trace.get_tracer_provider().resource.attributes['retrospan.run_id'])"
    told = [finish(start(record, program, RETROSPAN_RUN_ID="nightly"))[1] for _ in range(3)]
    assert told == ["nightly\n", "nightly.2\n", "nightly.3\n"]
    assert read(record, "SELECT run_id FROM http_events ORDER BY id") == [("nightly",), ("nightly.2",), ("nightly.3",)]


def test_a_child_writes_to_the_runs_record_whatever_its_folder(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    (tmp_path / "elsewhere").mkdir()
    child = f"{SPANS}\nspan(404)"
    program = (
        f"{SPANS}\nspan(200)\nimport subprocess\n"
        f"subprocess.run([sys.executable, '-c', {child!r}], cwd='elsewhere', check=True)"
    )
    status, _, err = finish(start(record, program, RETROSPAN_DB=record.name))
    assert (status, err) == (0, "")
    assert statuses(record) == [200, 404]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_setting_that_is_not_understood_is_told_once_however_many_exporters_read_it(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    wrong = {"RETROSPAN_MAX_BYTES": "10MB", "RETROSPAN_SAMPLE": "half", "RETROSPAN_FLUSH_INTERVAL_MS": "soon"}
    process = start(record, f"{SPANS}\nspan(200)", OTEL_TRACES_EXPORTER="sqlite,jsonl", **wrong)
    status, _, err = finish(process)
    assert (status, statuses(record)) == (0, [200])
    assert sorted(line.partition("=")[0] for line in err.splitlines()) == sorted(wrong)


@pytest.mark.parametrize(
    ("variables", "sampler"),
    [
        ({}, None),
        ({"OTEL_TRACES_SAMPLER": "always_on"}, None),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}, "TraceIdRatioBased{0.25}"),
    ],
)
def test_a_record_that_a_sampler_thins_says_so(tmp_path: Path, variables: dict[str, str], sampler: str | None) -> None:
    record = tmp_path / "telemetry.sqlite"
    assert finish(start(record, f"{SPANS}\nspans(0, 200)", **variables))[0] == 0
    assert read(record, "SELECT sampler FROM run_info") == [(sampler,)]
    assert (len(statuses(record)) == 200) == (sampler is None)


def test_a_program_that_configures_itself_too_is_recorded_once(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    program = f"{SPANS}\nimport retrospan; recorder = retrospan.configure()\nspan(200); print(recorder.stats().run_id)"
    status, out, err = finish(start(record, program))
    assert (status, err) == (0, "")
    assert read(record, "SELECT run_id, status FROM http_events") == [(out.strip(), 200)]


def test_a_record_that_cannot_be_written_leaves_the_program_alone(tmp_path: Path) -> None:
    record = tmp_path / "nowhere" / "telemetry.sqlite"
    (tmp_path / "program.py").write_text(f"{SPANS}\nspan(200); print('done')", encoding="utf-8")
    status, out, err = finish(start(tmp_path / "x", f"{SPANS}\nspan(200); print('done')", RETROSPAN_DB=str(record)))
    assert (status, out) == (0, "done\n")
    assert err.splitlines()[0] == (
        f"{record} cannot be written: its folder is not there: make it, or name another file by RETROSPAN_DB."
        " Up to 65536 rows wait for that."
    )
    assert not os.path.lexists(record.parent)
