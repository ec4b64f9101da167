"""Random spans, recorded in SQLite, archived, and given to ClickHouse as the Collector would: the same numbers everywhere."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from retrospan.archive.export import export
from retrospan.archive.places import place_of
from retrospan.engines import read
from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.gate import Choice, judge_record
from retrospan.slo.windows import Span
from retrospan_exporters import tables
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_instrumentation import semconv as sc

from .collecting import Server, clickhouse
from .test_fleet import plain, told

START = 1_760_000_000_000_000_000
HOUR = 3_600_000_000_000
SLOS = tuple(DEFAULTS.values())
SPANS = {
    tables.HTTP_EVENTS: ("GET",),
    tables.RATE_EVENTS: (sc.RATE_LIMITER_ACQUIRE, sc.RATE_LIMITER_BLOCK, sc.RATE_LIMITER_HEAD_SKIP),
    tables.BREAKER_TRANSITIONS: (sc.BREAKER_STATE_CHANGE,),
    tables.FALLBACK_ATTEMPTS: (sc.SPAN_FALLBACK_ATTEMPT,),
    tables.DOWNLOADS: (sc.SPAN_DOWNLOAD,),
    tables.BREAKER_REJECTIONS: (sc.BREAKER_REJECTED,),
}
VALUES: dict[str, tuple[Any, ...]] = {
    sc.HTTP_REQUEST_ROLE: ("metadata", "metadata", "artifact"),
    sc.HTTP_REQUEST_METHOD: ("GET",),
    sc.HTTP_RESPONSE_STATUS_CODE: (200, 200, 304, 429, 503),
    sc.DOWNLOAD_ARTIFACT_ID: ("a", "b", "c", "d", "é'\\"),
    sc.FALLBACK_OUTCOME: ("success", "retryable", "skipped", "error"),
    sc.DOWNLOAD_OUTCOME: ("stored", "failed"),
    sc.DOWNLOAD_SHA256: ("a" * 64, "short"),
    sc.CIRCUIT_BREAKER_NEW_STATE: ("open", "half_open", "closed"),
    sc.CIRCUIT_BREAKER_OLD_STATE: ("open", "half_open", "closed"),
    sc.CIRCUIT_BREAKER_STATE: ("closed", "open"),
    sc.SERVER_ADDRESS: ("a.example", "b.example"),
    sc.ERROR_TYPE: ("ReadTimeout", "httpx.ReadTimeout", "503", "not a class"),
    sc.URL_HASH: ("0123456789abcdef",),
}
NEEDED = {sc.HTTP_REQUEST_METHOD, sc.URL_HASH, sc.SERVER_ADDRESS, sc.CIRCUIT_BREAKER_NEW_STATE, sc.FALLBACK_OUTCOME}


def random_spans(rng: random.Random, run_id: str, count: int) -> tuple[ReadableSpan, ...]:
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({sc.RETROSPAN_RUN_ID: run_id}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("random")
    for _ in range(count):
        table = rng.choice(list(SPANS))
        kind = SpanKind.CLIENT if table is tables.HTTP_EVENTS else SpanKind.INTERNAL
        start = START + rng.randrange(30 * HOUR)
        span = tracer.start_span(rng.choice(SPANS[table]), kind=kind, start_time=start, attributes=_facts(rng, table))
        if table is tables.HTTP_EVENTS and rng.random() < 0.5:
            span.add_event(sc.RATE_LIMITER_ACQUIRE, _facts(rng, tables.RATE_EVENTS), timestamp=start + 5)
        span.end(start + rng.choice((0, 250_000_000, 3_000_000_000, rng.randrange(30_000_000_000))))
    tracer.start_span(sc.SPAN_LAYERS, start_time=START, attributes={sc.RETROSPAN_LAYERS: "http,limiter"}).end(START)
    return kept.get_finished_spans()


def _facts(rng: random.Random, table: tables.Table) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    sources = {"@host": sc.SERVER_ADDRESS, "@error": sc.ERROR_TYPE, "@url_hash": sc.URL_HASH}
    for column in table.columns:
        if column.source:
            name = sources.get(column.source[0], column.source[0])
            if not name.startswith("@") and (name in NEEDED or rng.random() < 0.75):
                facts[name] = rng.choice(VALUES[name]) if name in VALUES else _value(rng, column.kind)
    return facts


def _value(rng: random.Random, kind: str) -> Any:
    return {
        "text": lambda: rng.choice(("x", "y")),
        "integer": lambda: rng.choice((0, 250, 3000, rng.randrange(30_000))),
        "real": lambda: rng.choice((1.0, 0.45)),
        "bool": lambda: rng.random() < 0.5,
    }[kind]()


def as_collected(span: ReadableSpan) -> dict[str, Any]:
    """A span as a row of the Collector's table: all values are text, a time is nanoseconds."""
    assert span.start_time is not None
    assert span.end_time is not None
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    return {
        "Timestamp": _time(span.start_time),
        "TraceId": f"{context.trace_id:032x}",
        "SpanId": f"{context.span_id:016x}",
        "ParentSpanId": "" if parent is None else f"{parent.span_id:016x}",
        "SpanName": span.name,
        "SpanKind": span.kind.name.capitalize(),
        "ResourceAttributes": _texts(span.resource.attributes),
        "SpanAttributes": _texts(span.attributes or {}),
        "Duration": span.end_time - span.start_time,
        "Events.Timestamp": [_time(event.timestamp) for event in span.events],
        "Events.Name": [event.name for event in span.events],
        "Events.Attributes": [_texts(event.attributes or {}) for event in span.events],
    }


def _time(nanoseconds: int) -> str:
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09}"


def _texts(attributes: Any) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in attributes.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with clickhouse(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


def test_the_views_have_the_rows_of_the_record_value_by_value(server: Server, tmp_path: Path) -> None:
    spans = random_spans(random.Random(1), "VIEWS", 300)
    exporter = SQLiteSpanExporter(tmp_path / "telemetry.sqlite", "VIEWS")
    exporter.has_own_processor = True
    exporter.export(spans)
    exporter.shutdown()
    server.insert([as_collected(span) for span in spans])
    with closing(sqlite3.connect(tmp_path / "telemetry.sqlite")) as connection:
        for table in tables.EVENT_TABLES:
            columns = ", ".join(name for name in table.names() if name not in ("id", "process_id"))
            rows = connection.execute(f"SELECT {columns} FROM {table.name}").fetchall()
            there = read(server.url, lambda engine, t=table, c=columns: engine.rows(f"SELECT {c} FROM {t.name}"))  # type: ignore[misc]
            assert sorted(there, key=repr) == sorted(map(plain, rows), key=repr) != []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_random_spans_have_the_same_numbers_on_sqlite_duckdb_and_clickhouse(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=10)
    @given(seed=st.integers(0, 1_000_000), count=st.sampled_from((60, 5, 300)))
    def same(seed: int, count: int) -> None:
        folder: Path = tmp_path_factory.mktemp("random")
        run_id = f"R{folder.name}"
        spans = random_spans(random.Random(seed), run_id, count)
        exporter = SQLiteSpanExporter(folder / "telemetry.sqlite", run_id)
        exporter.has_own_processor = True
        exporter.export(spans)
        exporter.shutdown()
        _set_layers(folder / "telemetry.sqlite")
        server.insert([as_collected(span) for span in spans])
        export(folder / "telemetry.sqlite", place_of(folder / "archive"))
        middle = START / 1e9 + 12 * 3600
        choices = (Choice((run_id,)), Choice((run_id,), Span(middle, None)))
        here, *others = (
            read(
                source,
                lambda engine: [[told(one) for one in judge_record(engine, c, SLOS).results] for c in choices],
            )
            for source in (folder / "telemetry.sqlite", folder / "archive", server.url)
        )
        # Runs differ by what a collector is not told of them: when they ended, on which machine.
        for other in others:
            assert other == here

    same()


def _set_layers(record: Path) -> None:
    """What the hooks of a process would have noted."""
    with closing(sqlite3.connect(record)) as connection:
        connection.execute("UPDATE run_info SET layers = 'http,limiter'")
        connection.commit()


def test_a_server_that_cannot_answer_is_told_without_its_password(server: Server) -> None:
    from click.testing import CliRunner

    from retrospan.cli import cli

    def slo(url: str) -> str:
        refused = CliRunner().invoke(cli, ["slo", "--from", url])
        assert refused.exit_code == 2, refused.output
        assert "secret" not in refused.output
        return refused.output

    assert "does not answer" in slo("clickhouse://reader:secret@127.0.0.1:1/otel")
    assert "retrospan engines ddl clickhouse --database default" in slo(f"clickhouse://127.0.0.1:{server.port}/default")
    assert "none of ClickHouse's" in slo("clickhouse:///otel")
    assert "no run 'NONE'" in CliRunner().invoke(cli, ["slo", "--from", server.url, "--run", "NONE"]).output
