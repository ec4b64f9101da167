"""Spans as the SDK makes them, and a record that no setting of the environment touches."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind
from providers import TracerProvider

Make = Callable[..., ReadableSpan]
Read = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings; what the recorder sets is unset again."""
    for name in (
        "RETROSPAN_DB",
        "RETROSPAN_RUN_ID",
        "RETROSPAN_BEGUN_RUN",
        "RETROSPAN_FLUSH_INTERVAL_MS",
        "RETROSPAN_SAMPLE",
        "RETROSPAN_JSONL",
        "RETROSPAN_JSONL_MAX_BYTES",
    ):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Where the record is to be."""
    return tmp_path / "telemetry.sqlite"


@pytest.fixture
def read(record: Path) -> Read:
    """The rows of a query on the record."""

    def read(query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(record)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    return read


class _Last(SpanProcessor):
    span: ReadableSpan

    def on_end(self, span: ReadableSpan) -> None:
        self.span = span


@pytest.fixture
def span() -> Iterator[Make]:
    """Makes a finished span: by default of a request, half a second long."""
    last, provider = _Last(), TracerProvider()
    provider.add_span_processor(last)
    tracer = provider.get_tracer("tests")

    def make(
        attributes: dict[str, Any] | None = None,
        name: str = "GET",
        kind: SpanKind = SpanKind.CLIENT,
        start: int = 1_700_000_000_000_000_000,
        end: int = 1_700_000_000_500_000_000,
        **options: Any,
    ) -> ReadableSpan:
        request = {"http.request.method": "GET"} if kind is SpanKind.CLIENT else {}
        events = options.pop("events", ())
        status = options.pop("status", None)
        made = tracer.start_span(
            name, kind=kind, attributes={**request, **(attributes or {})}, start_time=start, **options
        )
        for event, told, at in events:
            made.add_event(event, told, timestamp=at)
        if status is not None:
            made.set_status(status)
        made.end(end_time=end)
        return last.span

    yield make
    provider.shutdown()
