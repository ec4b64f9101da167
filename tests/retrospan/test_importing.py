"""`retrospan import`: the same tables as the exporter of records writes, or a reason and no file."""

import json
import sqlite3
import stat

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from retrospan.importing import import_lines
from retrospan.record import RecordError
from retrospan.summary import summarize
from retrospan_exporters import tables
from retrospan_exporters.jsonl import JSONLSpanExporter
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_instrumentation import surround

from .commands import in_one_line, retrospan
from .records import beside

RUN_INFO = {"table": "run_info", "run_id": "R", "started_at": 5.0, "schema_version": tables.SCHEMA_VERSION}
REQUEST = {"table": "http_events", "run_id": "R", "ts": 6.0}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "telemetry.jsonl"


@pytest.fixture(autouse=True)
def nothing_entered(monkeypatch):
    monkeypatch.setattr(surround, "layers", set())


def write(file, *lines):
    file.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))


def rows(path, table):
    """The rows of a table without their numbers, in a fixed order; of the ranges nothing but whose they are."""
    names = ("run_id", "table_name") if table is tables.RUN_RANGES else [column.name for column in table.inserted()]
    connection = sqlite3.connect(path)
    try:
        found = connection.execute(f"SELECT {', '.join(names)} FROM {table.name}").fetchall()
    finally:
        connection.close()
    return sorted(found, key=repr)


def some_spans():
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("tests")
    for number in range(60):
        known = {"http.response.status_code": 429 if number == 9 else 200, "http.request.role": "metadata"}
        attributes = {
            "http.request.method": "GET",
            "server.address": f"h{number % 3}",
            "http.request.wire": True,
            **known,
        }
        with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=attributes) as request:
            request.add_event("rate_limiter.acquire", {"rate_limiter.delay_ms": number})
        artifact = {"download.artifact_id": f"10.1/\u00e9{number}"}
        tracer.start_span("fallback.attempt", attributes={"fallback.outcome": "success", **artifact}).end()
        stored = {"download.outcome": "stored", "download.sha256": f"{number:064x}", "download.final_path": "a\nb"}
        tracer.start_span("download", attributes={**stored, **artifact}).end()
    opened = {"circuit_breaker.old_state": "closed", "circuit_breaker.new_state": "open"}
    tracer.start_span("circuit_breaker.state_change", attributes=opened).end()
    tracer.start_span("circuit_breaker.rejected", attributes={"server.address": "h0"}).end()
    return kept.get_finished_spans()


def test_the_record_is_the_one_that_the_exporter_of_records_writes(path, file, tmp_path, monkeypatch):
    monkeypatch.setenv("RETROSPAN_JSONL_MAX_BYTES", "8000")
    spans = some_spans()
    record, lines = SQLiteSpanExporter(path, "R"), JSONLSpanExporter(file, "R")
    lines.run.started_at = record.run.started_at
    for exporter in (record, lines):
        exporter.has_own_processor = True
        exporter.export(spans[:50])
    monkeypatch.setattr(surround, "layers", {"http", "download"})
    record.run.sampler = lines.run.sampler = "TraceIdRatioBased{0.5}"
    for exporter in (record, lines):
        exporter.unqueued = 4
        exporter.export(spans[50:])
    lines.finish()
    record.release()
    (end,) = (told for told in map(json.loads, file.read_text().splitlines()) if told["table"] == "run_summary")
    summarize(path, "R", finished_at=end["finished_at"])
    made = tmp_path / "made.sqlite"
    finished = retrospan("import", *sorted(tmp_path.glob("telemetry*.jsonl")), "--db", made)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout == f"{made}: 242 rows of run R\n"
    for table in tables.TABLES:
        assert rows(made, table) == rows(path, table)
        assert rows(made, table)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert retrospan("slo", "--db", made).stdout == retrospan("slo", "--db", path).stdout


def test_the_process_that_began_first_began_the_run_and_all_layers_are_its_layers(path, file):
    write(
        file,
        {**RUN_INFO, "started_at": 7.0, "owner_process_id": 2, "layers": "http", "dropped_rows": 2},
        {**RUN_INFO, "owner_process_id": 1, "command": "a.py"},
        {
            **RUN_INFO,
            "owner_process_id": 1,
            "command": "a.py",
            "layers": "cache,breaker",
            "sampler": "S",
            "dropped_rows": 3,
        },
        {**RUN_INFO, "owner_process_id": 1, "layers": "cache,breaker", "dropped_rows": 5},
        {"table": "run_summary", "run_id": "R", "started_at": 7.0, "finished_at": 8.0},
        REQUEST,
    )
    import_lines([file], path, print)
    info = dict(zip(tables.RUN_INFO.names(), rows(path, tables.RUN_INFO)[0], strict=True))
    assert info == {
        "run_id": "R", "started_at": 5.0, "owner_process_id": 1, "command": "a.py", "host_name": None,
        "schema_version": tables.SCHEMA_VERSION, "sampler": "S", "layers": "http,cache,breaker", "dropped_rows": 7,
    }  # fmt: skip
    assert rows(path, tables.RUN_SUMMARY) == []  # a child's end is not the run's


def test_runs_that_wrote_by_turns_are_each_found_in_its_range(path, file):
    write(file, *({**REQUEST, "run_id": run_id} for run_id in ("A", "B", "A", "C")))
    assert import_lines([file], path, print).runs == ["A", "B", "C"]
    connection = sqlite3.connect(path)
    ranges = connection.execute("SELECT run_id, first_id, last_id FROM run_ranges ORDER BY 1").fetchall()
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    assert ranges == [("A", 1, 3), ("B", 2, 2), ("C", 4, 4)]


def test_bad_lines_are_named_by_file_and_line_and_nothing_is_made(path, file):
    write(file, RUN_INFO, '{"table":"http_ev', REQUEST, "", '{"table":"http_events","run_id":"R"}')
    finished = retrospan("import", file, "--db", path)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert finished.stderr.splitlines() == [
        f"retrospan: {file}:2: is no JSON, or was cut off",
        f"retrospan: {file}:5: has no ts, which a row of http_events needs",
        f"retrospan: {path}: not made, since 2 of the lines cannot be read: leave them out by --skip-bad-lines",
    ]
    assert beside(path) == [file.name]


def test_bad_lines_can_be_left_out_and_are_counted(path, file):
    write(file, RUN_INFO, '{"table":"http_ev', REQUEST)
    finished = retrospan("import", file, "--db", path, "--skip-bad-lines")
    assert finished.returncode == 0
    assert finished.stdout == f"{path}: 1 rows of run R, 1 lines left out\n"
    assert finished.stderr == f"retrospan: {file}:2: is no JSON, or was cut off\n"


def test_no_more_than_a_screenful_of_bad_lines_is_told(path, file):
    write(file, *["bad"] * 1_000)
    told = []
    with pytest.raises(RecordError, match="1000 of the lines"):
        import_lines([file], path, told.append)
    assert len(told) == 20


def test_a_newer_versions_lines_are_refused_with_what_to_do(path, file):
    write(file, {**RUN_INFO, "schema_version": tables.SCHEMA_VERSION + 1})
    finished = retrospan("import", file, "--db", path, "--skip-bad-lines")
    assert finished.returncode == 2
    assert "upgrade retrospan" in in_one_line(finished)
    assert beside(path) == [file.name]


def test_a_file_that_is_there_is_left_as_it_is(path, file):
    write(file, REQUEST)
    path.write_text("mine")
    finished = retrospan("import", file, "--db", path)
    assert finished.returncode == 2
    assert "is there already" in in_one_line(finished)
    assert path.read_text() == "mine"
    assert beside(path) == [file.name, path.name]


@pytest.mark.parametrize(
    "names", [["no.jsonl"], ["telemetry.jsonl", "no.jsonl"], ["telemetry.jsonl", "./telemetry.jsonl"]]
)
def test_files_that_cannot_be_read_or_are_named_twice_make_nothing(path, file, names):
    write(file, REQUEST)
    finished = retrospan("import", *(file.parent / name for name in names), "--db", path)
    assert finished.returncode == 2
    assert "jsonl: " in in_one_line(finished)
    assert beside(path) == [file.name]


def test_a_place_where_nothing_can_be_made_is_told(file, tmp_path):
    write(file, REQUEST)
    finished = retrospan("import", file, "--db", tmp_path / "no" / "made.sqlite")
    assert finished.returncode == 2
    assert "cannot be made: No such file or directory" in in_one_line(finished)
