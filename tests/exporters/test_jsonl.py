"""The exporter of lines: whole lines by many processes, put aside by size, kept while they cannot be written."""

import json
import os
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SpanExportResult

from retrospan_exporters import jsonl
from retrospan_exporters.jsonl import JSONLSpanExporter, LineFile
from retrospan_instrumentation import surround

from .conftest import Make

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


@pytest.fixture(autouse=True)
def nothing_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surround, "layers", set())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.jsonl"


def lines(*files: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_span_is_a_line_with_its_table_and_what_is_known(file: Path, span: Make) -> None:
    exporter = JSONLSpanExporter(file, "R")
    waited = ("rate_limiter.acquire", {"rate_limiter.delay_ms": 7}, 1_700_000_000_250_000_000)
    assert (
        exporter.export([span({"http.response.status_code": 200, "http.request.wire": True}, events=[waited])])
        is SUCCESS
    )
    run, request, permit = lines(file)
    assert run.items() >= {"table": "run_info", "run_id": "R", "owner_process_id": os.getpid()}.items()
    assert len(request.pop("span_id")) == len(permit.pop("span_id")) == 16
    assert request.pop("trace_id") == permit.pop("trace_id")
    shared = {"run_id": "R", "process_id": os.getpid()}
    assert request == shared | {
        "table": "http_events", "ts": 1_700_000_000.5, "method": "GET", "status": 200, "from_cache": False,
        "revalidated": False, "stale": False, "elapsed_ms": 500, "wire": True,
    }  # fmt: skip
    assert permit == shared | {
        "table": "rate_events", "ts": 1_700_000_000.25, "action": "acquire", "delay_ms": 7, "weight": 1.0,
    }  # fmt: skip
    assert {name: count for name, count in exporter.written.items() if count} == {"http_events": 1, "rate_events": 1}


def test_the_file_is_its_users_alone_and_named_by_the_environment(
    tmp_path: Path, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert JSONLSpanExporter().path == str(tmp_path / "telemetry.jsonl")
    monkeypatch.setenv("RETROSPAN_JSONL", "named.jsonl")
    before = os.umask(0)
    try:
        JSONLSpanExporter().export([span()])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "named.jsonl").stat().st_mode) == 0o600


def test_layers_samplers_and_drops_are_told_when_they_are_known(
    file: Path, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = JSONLSpanExporter(file, "R")
    exporter.export([span()])
    monkeypatch.setattr(surround, "layers", {"breaker", "http"})
    exporter.run.sampler = "TraceIdRatioBased{0.1}"
    exporter.retry()
    exporter.retry()
    exporter.unqueued = 3
    exporter.retry()
    runs = [line for line in lines(file) if line["table"] == "run_info"]
    assert [(run.get("layers"), run.get("sampler"), run["dropped_rows"]) for run in runs] == [
        (None, None, 0),
        ("http,breaker", "TraceIdRatioBased{0.1}", 0),
        ("http,breaker", "TraceIdRatioBased{0.1}", 3),
    ]


def test_a_process_tells_of_its_end_once(file: Path, span: Make) -> None:
    exporter = JSONLSpanExporter(file, "R")
    exporter.export([span()])
    exporter.finish()
    exporter.shutdown()
    (end,) = (line for line in lines(file) if line["table"] == "run_summary")
    assert end.pop("finished_at") >= end["started_at"]
    assert end == {"table": "run_summary", "run_id": "R", "started_at": exporter.run.started_at}


WRITER = """
import sys
from retrospan_exporters.jsonl import LineFile
file, name = LineFile(sys.argv[1], int(sys.argv[3]) or None), sys.argv[2]
row = b'{"writer":"%s","number":%d,"text":"%s"}\\n'
lines = [row % (name.encode(), number, b"x" * (number % 400)) for number in range(3000)]
sys.stdin.readline()
while lines:
    del lines[:file.append(lines[:50])]
"""


@pytest.mark.parametrize("most_bytes", [0, 100_000])
def test_lines_of_many_processes_are_all_there_whole_and_in_each_ones_order(file: Path, most_bytes: int) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, file, str(number), str(most_bytes)], stdin=subprocess.PIPE)
        for number in range(4)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=40)
    assert [writer.returncode for writer in writers] == [0] * 4
    files = sorted(file.parent.iterdir())
    assert files[-1] == file
    found = lines(*files)
    assert Counter(line["writer"] for line in found) == dict.fromkeys("0123", 3_000)
    for name in "0123":
        assert [line["number"] for line in found if line["writer"] == name] == list(range(3_000))
    assert len(files) == 1 if not most_bytes else len(files) > 20
    assert all(0 < part.stat().st_size <= (most_bytes or 10**9) for part in files)


def test_a_file_that_would_grow_beyond_the_bound_is_put_aside_and_none_is_ever_overwritten(
    file: Path, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETROSPAN_JSONL_MAX_BYTES", "1000")
    file.with_name("telemetry.000041.jsonl").write_bytes(b'{"earlier":true}\n')
    file.with_name("telemetry.000099.jsonl.gz").write_bytes(b"somebody's")
    exporter = JSONLSpanExporter(file, "R")
    for status in range(20):
        exporter.export([span({"http.response.status_code": status})])
    names = sorted(path.name for path in file.parent.iterdir())
    assert names[:3] == ["telemetry.000041.jsonl", "telemetry.000042.jsonl", "telemetry.000043.jsonl"]
    assert lines(file.with_name("telemetry.000041.jsonl")) == [{"earlier": True}]
    parts = [file.with_name(name) for name in names if name.endswith(".jsonl")]
    assert [line["status"] for line in lines(*parts) if "status" in line] == list(range(20))
    assert all(part.stat().st_size <= 1000 for part in parts)


def test_a_line_that_is_longer_than_the_bound_has_a_file_to_itself(file: Path) -> None:
    bounded = LineFile(file, 10)
    rest = [b"1\n", b"2" * 30 + b"\n", b"3\n"]
    while rest:
        del rest[: bounded.append(rest)]
    contents = [path.read_bytes() for path in sorted(file.parent.iterdir())]
    assert contents == [b"1\n", b"2" * 30 + b"\n", b"3\n"]


def test_a_bound_that_is_no_number_is_told_in_a_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RETROSPAN_JSONL_MAX_BYTES", "10 MB")
    JSONLSpanExporter(file)
    assert messages(caplog) == [
        "RETROSPAN_JSONL_MAX_BYTES='10 MB' is no number of bytes: the file may grow without a bound."
    ]


def test_what_a_power_loss_cut_off_spoils_no_line_but_its_own(file: Path, span: Make) -> None:
    file.write_bytes(b'{"table":"http_ev')
    JSONLSpanExporter(file, "R").export([span()])
    torn, run, request = file.read_bytes().splitlines()
    assert torn == b'{"table":"http_ev'
    assert [json.loads(line)["table"] for line in (run, request)] == ["run_info", "http_events"]


def test_lines_wait_while_they_cannot_be_written_and_come_in_order_when_they_can(
    file: Path, span: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "_MOST_WAITING", 4)
    file.mkdir()
    exporter = JSONLSpanExporter(file, "R")
    for status in range(6):
        assert exporter.export([span({"http.response.status_code": status})]) is FAILURE
    assert (exporter.waiting, exporter.dropped) == (4, 3)
    file.rmdir()
    assert exporter.retry()
    assert [line.get("status") for line in lines(file)] == [None, 0, 1, 2]
    assert messages(caplog) == [
        f"{file} cannot be written (Is a directory): make it writable, or name another file by RETROSPAN_JSONL."
        " Up to 4 rows wait for that.",
        f"{file} is written again; 3 rows had to be dropped.",
    ]


def test_a_full_disk_leaves_no_half_of_a_batch(file: Path) -> None:
    program = """
import resource, signal, sys
from retrospan_exporters.jsonl import LineFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = LineFile(sys.argv[1])
file.append([b"first\\n"])
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    file.append([b"x" * 60 + b"\\n"] * 3)
except OSError as error:
    print(error.strerror)
"""
    ran = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout == "No space left on device\n"
    assert file.read_bytes() == b"first\n"


@pytest.mark.filterwarnings("ignore:This process")
def test_what_waits_at_a_fork_is_the_parents_to_write(file: Path, span: Make) -> None:
    file.mkdir()
    exporter = JSONLSpanExporter(file, "R")
    exporter.export([span({"http.response.status_code": 1})])
    file.rmdir()
    child = os.fork()
    if not child:
        exporter.export([span({"http.response.status_code": 2})])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    exporter.retry()
    assert [line["status"] for line in lines(file) if "status" in line] == [2, 1]
    assert {line["owner_process_id"] for line in lines(file) if line["table"] == "run_info"} == {child, os.getpid()}
