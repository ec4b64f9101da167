"""The same calls give the same span on our provider as on the stock one, down to its bytes on the wire."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any

import opentelemetry.sdk.trace as sdk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider, sampling
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
    use_span,
)

from retrospan_exporters import fast_spans
from retrospan_exporters import provider as ours
from retrospan_exporters.provider import RecorderTracerProvider

from .seen_spans import NOW, Adding, Counting, Seen, context_of, or_error, seen


@pytest.fixture(autouse=True, scope="module")
def stopped_clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (sdk, ours, fast_spans):
            patch.setattr(module, "time_ns", lambda: NOW)
        yield


VALUES = st.one_of(
    st.text(max_size=5),
    st.integers(-3, 3),
    st.booleans(),
    st.floats(allow_nan=False),
    st.none(),
    st.binary(max_size=3),
    st.lists(st.integers(0, 2), max_size=3),
    st.lists(st.one_of(st.text(max_size=2), st.integers()), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
KEYS = st.one_of(st.sampled_from(["a", "b", "c", "drop", "status"]), st.text(max_size=2))
DICTS = st.dictionaries(KEYS, VALUES, max_size=5)
ATTRIBUTES = st.one_of(st.none(), DICTS, DICTS.map(OrderedDict), DICTS.map(MappingProxyType))
TIMES = st.one_of(st.none(), st.integers(1, 2 * NOW))
CONTEXTS = st.builds(
    context_of,
    st.sampled_from([0, 5, 2**128 - 1]),
    st.sampled_from([0, 1, 2, 3]),
    st.booleans(),
    st.text("ab", max_size=2),
)
LINKS = st.lists(st.tuples(CONTEXTS, ATTRIBUTES), max_size=3)
STATUSES = st.one_of(
    st.tuples(st.sampled_from(StatusCode), st.one_of(st.none(), st.text(max_size=3))),
    st.tuples(st.builds(Status, st.sampled_from(StatusCode)), st.one_of(st.none(), st.just("ignored"))),
)
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("set_attribute"), KEYS, VALUES),
        st.tuples(st.just("set_attributes"), DICTS),
        st.tuples(st.just("add_event"), st.text(max_size=3), ATTRIBUTES, TIMES),
        st.tuples(st.just("add_link"), CONTEXTS, ATTRIBUTES),
        st.tuples(st.just("update_name"), st.text(max_size=3)),
        STATUSES.map(lambda said: ("set_status", *said)),
        st.tuples(st.just("record_exception"), st.just(ValueError("why")), ATTRIBUTES, TIMES, st.booleans()),
        st.tuples(st.just("end"), TIMES),
        st.tuples(st.just("is_recording")),
        st.tuples(st.just("get_span_context")),
        st.tuples(st.just("to_json")),
        st.tuples(st.just("_readable_span")),
    ),
    max_size=8,
)
_LIMITED = (
    "span_attributes", "event_attributes", "link_attributes", "events", "links", "attribute_length", "span_attribute_length"
)  # fmt: skip
LIMITS = st.one_of(
    st.just({}),
    st.dictionaries(
        st.sampled_from([f"max_{what}" for what in _LIMITED]),
        st.integers(0, 3),
    ),
    st.just({"max_span_attributes": SpanLimits.UNSET, "max_events": SpanLimits.UNSET}),
)
SAMPLERS = st.sampled_from(
    [
        None,
        None,
        sampling.ALWAYS_ON,
        sampling.ALWAYS_OFF,
        Adding(),
        sampling.ParentBased(Adding()),
        sampling.DEFAULT_OFF,
    ]
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from(SpanKind),
        "attributes": ATTRIBUTES,
        "start_time": TIMES,
        "record_exception": st.booleans(),
        "set_status_on_exception": st.booleans(),
    },
)


def _told(span: Any, call: tuple[Any, ...]) -> Any:
    """What a call returns or raises."""
    method, *arguments = call
    result = or_error(getattr(span, method, str), *arguments)
    return seen(result) if isinstance(result, ReadableSpan) else result


def lives(
    make: type[TracerProvider],
    log: list[logging.LogRecord],
    limits: dict[str, int],
    sampler: Any,
    randomly: bool,
    reads: bool,
    act: Callable[[Any], Any],
) -> tuple[Any, ...]:
    """Everything that can be told of what `act` does with a tracer of this provider."""
    log.clear()
    provider = make(
        sampler,
        Resource({"service.name": "test"}),
        shutdown_on_exit=False,
        id_generator=Counting(randomly),
        span_limits=SpanLimits(**limits),
    )
    processor = Seen(reads)
    provider.add_span_processor(processor)
    told = act(provider.get_tracer("scope", "1.0", "https://schema", {"of": "scope"}))
    ended = [seen(span) for span in processor.ended]
    encoded = or_error(lambda: encode_spans(processor.ended).SerializeToString(deterministic=True))
    return told, processor.told, ended, encoded, sorted(record.getMessage() for record in log)


def both(*setting: Any) -> list[tuple[Any, ...]]:
    """What the stock provider does, and what ours does."""
    log: list[logging.LogRecord] = []
    handler, sdk_s = logging.Handler(), logging.getLogger("opentelemetry")
    handler.emit = log.append  # type: ignore[method-assign]  # the shortest handler
    sdk_s.addHandler(handler)
    sdk_s.propagate = False
    try:
        return [lives(make, log, *setting) for make in (TracerProvider, RecorderTracerProvider)]
    finally:
        sdk_s.removeHandler(handler)
        sdk_s.propagate = True


@settings(max_examples=3 * settings.default.max_examples)
@given(data=st.data())
def test_any_calls_on_a_span_give_what_the_stock_provider_gives(data: st.DataObject) -> None:
    name, options, links, calls = data.draw(st.tuples(st.text(max_size=3), OPTIONS, LINKS, CALLS))
    parent = data.draw(st.one_of(st.none(), CONTEXTS))
    setting = data.draw(st.tuples(LIMITS, SAMPLERS, st.booleans(), st.booleans()))

    def act(tracer: Any) -> Any:
        context = None if parent is None else set_span_in_context(NonRecordingSpan(parent))
        made = [Link(context, attributes) for context, attributes in links]
        given = dict(options.get("attributes") or {})
        span = tracer.start_span(name, context, links=made, **({**options, "attributes": given} if given else options))
        given["a"] = "changed by its owner"
        told = [_told(span, call) for call in calls]
        child = tracer.start_span("child", set_span_in_context(span))
        child.end()
        span.end(NOW)
        return told, span.get_span_context(), span.is_recording(), seen(span) if isinstance(span, Span) else type(span)

    stock, fast = both(*setting, act)
    assert fast == stock


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("says", [True, False])
@pytest.mark.parametrize("way", ["start_as_current_span", "decorator", "use_span", "with"])
def test_an_exception_through_a_span_leaves_what_the_stock_provider_leaves(way: str, records: bool, says: bool) -> None:
    error = KeyError("why")
    how = {"record_exception": records, "set_status_on_exception": says}

    def fail() -> None:
        raise error

    def act(tracer: Any) -> None:
        error.__traceback__ = None
        with pytest.raises(KeyError):
            if way == "decorator":
                tracer.start_as_current_span("work", **how)(fail)()
            elif way == "start_as_current_span":
                with tracer.start_as_current_span("work", **how):
                    fail()
            elif way == "use_span":
                with use_span(tracer.start_span("work", **how), end_on_exit=True, **how):
                    fail()
            else:
                with tracer.start_span("work", **how):
                    fail()

    stock, fast = both({}, None, True, True, act)
    assert fast == stock
    assert len(fast[2][0]["events"]) == (1 if records else 0)
