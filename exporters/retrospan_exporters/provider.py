"""A tracer provider whose spans cost little where they are made: what they hold is read in the thread that exports them.

    provider = RecorderTracerProvider()              # the SDK's TracerProvider in every other respect
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("GET", attributes={"server.address": "api.example.org"}):
        ...

Most of what the SDK's own span costs is work done at once: each attribute looked at, a list for events and one for links,
a copy for the processors. Here a span is the SDK's span, by class and by behaviour, whose fields are made when somebody
first asks for them; every method that is called on it is the SDK's own. Attributes that come as a Mapping with a true
`read_late` are kept unread until then, and so are its `late_events`; they shall not change once the span has ended. All others
are as they were when they were given.

Where the result could differ, the SDK's own span is made: links, an unsampled parent, a sampler other than "always on",
the SDK's internal metrics, a release of the SDK whose span has other fields than those known here. RETROSPAN_FAST_SPANS=0
has `provider_class` name the stock provider.

This is the only module that touches private parts of the SDK's tracing; each is named where it is used.
"""

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import getrandbits
from threading import Lock
from time import time_ns
from typing import Any, ClassVar, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context, get_current
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    Event,
    Span,
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    Tracer,
    TracerProvider,
    sampling,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as APISpan
from opentelemetry.util.types import Attributes

FAST_SPANS: Final = "RETROSPAN_FAST_SPANS"

_logger = logging.getLogger("retrospan")
# The SDK's own logger: what it says of a span that has ended is said by it here, too.
_sdk_logger = logging.getLogger("opentelemetry.sdk.trace")

# The key under which the API keeps the current span, taken from what it makes: there is no public name for it.
_SPAN_KEY: Final = next(iter(set_span_in_context(INVALID_SPAN, Context())))
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SAMPLED_RANDOM: Final = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
_PLAIN: Final = frozenset((str, int, float, bool))
_TEXT: Final = frozenset((str,))
_NOBODY: Final = INVALID_SPAN.get_span_context()
_NO_STATE: Final = _NOBODY.trace_state
_new, _new_tuple = object.__new__, tuple.__new__


def _is_plain(attributes: Mapping[str, object]) -> bool:
    """Whether these are attributes that every release of the SDK keeps as they are, and that nobody can change."""
    return (
        _PLAIN.issuperset(map(type, attributes.values()))
        and _TEXT.issuperset(map(type, attributes))
        and "" not in attributes
    )


def _kept(given: Attributes, most: int | None, longest: int | None) -> Any:
    """Given attributes as they may stay until they are read: late ones, or a copy of plain ones; all others cleaned now."""
    if type(given) is not dict:
        if given is None or getattr(given, "read_late", False):
            return given
    elif longest is None and (most is None or len(given) <= most) and _is_plain(given):
        return given.copy()
    return BoundedAttributes(most, given, immutable=False, max_value_len=longest)


def _bounded(kept: Any, most: int | None, longest: int | None, *, immutable: bool) -> BoundedAttributes:
    """The SDK's attributes of what was kept; plain ones are put in at once, each look at one of them being spared."""
    if isinstance(kept, BoundedAttributes):
        bounded = kept
    else:
        found: dict[str, Any] = dict(kept.items()) if kept is not None else {}
        sound = longest is None and (most is None or len(found) <= most) and _is_plain(found)
        bounded = BoundedAttributes(most, None if sound else found, immutable=False, max_value_len=longest)
        if sound:
            bounded._dict = found  # where BoundedAttributes keeps what it has looked at
    bounded._immutable = immutable  # what the SDK sets when a span ends
    return bounded


class _Late:
    """A private field of the SDK's, made when somebody first asks for it. What is set on the instance comes before it."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, thing: Any, owner: type) -> Any:
        if thing is None:
            return self
        # One of several threads wins, and all get what it made.
        return thing.__dict__.setdefault(self._name, self._make(thing))


def _attributes_of_event(event: "RecorderEvent") -> BoundedAttributes:
    limits = event.limits
    return _bounded(event.kept, limits.max_event_attributes, limits.max_attribute_length, immutable=True)


class RecorderEvent(Event):
    """An event of a span, whose attributes are made when they are read. It sets what EventBase's constructor would."""

    _attributes = _Late(_attributes_of_event)

    def __init__(self, name: str, kept: Any, timestamp: int | None, limits: SpanLimits) -> None:
        self._name, self.kept, self.limits = name, kept, limits
        self._timestamp = time_ns() if timestamp is None else timestamp


def _attributes_of(span: "RecorderSpan") -> BoundedAttributes:
    limits = span._limits
    most, longest = limits.max_span_attributes, limits.max_span_attribute_length
    bounded = _bounded(span.kept, most, longest, immutable=span._end_time is not None)
    made: BoundedAttributes = span.__dict__.setdefault("_attributes", bounded)
    span.is_read = True
    _ = span._events  # some of which may come from what is let go here
    span.kept = None  # whoever computes attributes late need not live as long as its span
    if span._end_time is not None:  # it ended meanwhile, in another thread
        made._immutable = True
    return made


def _events_of(span: "RecorderSpan") -> Sequence[Event]:
    late = getattr(span.kept, "late_events", ())
    if span._end_time is not None and not late:
        return ()
    limits = span._limits
    most, longest = limits.max_event_attributes, limits.max_attribute_length
    events: Any = BoundedList(limits.max_events)
    events.extend([RecorderEvent(name, _kept(given, most, longest), at, limits) for name, given, at in late])
    return events  # type: ignore[no-any-return]  # the SDK's list


def _links_of(span: "RecorderSpan") -> Sequence[Link]:
    return BoundedList(span._limits.max_links) if span._end_time is None else ()


class RecorderSpan(Span):
    """The SDK's span; its constructor does not run, and the fields that it would set are these, or set by the tracer."""

    # Set by the tracer on each span: _name _context _kind _parent _start_time _lock; and on a class of its own for all of
    # them: _resource _instrumentation_info _instrumentation_scope _span_processor _limits _sampler.
    _end_time: int | None = None
    _status = Status(StatusCode.UNSET)
    _trace_config = None
    _record_exception = True
    _set_status_on_exception = True
    _record_end_metrics = None  # the internal metrics, with which the SDK's own span is made
    _attributes = _Late(_attributes_of)
    _events = _Late(_events_of)
    _links = _Late(_links_of)
    kept: Any = None
    """Attributes that were given, until they are read, and with them the events that they may have."""
    is_read = False
    """Whether they have been. (To ask the instance's `__dict__` would cost its making.)"""
    hooks: ClassVar["_Hooks"]
    ids: ClassVar[IdGenerator | None]
    """Who makes ids; None for the SDK's own generator."""

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """As the SDK's, the attributes read later."""
        limits = self._limits
        kept = _kept(attributes, limits.max_event_attributes, limits.max_attribute_length)
        self._add_event(RecorderEvent(name, kept, timestamp, limits))  # the SDK's way to put an event on a span

    def end(self, end_time: int | None = None) -> None:
        """As the SDK's; the processors get the span itself, which can be read only from now on."""
        with self._lock:
            if self._end_time is not None:
                _sdk_logger.warning("Calling end() on an ended span.")
                return
            self._end_time = time_ns() if end_time is None else end_time
            if self.is_read:
                self._attributes._immutable = True
        for told in self.hooks.end:
            told(self)


_PROCESSORS: Final = (
    "_span_processors"  # where the SDK's processor of processors keeps them, a new tuple for each added
)
_Told = tuple[Callable[..., object], ...]


class _Hooks:
    """What a provider's processors are told of a span, without those of them that do nothing."""

    def __init__(self, processor: Any) -> None:
        self.processors: Any = getattr(processor, _PROCESSORS, self)
        told = self.processors if type(processor) is SynchronousMultiSpanProcessor else (processor,)
        self.start, self.end = _told(told, "on_start"), _told(told, "_on_ending") + _told(told, "on_end")


def _told(processors: Sequence[Any], name: str) -> _Told:
    idle = [getattr(known, name) for known in (SpanProcessor, SimpleSpanProcessor, BatchSpanProcessor)]
    if name == "on_end":
        idle = idle[:1]
    methods = [getattr(processor, name) for processor in processors]
    return tuple([method for method in methods if getattr(method, "__func__", None) not in idle])


class RecorderTracer(Tracer):
    """The SDK's tracer, whose spans are `RecorderSpan`s wherever that makes no difference."""

    _is_fast: bool | None = None
    _spans: type[RecorderSpan] | None = None

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> APISpan:
        """As the SDK's."""
        is_fast = self._is_fast
        if is_fast is None:
            is_fast = self._is_fast = self._may_be_fast()
        current: Any = (get_current() if context is None else context).get(_SPAN_KEY)
        parent = _NOBODY if current is None else current.get_span_context()
        # _tracer_config: whether this tracer is switched off
        if not is_fast or links or type(parent) is not SpanContext or not self._tracer_config.is_enabled:
            return super().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        spans = self._spans
        if spans is None or spans.hooks.processors is not getattr(self.span_processor, _PROCESSORS, spans.hooks):
            spans = self._spans = self._class_of_spans()
        ids = spans.ids
        trace_id, _, _, flags, state, is_valid = parent  # a tuple: read at once
        if not is_valid:
            parent = None
            flags = _SAMPLED_RANDOM if ids is None or ids.is_trace_id_random() else _SAMPLED
            trace_id = (getrandbits(128) or 1) if ids is None else ids.generate_trace_id()
            state = _NO_STATE
        elif flags & _SAMPLED:
            flags = _SAMPLED_RANDOM if flags & TraceFlags.RANDOM_TRACE_ID else _SAMPLED
        else:
            return super().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        span = _new(spans)
        if ids is None:  # the SDK's ids are random and valid: its functions for them cost a third of a span's start
            made = (trace_id, getrandbits(64) or 1, False, flags, state, True)
            span._context = _new_tuple(SpanContext, made)
        else:
            span._context = SpanContext(trace_id, ids.generate_span_id(), False, flags, state)
        span._name, span._kind, span._parent, span._lock = name, kind, parent, Lock()
        if attributes is not None:
            limits = self._span_limits  # what the provider was told of limits
            span.kept = _kept(attributes, limits.max_span_attributes, limits.max_span_attribute_length)
        if not record_exception:
            span._record_exception = False
        if not set_status_on_exception:
            span._set_status_on_exception = False
        span._start_time = time_ns() if start_time is None else start_time
        for told in spans.hooks.start:
            told(span, parent_context=context)
        return span

    def _class_of_spans(self) -> type[RecorderSpan]:
        """A class that holds what all spans of this tracer share."""
        shared = {
            "_resource": self.resource,
            "_instrumentation_info": self.instrumentation_info,
            "_instrumentation_scope": self._instrumentation_scope,
            "_span_processor": self.span_processor,
            "_limits": self._span_limits,
            "_sampler": self.sampler,
            "ids": None if type(self.id_generator) is RandomIdGenerator else self.id_generator,
            "hooks": _Hooks(self.span_processor),
        }
        return type("RecorderSpan", (RecorderSpan,), shared)

    def _set_resource(self, resource: Resource) -> None:
        """The provider's word of a new resource, after a fork: spans that began before it keep theirs."""
        super()._set_resource(resource)
        self._spans = None

    def _may_be_fast(self) -> bool:
        # _tracer_metrics: the SDK's internal metrics, which count each span as it starts and ends
        counts = type(self._tracer_metrics).__name__ != "NoOpTracerMetrics"
        return _is_always_on(self.sampler) and not counts and is_known_sdk()


def _is_always_on(sampler: sampling.Sampler) -> bool:
    """Whether every span with a sampled parent, or none, is kept as it is, whatever its attributes."""
    if type(sampler) not in (sampling.StaticSampler, sampling.ParentBased):
        return False
    always: tuple[Any, ...] = (sampling.ALWAYS_ON, sampling.DEFAULT_ON)
    return sampler.get_description() in [known.get_description() for known in always]


_known: list[bool] = []


def is_known_sdk() -> bool:
    """Whether this release's spans have the very fields that `RecorderSpan` provides for. Looked at once."""
    if not _known:
        missing, unknown = unknown_fields()
        _known.append(not missing and not unknown)
        if not _known[0]:
            _logger.warning(
                "This release of opentelemetry-sdk has other spans than those known to retrospan: "
                "its own are made, at their own cost (%s).",
                ", ".join((*unknown, *missing)),
            )
    return _known[0]


def unknown_fields() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The fields of a `RecorderSpan` that the SDK's span lacks, and those that only the SDK's has."""
    provider = RecorderTracerProvider(sampling.ALWAYS_ON, Resource.get_empty(), shutdown_on_exit=False)
    tracer = provider.get_tracer("retrospan")
    stock = set(vars(Tracer.start_span(tracer, "GET", Context())))
    tracer._is_fast = True
    span = tracer.start_span("GET", Context())
    ours = {name for thing in (span, type(span), RecorderSpan) for name in vars(thing) if name[0] == "_"}
    ours -= {*dir(Span), *(name for name in ours if name[:2] == "__")}
    return tuple(sorted(ours - stock)), tuple(sorted(stock - ours))


class RecorderTracerProvider(TracerProvider):
    """The SDK's TracerProvider, with the same arguments, whose tracers are `RecorderTracer`s."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        """As the SDK's: the same tracer for the same scope."""
        tracer = super().get_tracer(*args, **kwargs)
        if type(tracer) is Tracer:
            # The very object that the provider keeps, and tells of a new resource or configuration, becomes ours.
            tracer.__class__ = RecorderTracer
        return tracer


def is_fast_wanted() -> bool:
    """Whether the environment leaves fast spans on."""
    return os.environ.get(FAST_SPANS, "").strip().lower() not in ("0", "false", "no", "off")


def provider_class() -> type[TracerProvider]:
    """The provider to make where the program has none: ours, unless RETROSPAN_FAST_SPANS=0."""
    return RecorderTracerProvider if is_fast_wanted() else TracerProvider


@contextmanager
def in_configurator() -> Iterator[None]:
    """Inside, the SDK's configurator makes the provider that `provider_class` names."""
    configuration: Any = importlib.import_module("opentelemetry.sdk._configuration")
    stock = configuration.TracerProvider  # the name by which its private functions find the class
    configuration.TracerProvider = provider_class()
    try:
        yield
    finally:
        configuration.TracerProvider = stock
