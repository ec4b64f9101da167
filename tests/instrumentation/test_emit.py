"""Promises about how spans and events leave: by the provider that was given, at their true times, with what is known."""

from opentelemetry import trace

from retrospan_instrumentation import emit
from retrospan_instrumentation.api import attempt

from .conftest import Spans


def test_a_point_is_a_span_of_no_length_under_the_current_one(spans: Spans) -> None:
    with spans.provider.get_tracer("program").start_as_current_span("program") as program:
        emit.tell("point", {"a": 1, "unknown": None})
    (point,) = spans.all("point")
    assert point.start_time == point.end_time
    assert dict(point.attributes or {}) == {"a": 1}
    assert point.parent is not None
    assert point.parent.span_id == program.get_span_context().span_id


def test_an_interval_has_its_true_times_and_its_own_parent(spans: Spans) -> None:
    with spans.provider.get_tracer("program").start_as_current_span("before") as before:
        parent = before.get_span_context()
    with spans.provider.get_tracer("program").start_as_current_span("other"):
        emit.tell("interval", {}, 1_000, 2_000, parent=parent)
    (interval,) = spans.all("interval")
    assert (interval.start_time, interval.end_time) == (1_000, 2_000)
    assert interval.parent is not None
    assert interval.parent.span_id == parent.span_id


def test_an_interval_without_a_parent_is_a_root(spans: Spans) -> None:
    with spans.provider.get_tracer("program").start_as_current_span("other"):
        emit.tell("interval", {}, 1_000, 2_000, parent=trace.INVALID_SPAN_CONTEXT)
    (interval,) = spans.all("interval")
    assert interval.parent is None


def test_an_event_stands_on_its_span_at_its_time(spans: Spans) -> None:
    span = spans.provider.get_tracer("program").start_span("program")
    emit.tell("event", {"a": 1, "unknown": None}, end=1_000, on=span)
    span.end()
    (event,) = span.events
    assert (event.name, event.timestamp, dict(event.attributes)) == ("event", 1_000, {"a": 1})


def test_spans_go_to_the_provider_that_was_given_last(spans: Spans) -> None:
    other = Spans()
    emit.use(other.provider)
    with attempt("tier", "source"):
        pass
    emit.use(spans.provider)
    with attempt("tier", "source"):
        pass
    assert len(other.all()) == len(spans.all()) == 1
    (span,) = spans.all()
    assert span.instrumentation_scope is not None
    assert (span.instrumentation_scope.name, span.instrumentation_scope.version) == (emit.SCOPE, emit.VERSION)
