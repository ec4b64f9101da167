"""Instrumentation for resilient HTTP clients: library calls become OpenTelemetry spans and events.

    import retrospan_instrumentation
    retrospan_instrumentation.instrument_all()

One file a library; `instrument_all` puts every hook in place, for libraries that are loaded and for those that will be.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

INSTRUMENTORS = {
    "retrospan-httpx": "httpx:HTTPXClientInstrumentor",
    "retrospan-httpx2": "httpx:HTTPX2ClientInstrumentor",
    "retrospan-hishel": "hishel:HishelInstrumentor",
    "retrospan-tenacity": "tenacity:TenacityInstrumentor",
    "retrospan-pyrate-limiter": "pyrate_limiter:PyrateLimiterInstrumentor",
    "retrospan-pybreaker": "pybreaker:PybreakerInstrumentor",
    "retrospan-aiolimiter": "aiolimiter:AiolimiterInstrumentor",
    "retrospan-httpx-retries": "httpx_retries:HttpxRetriesInstrumentor",
    "retrospan-fallback": "fallback:FallbackInstrumentor",
    "retrospan-threads": "threads:ThreadsInstrumentor",
}
"""Entry point name -> `file:class` of this package."""


def instrumentors() -> list[Any]:
    """Every instrumentor; each is one object, whoever asks."""
    found = []
    for place in INSTRUMENTORS.values():
        module, name = place.split(":")
        found.append(getattr(import_module(f"{__name__}.{module}"), name)())
    return found


def instrument_all(
    tracer_provider: "TracerProvider | None" = None, meter_provider: "MeterProvider | None" = None
) -> None:
    """Put every hook in place. Spans go to `tracer_provider`, metrics to `meter_provider`, by default the global ones. Twice
    is once."""
    emit, metrics = (import_module(f"{__name__}.{name}") for name in ("emit", "metrics"))
    emit.use(tracer_provider)
    metrics.use(meter_provider)
    for instrumentor in instrumentors():
        if not instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)


def uninstrument_all() -> None:
    """Take every hook off again: the classes have their own functions back."""
    for instrumentor in instrumentors():
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()
