"""A tracer provider whose spans cost little where they are made: what they hold is read in the thread that exports them.

    provider = RecorderTracerProvider()              # the SDK's TracerProvider in every other respect
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("GET", attributes={"server.address": "api.example.org"}):
        ...

Most of what the SDK's own span costs is work done at once: each attribute looked at, a list for events and one for links,
a lock, a copy for the processors. Here a span is the SDK's span, by class and by behaviour, whose fields are made when
somebody first asks for them (`fast_spans`).

Where the result could differ, the SDK's own span is made: links, an unsampled parent, a sampler other than "always on",
the SDK's internal metrics, a release of the SDK whose span has other fields than those known here. A provider of the SDK's
can have one of its tracers make such spans, by `use_fast_spans`. RETROSPAN_FAST_SPANS=0 keeps that from it, and has
`provider_class` name the stock provider.

This module and `fast_spans` are the only ones that touch private parts of the SDK's tracing, but for one field that `processor`
reads; each is named where it is used.
"""

import importlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import getrandbits
from time import time_ns
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, Tracer, TracerProvider, sampling
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import INVALID_SPAN, Link, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace import Span as APISpan
from opentelemetry.util.types import Attributes

from retrospan_instrumentation.contexts import get_current

from .fast_spans import Making, RecorderSpan, keep

FAST_SPANS: Final = "RETROSPAN_FAST_SPANS"

_logger = logging.getLogger("retrospan")
# The key under which the API keeps the current span, taken from what it makes: there is no public name for it.
_SPAN_KEY: Final = next(iter(set_span_in_context(INVALID_SPAN, Context())))
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SAMPLED_RANDOM: Final = TraceFlags(TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID)
_NOBODY: Final = INVALID_SPAN.get_span_context()
_NO_STATE: Final = _NOBODY.trace_state
# The flags of a child by its parent's last two bits: None where the parent is not sampled.
_FLAGS_BELOW: Final = (None, _SAMPLED, None, _SAMPLED_RANDOM)
_new_tuple = tuple.__new__


class RecorderTracer(Tracer):
    """The SDK's tracer, whose spans are `RecorderSpan`s wherever that makes no difference."""

    _making: Making | None = None

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
        # _tracer_config: whether this tracer is switched off
        if links or not self._tracer_config.is_enabled:
            return super().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        making = self._making
        if making is None or making.processors is not making.processor._span_processors:
            making = self._making = Making(self)
        current: Any = (get_current() if context is None else context).get(_SPAN_KEY)
        parent = _NOBODY if current is None else current.get_span_context()
        # The SDK's ids are random and valid: its functions for them cost a third of a span's start.
        if parent is _NOBODY:
            parent = None
            made = (getrandbits(128) or 1, getrandbits(64) or 1, False, _SAMPLED_RANDOM, _NO_STATE, True)
        else:
            flags = None
            if type(parent) is SpanContext:
                trace_id, _, _, said, state, is_valid = parent  # a tuple: read at once
                flags = _FLAGS_BELOW[said & 3] if is_valid else None
            if flags is None:
                return super().start_span(
                    name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
                )
            made = (trace_id, getrandbits(64) or 1, False, flags, state, True)
        make = making.spans
        span: RecorderSpan = make()
        span._context = _new_tuple(SpanContext, made) if making.ids is None else _context_by(making.ids, parent, made)
        span._name = name
        span._kind = kind
        span._parent = parent
        span.open = making
        if attributes is not None:
            if not getattr(attributes, "read_late", False):
                limits = self._span_limits  # what the provider was told of limits
                attributes = keep(attributes, limits.max_span_attributes, limits.max_span_attribute_length)
            span.kept = attributes
        if not (record_exception and set_status_on_exception):
            span._record_exception, span._set_status_on_exception = record_exception, set_status_on_exception
        span._start_time = time_ns() if start_time is None else start_time
        if making.starts:
            for told in making.starts:
                told(span, parent_context=context)
        return span

    def _set_resource(self, resource: Resource) -> None:
        """The provider's word of a new resource, after a fork: spans that began before it keep theirs."""
        super()._set_resource(resource)
        self._making = None


def _context_by(ids: IdGenerator, parent: SpanContext | None, made: tuple[Any, ...]) -> SpanContext:
    """The context to be made, with ids of a program's own generator instead."""
    trace_id, _, _, flags, state, _ = made
    if parent is None:
        trace_id = ids.generate_trace_id()
        flags = _SAMPLED_RANDOM if ids.is_trace_id_random() else _SAMPLED
    return SpanContext(trace_id, ids.generate_span_id(), False, flags, state)


def use_fast_spans(tracer: object) -> None:
    """Have one tracer of the SDK's make `RecorderSpan`s from now on, wherever that makes no difference.

    Its provider and its provider's other tracers stay what they are: this is for the hooks' tracer in a program that has a
    provider of its own. RETROSPAN_FAST_SPANS=0 leaves this one, too.
    """
    if is_fast_wanted():
        _quicken(tracer)


def _quicken(tracer: Any) -> None:
    if type(tracer) is Tracer and _may_be_fast(tracer):
        # The very object that the provider keeps, and tells of a new resource or configuration, becomes ours. (That makes a
        # dict of its attributes, of the kind in which Python finds one only by searching; a copy is of the quick kind.)
        tracer.__class__ = RecorderTracer
        tracer.__dict__ = dict(tracer.__dict__)


def _may_be_fast(tracer: Tracer) -> bool:
    # _tracer_metrics: the SDK's internal metrics, which count each span as it starts and ends
    counts = type(tracer._tracer_metrics).__name__ != "NoOpTracerMetrics"
    has_processors = hasattr(tracer.span_processor, "_span_processors")
    return _is_always_on(tracer.sampler) and has_processors and not counts and is_known_sdk()


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
    provider = TracerProvider(sampling.ALWAYS_ON, Resource.get_empty(), shutdown_on_exit=False)
    tracer = provider.get_tracer("retrospan")
    stock = set(vars(tracer.start_span("GET", Context())))
    tracer.__class__ = RecorderTracer
    span = tracer.start_span("GET", Context())
    ours = {name for thing in (span, type(span), RecorderSpan) for name in vars(thing) if name[0] == "_"}
    ours -= {*dir(Span), *(name for name in ours if name[:2] == "__")}
    return tuple(sorted(ours - stock)), tuple(sorted(stock - ours))


class RecorderTracerProvider(TracerProvider):
    """The SDK's TracerProvider, with the same arguments, whose tracers are `RecorderTracer`s."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        """As the SDK's: the same tracer for the same scope."""
        tracer = super().get_tracer(*args, **kwargs)
        _quicken(tracer)
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
