"""Trouble with the file, caused for real: one clear line, the rows wait, and all of them are written when it heals."""

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind
from providers import TracerProvider

from retrospan_exporters import processor
from retrospan_exporters.database import Database
from retrospan_exporters.processor import RecorderSpanProcessor
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_instrumentation import metrics

from . import troubles
from .conftest import Make

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter and write."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def made(record: Path) -> SQLiteSpanExporter:
    exporter = SQLiteSpanExporter(record, "R")
    exporter.has_own_processor = True
    return exporter


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def statuses(record: Path) -> list[int]:
    connection = sqlite3.connect(record)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [status for (status,) in connection.execute("SELECT status FROM http_events ORDER BY id")]
    finally:
        connection.close()


def test_a_full_disk_is_told_once_and_all_that_waited_is_written_when_there_is_room(
    place: Path, span: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with troubles.small_disk(place / "disk") as disk:
        record = disk / "telemetry.sqlite"
        exporter = made(record)
        assert exporter.export([span({"http.response.status_code": 0})]) is SUCCESS
        with troubles.full(disk):
            for status in range(1, 301):
                exporter.export([span({"http.response.status_code": status})])
                exporter.retry()
            assert exporter.waiting > 0
            assert len(messages(caplog)) == 1
            assert str(record) in messages(caplog)[0]
            assert "disk" in messages(caplog)[0]
        assert exporter.retry()
        exporter.release()
        assert (exporter.waiting, exporter.dropped) == (0, 0)
        assert statuses(record) == list(range(301))
    assert messages(caplog)[1:] == [f"{record} is written again; 0 rows had to be dropped."]


@contextmanager
def read_only_folder(record: Path) -> Iterator[None]:
    record.with_name("telemetry.sqlite-lock").unlink()
    with troubles.mode(record.parent, 0o555):
        yield


TROUBLES = {
    "permission lost": (lambda record: troubles.mode(record, 0o400), "let this user write it"),
    "a read-only folder": (read_only_folder, "let this user write it and its folder"),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_what_this_user_may_not_write_is_told_and_written_when_it_may(
    place: Path, span: Make, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    record = place / "telemetry.sqlite"
    trouble, advice = TROUBLES[name]
    with troubles.without_privileges():
        exporter = made(record)
        assert exporter.export([span({"http.response.status_code": 0})]) is SUCCESS
        exporter.release()
    hindered: AbstractContextManager[None] = trouble(record)
    with hindered, troubles.without_privileges():
        for status in (1, 2):
            assert exporter.export([span({"http.response.status_code": status})]) is FAILURE
            assert not exporter.retry()
        assert len(messages(caplog)) == 1
        assert advice in messages(caplog)[0]
    with troubles.without_privileges():
        assert exporter.retry()
        exporter.release()
    assert statuses(record) == [0, 1, 2]


def test_a_record_that_is_deleted_is_begun_anew_and_its_run_shows(place: Path, span: Make) -> None:
    record = place / "telemetry.sqlite"
    exporter = made(record)
    exporter.export([span({"http.response.status_code": 1})])
    record.unlink()
    assert exporter.export([span({"http.response.status_code": 2})]) is SUCCESS
    exporter.release()
    assert statuses(record) == [2]
    with sqlite3.connect(record) as connection:
        assert connection.execute("SELECT run_id FROM run_info").fetchall() == [("R",)]
        assert connection.execute("SELECT first_id, last_id FROM run_ranges").fetchall() == [(1, 1)]


@pytest.mark.parametrize("header", [False, True], ids=["pages of nonsense", "a beginning of zeros"])
def test_a_damaged_record_is_kept_aside_and_no_row_that_was_to_be_written_is_lost(
    place: Path, span: Make, caplog: pytest.LogCaptureFixture, header: bool
) -> None:
    record = place / "telemetry.sqlite"
    exporter = made(record)
    exporter.export([span({"http.response.status_code": 1})])
    exporter.release()
    troubles.damage(record, header=header)
    octets = record.read_bytes()
    assert exporter.export([span({"http.response.status_code": 2})]) is SUCCESS
    exporter.release()
    assert statuses(record) == [2]
    (aside,) = (path for path in place.glob("telemetry.sqlite.damaged-*") if not path.name.endswith(("-wal", "-shm")))
    assert aside.read_bytes() == octets
    assert len(messages(caplog)) == 1
    assert messages(caplog)[0].startswith(f"{record} is damaged: it is kept as {aside}, and a fresh one is begun.")


def test_a_record_that_is_damaged_under_an_open_connection_is_kept_with_its_log(place: Path, span: Make) -> None:
    record = place / "telemetry.sqlite"
    first, second = made(record), made(record)
    first.export([span({"http.response.status_code": status}) for status in range(500)])
    first.release()
    first.export([span({"http.response.status_code": 500})])
    second.export([span({"http.response.status_code": 501})])
    troubles.damage(record)
    # Both processes come upon it; one puts it aside, and the other goes on in the fresh one.
    wide = {"http.request.role": "r" * 200}
    for exporter in (first, second, first):
        exporter.export([span({"http.response.status_code": 600, **wide}) for _ in range(300)])
    first.release()
    second.release()
    kept = list(place.glob("telemetry.sqlite.damaged-*"))
    assert sum(not path.name.endswith(("-wal", "-shm")) for path in kept) == 1
    assert any(path.name.endswith("-wal") for path in kept)
    assert statuses(record) == [600] * len(statuses(record))
    assert len(statuses(record)) >= 600


def test_a_record_that_another_process_has_begun_afresh_is_not_put_aside_too(place: Path, span: Make) -> None:
    record = place / "telemetry.sqlite"
    exporter = made(record)
    exporter.export([span()])
    exporter.release()
    troubles.damage(record, header=True)
    first, second = Database(record), Database(record)
    for database in (first, second):
        with pytest.raises(sqlite3.DatabaseError), database.transaction():
            pass
    assert first.put_aside() is not None
    exporter.export([span({"http.response.status_code": 7})])
    assert second.put_aside() is None
    exporter.release()
    assert statuses(record) == [7]


def test_another_programs_damaged_database_is_left_where_it_is(
    place: Path, span: Make, caplog: pytest.LogCaptureFixture
) -> None:
    record = place / "telemetry.sqlite"
    with sqlite3.connect(record) as connection:
        connection.executescript("CREATE TABLE mine (x); INSERT INTO mine VALUES (zeroblob(9000))")
    connection.close()
    troubles.damage(record)
    octets = record.read_bytes()
    exporter = made(record)
    exporter.export([span()])
    assert record.read_bytes() == octets
    assert exporter.waiting == 1
    assert "another program's database" in messages(caplog)[0]


def test_a_disk_that_damages_every_file_is_not_filled_with_them(
    place: Path, span: Make, caplog: pytest.LogCaptureFixture
) -> None:
    record = place / "telemetry.sqlite"
    exporter = made(record)
    for _ in range(5):
        exporter.export([span()])
        exporter.release()
        troubles.damage(record)
    exporter.export([span()])
    kept = {path.name.removesuffix("-wal").removesuffix("-shm") for path in place.glob("telemetry.sqlite.damaged-*")}
    assert len(kept) == 3
    assert exporter.waiting == 2
    assert "move it away" in messages(caplog)[-1]


@pytest.mark.parametrize(
    ("seconds", "patience"), [(0.5, 0.05), pytest.param(60.0, 4.0, marks=[pytest.mark.long, pytest.mark.timeout(120)])]
)
def test_a_record_that_another_program_holds_locked_is_told_once_and_nothing_is_lost(
    place: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    patience: float,
) -> None:
    monkeypatch.setattr(SQLiteSpanExporter._write, "__defaults__", (patience,))
    monkeypatch.setattr("retrospan_exporters.sqlite.PATIENCE_SECONDS", patience)
    monkeypatch.setattr(processor, "_RETRY_SECONDS", min(1.0, seconds / 10))
    record = place / "telemetry.sqlite"
    exporter = made(record)
    recorder, provider = RecorderSpanProcessor(exporter), TracerProvider()
    provider.add_span_processor(recorder)
    tracer, number, longest = provider.get_tracer("tests"), 0, 0.0

    def end_span() -> None:
        attributes = {"http.request.method": "GET", "http.response.status_code": number}
        tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=attributes).end()

    assert exporter.start()
    deadline = time.monotonic() + seconds
    with troubles.locked(record):
        while time.monotonic() < deadline:
            before = time.thread_time()
            end_span()
            longest = max(longest, time.thread_time() - before)
            number += 1
            time.sleep(0.001)
        assert messages(caplog) == [
            f"{record} cannot be written: another program holds it locked: end that program's transaction."
            " Up to 65536 rows wait for that."
        ]
        assert recorder.queued + exporter.waiting > 0
    assert recorder.stop() or recorder.flush(30)
    assert statuses(record) == list(range(number))
    assert messages(caplog)[1:] == [f"{record} is written again; 0 rows had to be dropped."]
    assert (recorder.dropped, exporter.dropped) == (0, 0)


def test_what_had_to_be_dropped_is_noted_with_the_run_once_it_heals(
    place: Path, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrospan_exporters.sqlite._MOST_WAITING", 10)
    record = place / "telemetry.sqlite"
    exporter = made(record)
    exporter.start()
    monkeypatch.setattr(SQLiteSpanExporter._write, "__defaults__", (0.01,))
    monkeypatch.setattr("retrospan_exporters.sqlite.PATIENCE_SECONDS", 0.01)
    with troubles.locked(record):
        for status in range(15):
            exporter.export([span({"http.response.status_code": status})])
    exporter.unqueued = 3
    assert exporter.retry()
    exporter.export([span({"http.response.status_code": 15})])
    exporter.release()
    assert statuses(record) == [*range(10), 15]
    with sqlite3.connect(record) as connection:
        assert connection.execute("SELECT dropped_rows FROM run_info").fetchall() == [(8,)]


def test_what_had_to_be_dropped_is_a_metric_while_it_lasts(
    place: Path, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrospan_exporters.sqlite._MOST_WAITING", 10)
    monkeypatch.setattr("retrospan_exporters.sqlite.PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(SQLiteSpanExporter._write, "__defaults__", (0.01,))
    reader = InMemoryMetricReader()
    metrics.use(MeterProvider([reader], shutdown_on_exit=False))
    record = place / "telemetry.sqlite"
    exporter = made(record)
    recorder = RecorderSpanProcessor(exporter)
    try:
        exporter.start()
        before = told_dropped(reader)  # by recorders of other tests, perhaps
        with troubles.locked(record):
            for status in range(15):
                exporter.export([span({"http.response.status_code": status})])
            monkeypatch.setattr(processor, "_MOST_QUEUED", 0)
            recorder.on_end(span())
            assert told_dropped(reader) == before + 6
    finally:
        recorder.stop()
        metrics.use(None)


def told_dropped(reader: InMemoryMetricReader) -> int:
    data = reader.get_metrics_data()
    assert data is not None
    (found,) = (
        metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "retrospan.rows.dropped"
    )
    (point,) = found.data.data_points
    return int(point.value)  # type: ignore[union-attr]
