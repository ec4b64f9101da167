"""The one place where spans are made and where events and point spans leave.

OpenTelemetry means to replace span events by log-based ones; the day it does, `tell` is what changes.

    emit.tell("circuit_breaker.rejected", {"circuit_breaker.name": "api"})       # a span of no length, now
    emit.tell("rate_limiter.acquire", {...}, start, end, parent=span_context)     # a span of its own, with true times
    emit.tell("rate_limiter.acquire", {...}, end=now, on=span)                    # an event on a short span of ours
"""

from binascii import hexlify
from collections.abc import Mapping
from time import time_ns
from typing import Any

from opentelemetry import baggage, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, Span, SpanContext, Tracer, TracerProvider
from opentelemetry.util.types import AttributeValue

from . import metrics
from .contexts import get_current
from .frames import SPAN_KEY, Frame, current, outermost_retry
from .headers import put
from .late import LateAttributes
from .semconv import SCOPE, VERSION

Facts = Mapping[str, AttributeValue | None]
"""Attributes to be; a fact that is not known is None, and becomes none."""

_DEFAULT_FIELDS = {"traceparent", "tracestate", "baggage"}
_BAGGAGE_KEY = next(iter(baggage.set_baggage("key", "value", Context())))
_NO_STATE = INVALID_SPAN_CONTEXT.trace_state
_FLAGS = [b"-%02x" % flags for flags in range(256)]  # how a traceparent ends
# The global propagator that was seen last, and whether it is the default one.
_propagator: Any = None
_is_default = False

tracer: Tracer = trace.get_tracer(SCOPE, VERSION)
"""The tracer of all hooks, until `use` names another provider."""


def use(provider: TracerProvider | None) -> None:
    """Make spans by this provider from now on; None: by the global one."""
    global tracer
    tracer = trace.get_tracer(SCOPE, VERSION, provider)


def below(parent: SpanContext, base: Context | None = None) -> Context:
    """A context in which spans become children of `parent`, wherever it lives."""
    return trace.set_span_in_context(NonRecordingSpan(parent), Context() if base is None else base)


def held_together(context: Context, frame: Frame | None) -> Context:
    """This context; where no span is current, below the first request of the retrying call around this frame."""
    outermost = outermost_retry(frame) if SPAN_KEY not in context else None
    first = None if outermost is None else outermost.first
    return context if first is None else trace.set_span_in_context(first, context)


def propagate_to(headers: Any, span: Span, context: Context) -> None:
    """Write this context, with this span, into a request's headers, as the global propagator does.

    The default one, without baggage, comes to two headers at most, which are written at once.
    """
    global _propagator, _is_default
    propagator = propagate.get_global_textmap()
    if propagator is not _propagator:
        _is_default = type(propagator) is CompositePropagator and propagator.fields == _DEFAULT_FIELDS
        _propagator = propagator
    if not _is_default or _BAGGAGE_KEY in context:
        propagator.inject(headers, trace.set_span_in_context(span, context))
        return
    trace_id, span_id, _, flags, state, is_valid = span.get_span_context()  # a tuple: read at once
    if is_valid:
        # Both ids in hexadecimal, "-" after the first 16 bytes: a third of what to format them costs.
        ids = hexlify((trace_id << 64 | span_id).to_bytes(24, "big"), b"-", -16)
        put(headers, b"traceparent", b"00-" + ids + _FLAGS[flags])
        if state is not _NO_STATE and state:
            put(headers, b"tracestate", state.to_header().encode())


def known(facts: Facts) -> dict[str, AttributeValue]:
    """The facts that are known, as attributes."""
    return {name: value for name, value in facts.items() if value is not None}


def tell(
    name: str,
    facts: Facts,
    start: int | None = None,
    end: int | None = None,
    *,
    parent: SpanContext | None = None,
    on: Span | None = None,
) -> None:
    """Emit a point or an interval: a span of its own, or an event when a short span of ours takes it.

    Times are nanoseconds since 1970. `parent` is the span that was current when it happened; without it, the current one.
    """
    if on is None:
        end = end or time_ns()
    if metrics.live is not None:
        metrics.live.told(name, facts, (end - start) / 1e9 if start is not None and end is not None else 0.0)
    # What is late is complete in itself, and a provider may read it later.
    attributes = facts if isinstance(facts, LateAttributes) else known(facts)
    if on is not None:
        if on.is_recording():  # the SDK warns of an event on a span that has ended
            on.add_event(name, attributes, timestamp=end)
        return
    context = held_together(get_current(), current()) if parent is None else below(parent)
    tracer.start_span(name, context, attributes=attributes, start_time=start or end).end(end_time=end)
