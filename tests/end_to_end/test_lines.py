"""`OTEL_TRACES_EXPORTER=sqlite,jsonl`: lines beside the record, or alone, with the same promises."""

import json
import signal
import sqlite3
from pathlib import Path

import pytest

from retrospan.importing import import_lines

from .support import SPANS, finish, read, start, statuses


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.sqlite"


def lines(record: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in record.with_suffix(".jsonl").read_bytes().splitlines()]


CHILDREN = f"""{SPANS}
import multiprocessing, subprocess
span(0)
if sys.argv[1:]:
    sys.exit(0)
os.chdir("/")
subprocess.run([sys.executable, *sys.orig_argv[1:], "child"], check=True)
child = multiprocessing.get_context("fork").Process(target=span, args=(1,))
child.start(); child.join()
"""


def test_the_record_and_the_lines_hold_the_same_run_of_all_its_processes(record: Path, tmp_path: Path) -> None:
    assert finish(start(record, CHILDREN, OTEL_TRACES_EXPORTER="sqlite,jsonl")) == (0, "", "")
    assert sorted(statuses(record)) == [0, 0, 1]
    made = tmp_path / "made.sqlite"
    import_lines([record.with_suffix(".jsonl")], made, print)
    for query in (
        "SELECT run_id, ts, status, span_id, process_id FROM http_events ORDER BY span_id",
        "SELECT run_id, owner_process_id, command, host_name, layers FROM run_info",
        "SELECT run_id, dropped_rows, http_429_ratio FROM run_summary",
    ):
        assert read(made, query) == read(record, query)
        assert read(made, query)


def test_lines_alone_are_complete_and_need_no_record(record: Path) -> None:
    assert finish(start(record, f"{SPANS}\nspans(0)", OTEL_TRACES_EXPORTER="jsonl", RETROSPAN_DB="")) == (0, "", "")
    assert not record.exists()
    told = lines(record)
    assert [line["table"] for line in told] == ["run_info", *["http_events"] * 20, "run_summary"]
    assert [line["status"] for line in told[1:-1]] == list(range(20))
    assert len({line["run_id"] for line in told}) == 1


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGTERM); naps()", "os._exit(3)"])
def test_lines_lose_nothing_at_ends_that_run_no_exit_handler(record: Path, how: str) -> None:
    code, *_ = finish(start(record, f"{SPANS}\nspans(0)\n{how}", OTEL_TRACES_EXPORTER="jsonl", RETROSPAN_DB=""))
    assert code in (-signal.SIGTERM, 3)
    assert [line["status"] for line in lines(record) if "status" in line] == list(range(20))
    assert lines(record)[-1]["table"] == "run_summary"


def test_a_head_sampler_is_told_in_the_lines(record: Path) -> None:
    sampled = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"}
    finish(start(record, f"{SPANS}\nspans(0)", OTEL_TRACES_EXPORTER="sqlite,jsonl", **sampled))
    assert read(record, "SELECT sampler FROM run_info") == [("TraceIdRatioBased{0.5}",)]
    assert {line.get("sampler") for line in lines(record) if line["table"] == "run_info"} >= {"TraceIdRatioBased{0.5}"}


def test_switched_off_no_lines_are_written(record: Path) -> None:
    variables = {"OTEL_TRACES_EXPORTER": "sqlite,jsonl", "RETROSPAN_DISABLED": "true"}
    assert finish(start(record, f"{SPANS}\nspans(0)", **variables)) == (0, "", "")
    assert [path.name for path in record.parent.iterdir()] == ["program.py"]


def test_from_code_lines_are_an_exporter_as_any(record: Path) -> None:
    program = f"""{SPANS}
import retrospan
from retrospan_exporters.jsonl import JSONLSpanExporter
from retrospan_exporters.processor import RecorderSpanProcessor
recorder = retrospan.configure()
exporter = JSONLSpanExporter()
trace.get_tracer_provider().add_span_processor(RecorderSpanProcessor(exporter, on_close=exporter.finish))
spans(0)
"""
    assert finish(start(record, program, launcher=())) == (0, "", "")
    assert statuses(record) == [line["status"] for line in lines(record) if "status" in line] == list(range(20))
    assert {line["run_id"] for line in lines(record)} == set(*read(record, "SELECT run_id FROM run_info"))


def test_a_record_of_lines_is_a_record_for_sqlite(record: Path, tmp_path: Path) -> None:
    finish(start(record, f"{SPANS}\nspans(0)", OTEL_TRACES_EXPORTER="jsonl", RETROSPAN_DB=""))
    import_lines([record.with_suffix(".jsonl")], record, print)
    connection = sqlite3.connect(record)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert statuses(record) == list(range(20))
