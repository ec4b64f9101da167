"""Spans that cost little where they are made: the SDK's, by class and by behaviour, whose fields are made when they are read.

    making = Making(tracer)                     # what all spans of a tracer share, until its provider gets another processor
    span = making.spans()
    span.open, span.kept, ... = making, attributes, ...          # by `provider.RecorderTracer`

Every method that is called on one is the SDK's own. Attributes that come as a Mapping with a true `read_late` are kept unread
until somebody reads them, and so are its `late_events`; they shall not change once the span has ended. All others are as
they were when they were given.

This module and `provider` are the only ones that touch private parts of the SDK's tracing, but for one field that `processor`
reads; each is named where it is used.
"""

import logging
from _thread import LockType, allocate_lock
from collections.abc import Callable, Mapping, Sequence
from time import sleep, time_ns
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, Span, SpanLimits, SpanProcessor, SynchronousMultiSpanProcessor, Tracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, SpanContext, Status, StatusCode
from opentelemetry.util.types import Attributes

# The SDK's own logger: what it says of a span that has ended is said by it here, too.
_sdk_logger = logging.getLogger("opentelemetry.sdk.trace")
_PLAIN: Final = frozenset((str, int, float, bool))
_TEXT: Final = frozenset((str,))


def _is_plain(attributes: Mapping[str, object]) -> bool:
    """Whether these are attributes that every release of the SDK keeps as they are, and that nobody can change."""
    return (
        _PLAIN.issuperset(map(type, attributes.values()))
        and _TEXT.issuperset(map(type, attributes))
        and "" not in attributes
    )


class _Attributes(BoundedAttributes):
    """The SDK's, whose items are handed out at once: an exporter goes through them all, and would ask for them one by one."""

    def items(self) -> Any:
        """As the SDK's; what may yet change, it gives."""
        return self._dict.items() if self._immutable else super().items()


def keep(given: Attributes, most: int | None, longest: int | None) -> Any:
    """Given attributes as they may stay until they are read: late ones, or a copy of plain ones; all others cleaned now."""
    if type(given) is not dict:
        if given is None or getattr(given, "read_late", False):
            return given
    elif longest is None and (most is None or len(given) <= most) and _is_plain(given):
        return given.copy()
    return _Attributes(most, given, immutable=False, max_value_len=longest)


def _bounded(kept: Any, most: int | None, longest: int | None, *, immutable: bool) -> BoundedAttributes:
    """The SDK's attributes of what was kept; plain ones are put in at once, each look at one of them being spared."""
    if type(kept) is _Attributes:
        bounded = kept
    else:
        found: dict[str, Any] = dict(kept.items()) if kept is not None else {}
        sound = longest is None and (most is None or len(found) <= most) and _is_plain(found)
        bounded = _Attributes(most, None if sound else found, immutable=False, max_value_len=longest)
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
    if span._end_time is None:
        _ = span._lock  # so that it ends under it, and what is made here cannot be changed from then on
    limits = span._limits
    most, longest = limits.max_span_attributes, limits.max_span_attribute_length
    bounded = _bounded(span.kept, most, longest, immutable=span._end_time is not None)
    made: BoundedAttributes = span.__dict__.setdefault("_attributes", bounded)
    _ = span._events  # some of which may come from what is let go here
    span.kept = None  # whoever computes attributes late need not live as long as its span
    if span._end_time is not None:  # it ended meanwhile, in another thread
        made._immutable = True
    return made


def _events_of(span: "RecorderSpan") -> Sequence[Event]:
    kept, limits = span.kept, span._limits
    late = () if kept is None else getattr(kept, "late_events", ())
    has_ended = span._end_time is not None
    if has_ended and not late:
        return ()
    most, longest = limits.max_event_attributes, limits.max_attribute_length
    events = [RecorderEvent(name, keep(given, most, longest), at, limits) for name, given, at in late]
    if has_ended and (limits.max_events is None or len(events) <= limits.max_events):
        return tuple(events)
    bounded: Any = BoundedList(limits.max_events)
    bounded.extend(events)
    return bounded  # type: ignore[no-any-return]  # the SDK's list


def _links_of(span: "RecorderSpan") -> Sequence[Link]:
    return BoundedList(span._limits.max_links) if span._end_time is None else ()


def _lock_of(span: "RecorderSpan") -> LockType:
    try:
        making = span.open
        del span.open
    except AttributeError:
        # Whoever deleted it, in another thread, says what for in its next step; a debugger may have stopped it there.
        for _ in range(1000):
            if span._end_time is not None or span.written is not None:
                break
            sleep(0)
    else:
        span.written = making
    return allocate_lock()


class _Bare:
    """An object that is made without any Python code's running."""

    __new__ = object.__new__


class RecorderSpan(_Bare, Span):
    """The SDK's span; its constructor does not run, and the fields that it would set are these, or set by the tracer.

    The SDK's methods write to a span, and look whether it has ended, under its lock. A span that they never wrote to has no
    lock, and ends without: `open` is deleted by the end or by the making of the lock, which one thread alone can.
    """

    __init__ = object.__init__

    # Set by the tracer on each span: _name _context _kind _parent _start_time; and on a class of its own for all of
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
    _lock = _Late(_lock_of)
    kept: Any = None
    """Attributes that were given, until they are read, and with them the events that they may have."""
    open: "Making"
    written: "Making | None" = None
    """What `open` was, if it has a lock."""

    def get_span_context(self) -> SpanContext:
        """As the SDK's, without its cast."""
        return self._context  # type: ignore[return-value]  # the tracer sets it

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """As the SDK's, the attributes read later."""
        limits = self._limits
        given = keep(attributes, limits.max_event_attributes, limits.max_attribute_length)
        self._add_event(RecorderEvent(name, given, timestamp, limits))  # the SDK's way to put an event on a span

    def end(self, end_time: int | None = None) -> None:
        """As the SDK's; the processors get the span itself, which can be read only from now on."""
        at = time_ns() if end_time is None else end_time
        try:
            making = self.open
            del self.open
        except AttributeError:
            written = self.end_under_lock(at)
            if written is None:
                return
            making = written
        else:
            self._end_time = at
        # A processor may have been added since the span began.
        told = making.ends if making.processors is making.processor._span_processors else _ends(making.processor)
        for tell in told:
            tell(self)

    def end_under_lock(self, at: int) -> "Making | None":
        """End under the lock; None if it has ended."""
        with self._lock:
            if self._end_time is not None:
                _sdk_logger.warning("Calling end() on an ended span.")
                return None
            self._end_time = at
            attributes = self.__dict__.get("_attributes")
            if attributes is not None:
                attributes._immutable = True
        return self.written


_Told = tuple[Callable[..., object], ...]


def _told(processor: Any, name: str) -> _Told:
    """Methods of the processors that are told of a span, without those that do nothing."""
    told = processor._span_processors if type(processor) is SynchronousMultiSpanProcessor else (processor,)
    idle = [getattr(known, name) for known in (SpanProcessor, SimpleSpanProcessor, BatchSpanProcessor)]
    if name == "on_end":
        idle = idle[:1]
    methods = [getattr(one, name) for one in told]
    return tuple([method for method in methods if getattr(method, "__func__", None) not in idle])


def _ends(processor: Any) -> _Told:
    return _told(processor, "_on_ending") + _told(processor, "on_end")


class _Resource(Resource):
    """A resource whose hash is made once: exporters group spans by it, and the SDK's makes a text of it for each span."""

    _hash: int | None = None

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = super().__hash__()
        return self._hash


class Making:
    """What a tracer makes spans with, as long as its provider's processors are these."""

    __slots__ = ("ends", "ids", "processor", "processors", "spans", "starts")

    def __init__(self, tracer: Tracer) -> None:
        self.processor: Any = tracer.span_processor
        # _span_processors: where the SDK's processor of processors keeps them, a new tuple for each added
        self.processors: Any = self.processor._span_processors
        self.starts, self.ends = _told(self.processor, "on_start"), _ends(self.processor)
        self.ids: IdGenerator | None = None if type(tracer.id_generator) is RandomIdGenerator else tracer.id_generator
        shared = {
            "_resource": _Resource(tracer.resource.attributes, tracer.resource.schema_url),
            "_instrumentation_info": tracer.instrumentation_info,
            "_instrumentation_scope": tracer._instrumentation_scope,
            "_span_processor": tracer.span_processor,
            "_limits": tracer._span_limits,
            "_sampler": tracer.sampler,
        }
        self.spans: type[RecorderSpan] = type("RecorderSpan", (RecorderSpan,), shared)
