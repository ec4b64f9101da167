"""A provider of the program's own stays what it is: one tracer of it makes spans as ours do, and nobody sees any difference."""

import io
from typing import Any

import opentelemetry.sdk.trace as sdk
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, Tracer, TracerProvider, sampling
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

from retrospan_exporters.provider import RecorderSpan, RecorderTracer, use_fast_spans
from retrospan_instrumentation.late import LateAttributes

from .seen_spans import NOW, Counting, Seen, seen


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETROSPAN_FAST_SPANS", raising=False)


class Encoding(SpanExporter):
    """Encodes what a batch processor gives it, as for a collector."""

    def __init__(self) -> None:
        self.bytes: list[bytes] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.bytes.extend(encode_spans([span]).SerializeToString(deterministic=True) for span in spans)
        return SpanExportResult.SUCCESS


class Stamping(SpanProcessor):
    """A program's own: marks each span as it starts, and hides its tenant from whoever is told of its end after it."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        span.set_attribute("stamp", span.name)

    def on_end(self, span: Any) -> None:
        span._attributes = {name: value for name, value in span.attributes.items() if name != "tenant"}


class Request(LateAttributes):
    def __init__(self) -> None:
        self.known: dict[str, Any] = {"http.request.method": "GET", "tenant": "a"}

    def facts(self) -> dict[str, Any]:
        self.was_read = self.was_read or "status" not in self.known
        return dict(self.known)


def request(tracer: Any, context: Any, at: int) -> None:
    """A span of a hook."""
    late = Request()
    span = tracer.start_span("GET", context, SpanKind.CLIENT, late, start_time=at)
    late.known["status"] = 200
    if late.was_read:
        span.set_attributes(late.facts())
    span.end(at + 1)


def traced(provider: TracerProvider, *, quickens: bool) -> list[type]:
    """Spans of a program, and of hooks inside; the types of the latter."""
    program, hooks = provider.get_tracer("program"), provider.get_tracer("hooks", "1")
    if quickens:
        use_fast_spans(hooks)
    outer = program.start_span("outer", attributes={"tenant": "b", "n": [1, 2]}, start_time=NOW)
    retry = hooks.start_span("retry", set_span_in_context(outer), attributes={"attempts": 2}, start_time=NOW + 1)
    for attempt in range(2):
        request(hooks, set_span_in_context(retry), NOW + 10 * attempt)
        retry.add_event("scheduled", {"attempt": attempt}, NOW + 10 * attempt + 5)
    inner = program.start_span("inner", set_span_in_context(retry), start_time=NOW + 30)
    inner.end(NOW + 31)
    retry.record_exception(ValueError("why"), timestamp=NOW + 40)
    retry.set_status(Status(StatusCode.ERROR, "why"))
    retry.end(NOW + 41)
    outer.end(NOW + 50)
    return [type(retry), type(inner), type(outer)]


@pytest.mark.parametrize("redacts", [None, 0, 1])
def test_other_processors_and_exporters_get_what_they_get_of_the_sdk_s_spans(redacts: int | None) -> None:
    """A processor that changes spans is not there, or the first one, or the last."""
    got = []
    for quickens in (False, True):
        provider = TracerProvider(None, Resource({}), shutdown_on_exit=False, id_generator=Counting(True))
        otlp, memory, console, watching = Encoding(), InMemorySpanExporter(), io.StringIO(), Seen(reads=True)
        processors: list[SpanProcessor] = [
            watching,
            BatchSpanProcessor(otlp),
            SimpleSpanProcessor(memory),
            SimpleSpanProcessor(ConsoleSpanExporter(out=console)),
        ]
        if redacts is not None:
            processors.insert(redacts * len(processors), Stamping())
        for processor in processors:
            provider.add_span_processor(processor)
        retry, *programs = traced(provider, quickens=quickens)
        assert issubclass(retry, RecorderSpan) is quickens
        assert programs == [sdk._Span] * 2
        provider.shutdown()
        finished = [seen(span) for span in memory.get_finished_spans()]
        got.append((otlp.bytes, finished, console.getvalue(), watching.told, [seen(s) for s in watching.ended]))
    assert got[0] == got[1]
    assert [len(part) for part in (got[0][0], got[0][1], got[0][4])] == [5, 5, 5]
    attributes = [dict(span["attributes"]) for span in got[1][1]]
    assert [a.get("status") for a in attributes] == [200, 200, None, None, None]
    assert ("tenant" in attributes[0]) is not ("stamp" in attributes[0]) is (redacts is not None)


def test_the_provider_and_its_other_tracers_stay_the_sdk_s() -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    before, hooks = provider.get_tracer("before"), provider.get_tracer("hooks")
    use_fast_spans(hooks)
    use_fast_spans(hooks)
    after = provider.get_tracer("after")
    assert (type(provider), type(before), type(after)) == (TracerProvider, Tracer, Tracer)
    assert type(before.start_span("GET")) is type(after.start_span("GET")) is sdk._Span
    assert provider.get_tracer("hooks") is hooks
    assert type(hooks) is RecorderTracer
    assert isinstance(hooks.start_span("GET"), RecorderSpan)


class Others(SpanProcessor):
    """A processor of processors that no release of the SDK has."""


def test_where_it_could_differ_the_tracer_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(Tracer):
        pass

    def tracer_of(**options: Any) -> Any:
        return TracerProvider(shutdown_on_exit=False, **options).get_tracer("hooks")

    own = tracer_of()
    own.__class__ = Own
    tracers = [own, tracer_of(sampler=sampling.TraceIdRatioBased(0.5)), tracer_of(active_span_processor=Others())]
    tracers += [trace.NoOpTracer(), trace.ProxyTracer("hooks")]
    with monkeypatch.context() as patch:
        patch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
        tracers.append(tracer_of())
    with monkeypatch.context() as patch:
        patch.setenv("RETROSPAN_FAST_SPANS", "0")
        switched_off = tracer_of()
        use_fast_spans(switched_off)
        assert type(switched_off) is Tracer
    for tracer in tracers:
        before = type(tracer)
        use_fast_spans(tracer)
        assert type(tracer) is before
        assert not isinstance(tracer.start_span("GET"), RecorderSpan)


@pytest.mark.parametrize("quickens", [False, True])
def test_a_processor_that_is_added_later_is_told_of_the_ends_of_open_spans(quickens: bool) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("hooks")
    if quickens:
        use_fast_spans(tracer)
    first, second = Seen(reads=False), Seen(reads=False)
    provider.add_span_processor(first)
    plain, written = tracer.start_span("plain"), tracer.start_span("written")
    written.set_attribute("a", 1)
    provider.add_span_processor(second)
    plain.end()
    written.end()
    names = [[span.name for span in processor.ended] for processor in (first, second)]
    assert names == [["plain", "written"]] * 2
