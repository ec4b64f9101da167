"""The exporter: what it writes, and what becomes of rows that cannot be written."""

import os
import resource
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind
from providers import TracerProvider

from retrospan_exporters import sqlite, tables
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_instrumentation import surround

from .conftest import Make, Read

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
RANGES = "SELECT run_id, table_name, first_id, last_id FROM run_ranges ORDER BY 1, 2"


@pytest.fixture
def exporter(record: Path) -> Iterator[SQLiteSpanExporter]:
    """An exporter that has a processor of ours."""
    made = SQLiteSpanExporter(record, "R")
    made.has_own_processor = True
    yield made
    made.release()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_nothing_is_opened_before_there_is_something_to_write(exporter: SQLiteSpanExporter, record: Path) -> None:
    assert exporter.path == str(record)
    assert not record.exists()


@pytest.mark.parametrize(
    ("variables", "path"), [({}, "telemetry.sqlite"), ({"RETROSPAN_DB": "named.sqlite"}, "named.sqlite")]
)
def test_the_default_record_is_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert SQLiteSpanExporter().path == str(tmp_path / path)


def test_a_run_shows_as_soon_as_it_starts(exporter: SQLiteSpanExporter, read: Read) -> None:
    assert exporter.start()
    assert read("SELECT run_id, owner_process_id FROM run_info") == [("R", os.getpid())]
    assert exporter.run.is_mine


def test_rows_are_written_with_the_ranges_of_their_run(
    exporter: SQLiteSpanExporter, record: Path, read: Read, span: Make
) -> None:
    assert exporter.export([span(), span(events=[("rate_limiter.acquire", {}, None)])]) is SUCCESS
    other = SQLiteSpanExporter(record, "S")
    other.has_own_processor = True
    other.export([span()])
    exporter.export([span()])
    assert read(RANGES) == [("R", "http_events", 1, 4), ("R", "rate_events", 1, 1), ("S", "http_events", 3, 3)]
    assert read("SELECT run_id FROM http_events ORDER BY id") == [("R",), ("R",), ("S",), ("R",)]
    assert {name: count for name, count in exporter.written.items() if count} == {"http_events": 3, "rate_events": 1}
    other.release()


def test_layers_are_noted_when_no_span_comes_any_more(
    exporter: SQLiteSpanExporter, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surround, "layers", {"breaker"})
    exporter.shutdown()
    assert read("SELECT layers FROM run_info") == [("breaker",)]


def test_nothing_is_open_after_a_release_and_the_next_batch_goes_on(
    exporter: SQLiteSpanExporter, record: Path, read: Read, span: Make
) -> None:
    exporter.export([span()])
    exporter.release()
    assert not record.with_name("telemetry.sqlite-wal").exists()
    exporter.export([span()])
    assert read(RANGES) == [("R", "http_events", 1, 2)]


def test_rows_wait_while_another_program_holds_the_record_and_come_in_order_when_it_heals(
    exporter: SQLiteSpanExporter,
    record: Path,
    read: Read,
    span: Make,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SQLiteSpanExporter._write, "__defaults__", (0.01,))
    exporter.export([span({"http.response.status_code": 1})])
    holder = sqlite3.connect(record, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for status in (2, 3):
        assert exporter.export([span({"http.response.status_code": status})]) is FAILURE
    assert exporter.waiting == 2
    holder.execute("ROLLBACK")
    holder.close()
    assert exporter.retry()
    assert (exporter.waiting, exporter.dropped) == (0, 0)
    assert read("SELECT status FROM http_events ORDER BY id") == [(1,), (2,), (3,)]
    assert messages(caplog) == []  # as at the start, when others may be busy with theirs


@pytest.fixture
def unwritable(exporter: SQLiteSpanExporter, record: Path) -> SQLiteSpanExporter:
    """An exporter whose record is no database."""
    record.write_bytes(b"somebody's notes, longer than a database's header is. " * 30)
    return exporter


def test_trouble_is_told_in_one_line_that_names_the_file_and_what_to_do(
    unwritable: SQLiteSpanExporter, record: Path, span: Make, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        unwritable.export([span()])
        unwritable.retry()
    assert messages(caplog) == [
        f"{record} cannot be written: it is not a SQLite database: move it away, or name another file by RETROSPAN_DB."
        " Up to 65536 rows wait for that."
    ]
    assert (unwritable.waiting, unwritable.dropped) == (3, 0)


def test_when_it_heals_everything_that_waited_is_written_and_that_is_told(
    unwritable: SQLiteSpanExporter, record: Path, read: Read, span: Make, caplog: pytest.LogCaptureFixture
) -> None:
    unwritable.export([span(), span()])
    record.unlink()
    assert unwritable.retry()
    assert read(RANGES) == [("R", "http_events", 1, 2)]
    assert messages(caplog)[1:] == [f"{record} is written again; 0 rows had to be dropped."]


def test_what_finds_no_room_is_dropped_and_counted_the_newest_first(
    unwritable: SQLiteSpanExporter, record: Path, read: Read, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_MOST_WAITING", 3)
    unwritable.export([])
    for status in range(5):
        unwritable.export([span({"http.response.status_code": status})])
    assert (unwritable.waiting, unwritable.dropped) == (3, 2)
    record.unlink()
    unwritable.retry()
    assert read("SELECT status FROM http_events ORDER BY id") == [(0,), (1,), (2,)]
    assert unwritable.dropped == 2


def test_a_file_in_trouble_is_not_asked_again_with_every_batch(unwritable: SQLiteSpanExporter, span: Make) -> None:
    tried: list[int] = []
    unwritable._write = lambda *_: bool(tried.append(1)) or unwritable._fail(OSError(28, "full"))  # type: ignore[method-assign, func-returns-value]
    for _ in range(10):
        unwritable.export([span()])
    assert len(tried) == 1


def test_a_full_disk_is_told_and_what_waited_is_written_when_there_is_room(
    exporter: SQLiteSpanExporter, read: Read, span: Make, caplog: pytest.LogCaptureFixture
) -> None:
    exporter.export([span()])
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, before[1]))
        assert exporter.export([span() for _ in range(3_000)]) is FAILURE
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert exporter.waiting == 3_000
    assert "disk" in messages(caplog)[0]
    assert exporter.retry()
    assert read("SELECT COUNT(*) FROM http_events") == [(3_001,)]
    assert read("PRAGMA integrity_check") == [("ok",)]


def test_rows_that_the_file_will_never_take_do_not_stand_in_the_way(
    exporter: SQLiteSpanExporter, record: Path, read: Read, span: Make, caplog: pytest.LogCaptureFixture
) -> None:
    exporter.start()
    with sqlite3.connect(record) as connection:
        connection.execute("CREATE UNIQUE INDEX mine ON http_events (status)")
    connection.close()
    same = span({"http.response.status_code": 200})
    assert exporter.export([same, same]) is FAILURE
    assert exporter.export([same]) is SUCCESS
    assert (exporter.dropped, exporter.waiting) == (2, 0)
    assert messages(caplog) == [f"{record} does not take 2 rows (IntegrityError); they are dropped."]
    assert read(RANGES) == [("R", "http_events", 1, 1)]


def test_a_newer_record_is_refused_and_left_as_it_is(
    exporter: SQLiteSpanExporter, record: Path, read: Read, span: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(record) as connection:
        connection.execute(f"PRAGMA application_id = {tables.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {tables.SCHEMA_VERSION + 1}")
    connection.close()
    assert exporter.export([span()]) is FAILURE
    assert "upgrade retrospan" in messages(caplog)[0]
    assert read("SELECT * FROM sqlite_master") == []


def test_rows_made_before_the_runs_id_was_settled_take_the_settled_one(
    unwritable: SQLiteSpanExporter, record: Path, read: Read, span: Make
) -> None:
    unwritable.export([span()])
    record.unlink()
    with sqlite3.connect(record) as connection:
        connection.executescript(tables.ddl())
        connection.execute("INSERT INTO run_summary (run_id) VALUES ('R')")
    connection.close()
    unwritable.retry()
    unwritable.export([span()])
    assert read("SELECT run_id FROM http_events") == [("R.2",), ("R.2",)]
    assert read(RANGES) == [("R.2", "http_events", 1, 2)]


def test_under_another_span_processor_it_works_and_says_once_what_is_not_promised(
    record: Path, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    provider = TracerProvider()
    exporter = SQLiteSpanExporter(record, "R")
    provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer = provider.get_tracer("tests")
    for _ in range(2):
        tracer.start_span("GET", kind=SpanKind.CLIENT, attributes={"http.request.method": "GET"}).end()
        provider.force_flush()
    provider.shutdown()
    assert read(RANGES) == [("R", "http_events", 1, 2)]
    assert len(messages(caplog)) == 1
    assert "another span processor" in messages(caplog)[0]


def test_our_own_sqlite_calls_are_not_instrumented_again(
    exporter: SQLiteSpanExporter, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry.instrumentation.utils import is_instrumentation_enabled

    seen: list[bool] = []
    connect = sqlite3.connect

    def watched(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        seen.append(is_instrumentation_enabled())
        return connect(*args, **kwargs)

    monkeypatch.setattr(sqlite3, "connect", watched)
    exporter.export([span()])
    assert seen == [False]
    assert is_instrumentation_enabled()
