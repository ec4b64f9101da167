"""`opentelemetry-instrument python program.py` with nothing else set, and every variable that the user may set."""

import os
import sqlite3
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from origin import Answer, Origin

from .support import OTHERS

LAUNCH = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
PROGRAM = """
import sys, httpx2, tenacity
@tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
def get():
    httpx2.get(sys.argv[1]).raise_for_status()
get()
print("done")
"""
Launch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    def launch(
        *arguments: str, program: str = PROGRAM, python: Path = Path(sys.executable), code: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "RETROSPAN_"))}
        if variables:  # where nothing is set, nothing at all is
            kept["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"] = OTHERS
        ran = subprocess.run(
            [python, "-c", LAUNCH, python, "-c", program, *arguments],
            cwd=tmp_path,
            env={**kept, **variables},
            capture_output=True,
            text=True,
            timeout=40,
            check=False,
        )
        assert ran.returncode == code, ran.stderr
        return ran

    return launch


@pytest.fixture
def url(origin: Origin) -> str:
    return origin.script("/flaky", Answer(503), Answer(200))


def read(record: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(record) as connection:
        return connection.execute(query).fetchall()


SENDS = "SELECT status, retry_count, retry_source FROM http_events ORDER BY ts"
BOTH = [(503, 0, None), (200, 1, "frame")]


def test_with_nothing_set_the_record_is_telemetry_sqlite_for_its_user_only(
    launch: Launch, tmp_path: Path, url: str
) -> None:
    ran = launch(url)
    assert (ran.stdout, ran.stderr) == ("done\n", "")
    record = tmp_path / "telemetry.sqlite"
    assert read(record, SENDS) == BOTH
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert read(record, "SELECT command, layers FROM run_info")[0][1] == "http,retry"


def test_it_works_the_same_without_the_stock_distro(launch: Launch, tmp_path: Path, url: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    (home,) = (tmp_path / "venv" / "lib").glob("python3.*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("opentelemetry_distro-"):
            (home / entry.name).symlink_to(entry)
    ran = launch(url, python=tmp_path / "venv" / "bin" / "python")
    assert (ran.stdout, ran.stderr) == ("done\n", "")
    assert read(tmp_path / "telemetry.sqlite", SENDS) == BOTH


@pytest.mark.parametrize("variable", ["RETROSPAN_DISABLED", "OTEL_SDK_DISABLED"])
def test_a_switch_switches_all_of_it_off(launch: Launch, tmp_path: Path, url: str, variable: str) -> None:
    ran = launch(url, **{variable: "true"})
    assert (ran.stdout, ran.stderr) == ("done\n", "")
    assert [path.name for path in tmp_path.iterdir()] == []


def test_one_instrumentation_can_be_switched_off_by_its_name(launch: Launch, tmp_path: Path, url: str) -> None:
    launch(url, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="retrospan-tenacity")
    record = tmp_path / "telemetry.sqlite"
    assert read(record, "SELECT layers FROM run_info") == [("http",)]
    assert read(record, SENDS) == [(503, 0, None), (200, 1, "inferred")]


def test_an_exporter_of_the_users_choice_is_obeyed_and_told_once(launch: Launch, tmp_path: Path, url: str) -> None:
    ran = launch(url, OTEL_TRACES_EXPORTER="console")
    assert ran.stderr.count("no record is written") == ran.stderr.count("\n") == 1
    assert '"http.response.status_code": 503' in ran.stdout
    assert not (tmp_path / "telemetry.sqlite").exists()


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_TRACES_EXPORTER": "sqlite,console"},
        {"OTEL_TRACES_EXPORTER": "console", "RETROSPAN_DB": "telemetry.sqlite"},
    ],
)
def test_a_record_is_written_beside_another_exporter(
    launch: Launch, tmp_path: Path, url: str, variables: dict[str, str]
) -> None:
    ran = launch(url, **variables)
    assert '"http.response.status_code": 503' in ran.stdout
    assert ran.stderr == ""
    assert read(tmp_path / "telemetry.sqlite", SENDS) == BOTH


def test_a_sampler_of_the_users_choice_is_obeyed(launch: Launch, tmp_path: Path, url: str) -> None:
    launch(url, OTEL_TRACES_SAMPLER="always_off")
    assert read(tmp_path / "telemetry.sqlite", "SELECT COUNT(*) FROM http_events") == [(0,)]


def test_a_distro_of_the_users_choice_is_obeyed_and_joined_where_a_record_is_asked_for(
    launch: Launch, tmp_path: Path, url: str
) -> None:
    others = {"OTEL_PYTHON_DISTRO": "distro", "OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"}
    launch(url, **others, OTEL_LOGS_EXPORTER="none", OTEL_PYTHON_CONFIGURATOR="configurator")
    assert not (tmp_path / "telemetry.sqlite").exists()
    launch(
        url,
        **others,
        OTEL_LOGS_EXPORTER="none",
        OTEL_PYTHON_CONFIGURATOR="configurator",
        RETROSPAN_DB="telemetry.sqlite",
    )
    assert len(read(tmp_path / "telemetry.sqlite", SENDS)) == 1


def test_beside_a_distro_of_the_users_choice_the_hooks_spans_are_fast_and_no_others(launch: Launch) -> None:
    others = {
        "OTEL_PYTHON_DISTRO": "distro",
        "OTEL_PYTHON_CONFIGURATOR": "configurator",
        "OTEL_TRACES_EXPORTER": "none",
    }
    others |= {"OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none", "RETROSPAN_DB": "telemetry.sqlite"}
    program = (
        "from opentelemetry import trace; from retrospan_instrumentation import emit; import httpx2\n"
        "for tracer in (emit.tracer, trace.get_tracer('program')): print(type(tracer.start_span('GET')).__name__)"
    )
    assert launch(program=program, **others).stdout == "RecorderSpan\n_Span\n"
    assert launch(program=program, **others, RETROSPAN_FAST_SPANS="0").stdout == "_Span\n_Span\n"


def test_the_run_id_is_the_users_and_goes_on_when_it_is_complete(launch: Launch, tmp_path: Path, url: str) -> None:
    first = launch(url, RETROSPAN_RUN_ID="nightly")
    second = launch(url, RETROSPAN_RUN_ID="nightly")
    assert first.stderr == ""
    assert second.stderr.count("nightly.2") == second.stderr.count("\n") == 1
    record = tmp_path / "telemetry.sqlite"
    assert read(record, "SELECT run_id FROM run_summary ORDER BY 1") == [("nightly",), ("nightly.2",)]
    assert read(record, "SELECT run_id, COUNT(*) FROM http_events GROUP BY 1") == [("nightly", 2), ("nightly.2", 1)]


def test_child_processes_belong_to_the_run_and_do_not_end_it(launch: Launch, tmp_path: Path, url: str) -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {PROGRAM!r}, sys.argv[1]], check=True)"
    launch(url, program=program)
    record = tmp_path / "telemetry.sqlite"
    assert len(read(record, "SELECT run_id FROM run_info")) == len(read(record, "SELECT run_id FROM run_summary")) == 1
    (owner,) = read(record, "SELECT run_id, owner_process_id FROM run_info")
    (writer,) = read(record, "SELECT DISTINCT run_id, process_id FROM http_events")
    assert owner[0] == writer[0]
    assert owner[1] != writer[1]


def test_beside_the_official_instrumentation_a_send_is_one_row(launch: Launch, tmp_path: Path, url: str) -> None:
    official = "from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor as I; I().instrument()\n"
    launch(url, program=official + PROGRAM)
    assert read(tmp_path / "telemetry.sqlite", SENDS) == BOTH


def test_httpx2_can_still_stand_in_for_httpx(launch: Launch, tmp_path: Path, url: str) -> None:
    launch(url, program="import httpx2; httpx2.alias_httpx(); import httpx; assert httpx is httpx2\n" + PROGRAM)
    assert read(tmp_path / "telemetry.sqlite", SENDS) == BOTH


def test_a_program_that_uses_none_of_the_libraries_is_a_run_all_the_same(launch: Launch, tmp_path: Path) -> None:
    ran = launch(program="print('nothing imported')")
    assert (ran.stdout, ran.stderr) == ("nothing imported\n", "")
    assert read(tmp_path / "telemetry.sqlite", "SELECT COUNT(*) FROM run_summary") == [(1,)]


def test_a_mapper_that_the_environment_names_says_what_names_stand_for(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "from retrospan_instrumentation.mapping import Mapper\n"
        "class Ours(Mapper):\n"
        "    def host(self, name): return 'api.crossref.org' if name == 'cr' else None\n"
    )
    program = "import pyrate_limiter as p; p.Limiter(p.Rate(9, p.Duration.SECOND)).try_acquire('cr')"
    launch(program=program, RETROSPAN_MAPPER="ours:Ours")
    assert read(tmp_path / "telemetry.sqlite", "SELECT host FROM rate_events") == [("api.crossref.org",)]
    ran = launch(program=program, RETROSPAN_MAPPER="ours:Theirs")
    assert ran.stderr.count("RETROSPAN_MAPPER") == ran.stderr.count("\n") == 1
