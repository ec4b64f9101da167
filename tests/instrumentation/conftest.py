"""Spans of the hooks, in memory, and a server with its own log."""

from collections.abc import Iterator
from typing import Any

import pytest
import retrospan_instrumentation
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from origin import Origin
from retrospan_instrumentation import hooks


class Spans:
    """What has ended so far."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def all(self, name: str | None = None) -> list[ReadableSpan]:
        spans = self._exporter.get_finished_spans()
        return [span for span in spans if name is None or span.name == name]

    def facts(self, name: str, *keys: str) -> list[Any]:
        """The attributes of these names, of each span of that name, in order of their end."""
        found = [tuple((span.attributes or {}).get(key) for key in keys) for span in self.all(name)]
        return [facts[0] for facts in found] if len(keys) == 1 else found

    def events(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        return [(s.name, dict(e.attributes or {})) for s in self.all() for e in s.events if e.name == name]


@pytest.fixture
def spans() -> Iterator[Spans]:
    recorded = Spans()
    hooks._faults.clear()
    retrospan_instrumentation.instrument_all(tracer_provider=recorded.provider)
    yield recorded
    retrospan_instrumentation.uninstrument_all()


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin() as server:
        yield server
