"""Spans of the hooks, in memory, and a server with its own log.

Whatever a test does, at its end every span that was started has ended exactly once, the context is as it was, and no hook
has failed, unless the test itself forced a fault.
"""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.context import Context, get_current
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import SpanKind
from providers import TracerProvider

import retrospan_instrumentation
from origin import Origin
from retrospan_exporters.tables import HTTP_EVENTS
from retrospan_instrumentation import resends, surround, waits
from retrospan_instrumentation.fallback import DOWNLOAD, FALLBACK, FallbackInstrumentor

from . import orchestrators
from .scenario import HTTP

Hooked = Callable[..., None]


class Spans(SpanProcessor):
    """What has started, and what has ended so far."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self._ended: list[ReadableSpan] = []
        self.faults_are_forced = self.spans_may_be_lost = False
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self)

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.started.append(span.get_span_context().span_id)

    def on_end(self, span: ReadableSpan) -> None:
        self._ended.append(span)

    def all(self, name: str | None = None) -> list[ReadableSpan]:
        """Ended spans, of that name, in order of their end."""
        return [span for span in list(self._ended) if name is None or span.name == name]

    def facts(self, name: str, *keys: str) -> list[Any]:
        """The attributes of these names, of each span of that name, in order of their end."""
        return [_picked(span, keys) for span in self.all(name)]

    def clients(self) -> list[ReadableSpan]:
        """Spans of sends, in order of their start."""
        return sorted((s for s in self._ended if s.kind is SpanKind.CLIENT), key=lambda span: span.start_time or 0)

    def sends(self, *keys: str) -> list[Any]:
        """The attributes of these names of each send, in order of their start."""
        return [_picked(span, keys) for span in self.clients()]

    def events(self, name: str) -> list[tuple[str, dict[str, Any]]]:
        return [(s.name, dict(e.attributes or {})) for s in self.all() for e in s.events if e.name == name]

    def waits(self) -> list[tuple[str, dict[str, Any]]]:
        """Every limiter wait told, as an event or as a span: (action, attributes)."""
        found = [(e.name, dict(e.attributes or {})) for s in self.all() for e in s.events]
        found += [(s.name, dict(s.attributes or {})) for s in self.all()]
        return [(name[13:], facts) for name, facts in found if name.startswith("rate_limiter.")]

    def unended(self) -> Counter[int]:
        """What was started and has not ended, or has ended more than once."""
        missing = Counter(self.started)
        missing.subtract(span.context.span_id for span in self._ended)
        return Counter({span: count for span, count in missing.items() if count})


# What goes without saying, by the attribute of which it does.
_FALSE_IF = {column.source[0]: column.false_if for column in HTTP_EVENTS.columns if column.false_if is not None}


def said(span: ReadableSpan, keys: tuple[str, ...]) -> tuple[Any, ...]:
    """The attributes of these names, and what goes without saying."""
    there = dict(span.attributes or {})
    false = {key for key, condition in _FALSE_IF.items() if there.get(condition) is True}
    return tuple(there.get(key, False if key in false else None) for key in keys)


def _picked(span: ReadableSpan, keys: tuple[str, ...]) -> Any:
    values = said(span, keys)
    return values[0] if len(keys) == 1 else values


@contextmanager
def recording() -> Iterator[Spans]:
    """All hooks on; at the end they are off, and have kept what the module promises."""
    recorded = Spans()
    gc.freeze()  # what is there already need not be looked at by each collection
    waits.drain(final=True)
    surround.faults.clear()
    before = get_current()
    waits.alone.set(())
    resends.last.set(None)
    retrospan_instrumentation.instrument_all(tracer_provider=recorded.provider)
    try:
        yield recorded
        gc.collect()
        waits.drain(final=True)
    finally:
        gc.unfreeze()
        retrospan_instrumentation.uninstrument_all()
    assert recorded.spans_may_be_lost or recorded.unended() == Counter()
    assert get_current() == before
    assert recorded.faults_are_forced or not surround.faults


@pytest.fixture
def spans() -> Iterator[Spans]:
    with recording() as recorded:
        yield recorded


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Origin, Origin]]:
    with Origin() as server, Origin("127.0.0.2") as other:
        yield server, other


def _as_new(server: Origin) -> Origin:
    server.log.clear()
    server._scripts.clear()
    server._served.clear()
    return server


@pytest.fixture
def origin(servers: tuple[Origin, Origin]) -> Origin:
    """A host as new. (The server is the module's, since to stop one takes 20 ms.)"""
    return _as_new(servers[0])


@pytest.fixture
def other_origin(servers: tuple[Origin, Origin]) -> Origin:
    """Another host."""
    return _as_new(servers[1])


WITHOUT_TRIO = ("httpx2-sync", "httpx2-asyncio", "httpx-sync", "httpx-asyncio")


@pytest.fixture(params=[*WITHOUT_TRIO, "httpx2-trio"])
def http(request: pytest.FixtureRequest) -> HTTP:
    return HTTP(*request.param.split("-"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The clock of the waits, stopped; nanoseconds by which it is put forward: `clock[0] += …`."""
    forward, stopped = [0], time.time_ns()
    monkeypatch.setattr(waits, "time_ns", lambda: stopped + forward[0])
    monkeypatch.setattr(waits, "SWEEPS_APART", 0)
    return forward


@pytest.fixture
def hooked(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hooked]:
    """Hook what the environment names: `hooked(fallback="Base", download="store")`."""

    def hook(fallback: str | None = None, download: str | None = None) -> None:
        for variable, name in ((FALLBACK, fallback), (DOWNLOAD, download)):
            if name is not None:
                monkeypatch.setenv(variable, name if ":" in name or "." in name else f"{orchestrators.__name__}:{name}")
        FallbackInstrumentor().uninstrument()
        FallbackInstrumentor().instrument(tracer_provider=spans.provider)

    yield hook
    orchestrators.RESULTS.clear()
