"""All that can be seen of a span, and of how a processor sees it; what tests of the providers compare."""

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
)

NOW = 1_700_000_000_000_000_000


class Counting(IdGenerator):
    """Ids from a counter: two providers give the same."""

    def __init__(self, is_random: bool) -> None:
        self.last, self.is_random = 0, is_random

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last

    generate_trace_id = generate_span_id

    def is_trace_id_random(self) -> bool:
        return self.is_random


class Seen(SpanProcessor):
    """What a processor sees of each span at its start, when it is ending, and at its end."""

    def __init__(self, reads: bool) -> None:
        self.reads, self.told, self.ended = reads, [], []  # type: ignore[var-annotated]

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        parent = None if parent_context is None else get_current_span(parent_context).get_span_context()
        self.told.append(("start", parent, span.is_recording(), seen(span) if self.reads else None))

    def _on_ending(self, span: Span) -> None:
        span.set_attribute("too", "late")
        self.told.append(("ending", span.is_recording(), seen(span) if self.reads else None))

    def on_end(self, span: ReadableSpan) -> None:
        self.told.append(("end", span.name))
        self.ended.append(span)


class Adding(sampling.Sampler):
    """A program's own, which looks at attributes and adds one."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> Any:
        attributes = kwargs.get("attributes", args[1] if len(args) > 1 else None) or {}
        if "drop" in attributes:
            return sampling.SamplingResult(sampling.Decision.DROP)
        return sampling.SamplingResult(sampling.Decision.RECORD_ONLY, {**attributes, "sampler": "was here"})

    def get_description(self) -> str:
        return "Adding"


def or_error(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:
        return type(error)


def seen(span: Any) -> dict[str, Any]:
    """All that can be read of a span."""
    return {
        "json": or_error(span.to_json),
        "name": span.name,
        "context": span.context,
        "get_span_context": span.get_span_context(),
        "parent": span.parent,
        "kind": span.kind,
        "times": (span.start_time, span.end_time),
        "status": (span.status.status_code, span.status.description),
        "attributes": list(dict(span.attributes).items()),
        "events": [(e.name, e.timestamp, list(dict(e.attributes).items()), e.dropped_attributes) for e in span.events],
        "links": [(link.context, list(dict(link.attributes).items()), link.dropped_attributes) for link in span.links],
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "resource": span.resource,
        "scope": span.instrumentation_scope,
    }


def context_of(trace_id: int, flags: int, remote: bool, state: str) -> SpanContext:
    return SpanContext(trace_id, 7, remote, TraceFlags(flags), TraceState([("vendor", state)] if state else []))
