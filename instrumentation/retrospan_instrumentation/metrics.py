"""Live metrics of what the hooks see, through the OpenTelemetry metrics API.

    metrics.use(None)                                # the global meter provider, once a reader listens to it
    if metrics.live is not None:                     # at the three places where something is over
        metrics.live.told("rate_limiter.block", facts)

What is told to the tracer is told here too: `TOLD` says which metric a span's or event's name stands for. While no reader
listens no instrument is made, and a hook pays for one look at `live`. Names, units and labels stand in `semconv.METRICS`.
"""

from collections.abc import Callable, Iterable, Mapping
from time import time_ns
from typing import Any

from opentelemetry import metrics as api
from opentelemetry.metrics import CallbackOptions, Histogram, MeterProvider, Observation
from opentelemetry.util.types import AttributeValue

from . import semconv as sc
from .semconv import SCOPE, VERSION

_LOOKS_APART = 5_000_000_000  # ns between two looks for a reader that came later
_MOST_BREAKERS = 1000
_NEVER = 1 << 63
_STATES = ("closed", "half_open", "open")

Facts = Mapping[str, AttributeValue | None]

live: "Instruments | None" = None
"""What records, while a reader listens."""
next_look = 0
"""When to look again whether one listens, ns since 1970: the hooks do, now and then."""

_given: MeterProvider | None = None
_state_of: dict[str, str] = {}  # the state that each breaker was last seen in
_counts: dict[str, Callable[[], int]] = {}  # what is counted by others than the hooks


def use(provider: MeterProvider | None) -> None:
    """Record by this provider from now on; None: by the global one, as soon as a reader listens to it."""
    global _given, live
    _given, live = provider, None
    look()


def look() -> None:
    """See whether a reader listens; if not, it is asked again some seconds later."""
    global live, next_look
    provider = _given or api.get_meter_provider()
    if _is_heard(provider):
        live, next_look = Instruments(provider), _NEVER
    else:
        next_look = time_ns() + _LOOKS_APART


def _is_heard(provider: MeterProvider) -> bool:
    """Whether a reader listens to this provider. The API cannot say; the SDK's own keeps its readers here."""
    if isinstance(provider, api.NoOpMeterProvider) or type(provider).__name__ == "_ProxyMeterProvider":
        return False
    consumer = getattr(provider, "_measurement_consumer", None)
    readers = getattr(consumer, "_reader_storages", None)
    return readers is None or len(readers) > 0


def breaker_seen(name: str | None, state: str) -> None:
    """A breaker was first met in this state, or has moved into it."""
    if name and (name in _state_of or len(_state_of) < _MOST_BREAKERS):
        _state_of[name] = state


def count_by(name: str, count: Callable[[], int]) -> None:
    """Have the observable counter of this name be what `count` says, whenever a reader asks."""
    _counts[name] = count


def _labels(facts: Facts, names: Iterable[str]) -> dict[str, AttributeValue]:
    return {name: value for name in names if (value := facts.get(name)) is not None}


class Instruments:
    """The instruments, made by one provider."""

    def __init__(self, provider: MeterProvider) -> None:
        meter = api.get_meter(SCOPE, VERSION, provider)
        self._made: dict[str, Any] = {}
        for metric in sc.METRICS.values():
            if metric.kind == "histogram":
                made: Any = meter.create_histogram(
                    metric.name,
                    metric.unit,
                    metric.meaning,
                    explicit_bucket_boundaries_advisory=sc.DURATION_BUCKETS,
                )
            elif metric.kind == "counter":
                made = meter.create_counter(metric.name, metric.unit, metric.meaning)
            elif metric.kind == "gauge":
                made = meter.create_observable_gauge(metric.name, [_observe_states], metric.unit, metric.meaning)
            else:
                made = meter.create_observable_counter(
                    metric.name, [_counted(metric.name)], metric.unit, metric.meaning
                )
            self._made[metric.name] = made

    def told(self, name: str, facts: Facts, seconds: float = 0.0) -> None:
        """A span or event of this name is over, with these facts, after so many seconds."""
        for metric, value in TOLD.get(name, {}).items():
            amount = value(facts, seconds)
            labels = _labels(facts, sc.METRICS[metric].labels)
            made = self._made[metric]
            if isinstance(made, Histogram):
                made.record(amount, labels)
            else:
                made.add(int(amount), labels)


def _once(facts: Facts, seconds: float) -> float:
    return 1


def _seconds(facts: Facts, seconds: float) -> float:
    return seconds


def _delay(facts: Facts, seconds: float) -> float:
    delay = facts.get(sc.RATE_LIMITER_DELAY_MS)
    return delay / 1000 if isinstance(delay, int) else seconds


TOLD: Mapping[str, Mapping[str, Callable[[Facts, float], float]]] = {
    sc.HTTP_REQUEST: {sc.METRIC_REQUEST_DURATION: _seconds},
    sc.HTTP_CACHE: {sc.METRIC_CACHE_REQUESTS: _once},
    sc.RETRY_SCHEDULED: {sc.METRIC_RETRY_ATTEMPTS: _once},
    sc.RATE_LIMITER_ACQUIRE: {sc.METRIC_WAIT_DURATION: _delay},
    sc.RATE_LIMITER_BLOCK: {sc.METRIC_BLOCKED: _once},
    sc.BREAKER_STATE_CHANGE: {sc.METRIC_TRANSITIONS: _once},
    sc.BREAKER_REJECTED: {sc.METRIC_REJECTED: _once},
    sc.SPAN_FALLBACK_ATTEMPT: {sc.METRIC_ATTEMPTS: _once, sc.METRIC_ATTEMPT_DURATION: _seconds},
}


def _observe_states(options: CallbackOptions) -> Iterable[Observation]:
    """One series a state: 1 for the one that the breaker is in."""
    for name, now in list(_state_of.items()):
        for state in _STATES:
            yield Observation(int(state == now), {sc.CIRCUIT_BREAKER_NAME: name, sc.CIRCUIT_BREAKER_STATE: state})


def _counted(name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """No series until somebody counts."""

    def observe(options: CallbackOptions) -> Iterable[Observation]:
        if name in _counts:
            yield Observation(_counts[name]())

    return observe
