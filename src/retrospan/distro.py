"""The zero-code start: what `opentelemetry-instrument` finds of Retrospan, and how it comes to record.

`environment_variables` makes ours the distro; the distro sets defaults where the user set nothing; the configurator puts
our processor where the SDK would put its own; `ensure_recording` adds it where another distro was chosen. Every OTEL_*
variable of the user's is obeyed.
"""

import logging
import os
import sys
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.instrumentation.environment_variables import (
    OTEL_PYTHON_CONFIGURATOR,
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.environment_variables import OTEL_CONFIG_FILE

from retrospan.prometheus import endpoint
from retrospan_exporters.provider import in_configurator
from retrospan_exporters.settings import DB
from retrospan_instrumentation.hooks import is_disabled

NAME: Final = "retrospan"
EXPORTER: Final = "sqlite"
LINES: Final = "jsonl"
_OURS: Final = "retrospan_instrumentation."
# They import httpx and httpx2 at the start, and would make no span beside ours: left out while ours are on.
_OFFICIAL_HTTPX: Final = "opentelemetry.instrumentation.httpx:"
_LOADER: Final = "opentelemetry.instrumentation.auto_instrumentation._load"


class RetrospanDistro(BaseDistro):  # type: ignore[misc]  # its package is not typed
    """Sets defaults where the user set nothing, and leaves out the official httpx instrumentations while ours are on."""

    def _configure(self, **kwargs: Any) -> None:
        # Switched off, too: beside the stock configurator, which is loaded would be the order of a directory listing.
        if os.environ.setdefault(OTEL_PYTHON_CONFIGURATOR, NAME) == NAME:
            logging.getLogger(_LOADER).addFilter(_is_news)
        if is_disabled():
            others = [name for name in _names(os.environ.get(OTEL_TRACES_EXPORTER)) if name not in (EXPORTER, LINES)]
            os.environ[OTEL_TRACES_EXPORTER] = ",".join(others) or "none"
            return
        asked = os.environ.get(OTEL_TRACES_EXPORTER)
        os.environ[OTEL_TRACES_EXPORTER] = _exporters(asked, has_db=bool(os.environ.get(DB)))
        if asked is not None and not {EXPORTER, LINES} & set(_names(os.environ[OTEL_TRACES_EXPORTER])):
            sys.stderr.write(
                f"retrospan: {OTEL_TRACES_EXPORTER}={asked}, so no record is written: add {EXPORTER} to it, or set {DB}\n"
            )
        os.environ.setdefault(OTEL_METRICS_EXPORTER, "none")
        os.environ.setdefault(OTEL_LOGS_EXPORTER, "none")

    def load_instrumentor(self, entry_point: Any, **kwargs: Any) -> None:
        """Load an instrumentor, unless it has nothing to do beside ours."""
        if entry_point.value.startswith(_OFFICIAL_HTTPX) and not is_disabled() and _are_httpx_hooks_on():
            return
        super().load_instrumentor(entry_point, **kwargs)


class RetrospanConfigurator(_OTelSDKConfigurator):
    """The SDK's own configurator, with our processor for our exporter and the run's id on the resource."""

    def _configure(self, **kwargs: Any) -> None:
        if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            return
        if os.environ.get(OTEL_CONFIG_FILE):  # it says everything by itself, and takes no arguments
            super()._configure()  # type: ignore[no-untyped-call]
            return
        if is_disabled():
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]
            return
        asked = _names(os.environ.get(OTEL_TRACES_EXPORTER))
        if EXPORTER in asked or LINES in asked:
            _add_recorders(kwargs, has_record=EXPORTER in asked)
        with in_configurator(), endpoint.asked_for() as has_endpoint:
            super()._configure(**kwargs)  # type: ignore[no-untyped-call]
        _watch_provider()
        if has_endpoint:
            endpoint.serve(metrics.get_meter_provider())


def ensure_recording() -> None:
    """Add the recorder to a provider that another distro set up, when RETROSPAN_DB asks for a record."""
    if is_disabled() or not os.environ.get(DB):
        return
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    from retrospan.configuration import begin
    from retrospan_exporters import lifecycle
    from retrospan_exporters.sqlite import SQLiteSpanExporter

    provider = trace.get_tracer_provider()
    is_there = any(isinstance(part, SQLiteSpanExporter) for part in lifecycle.forking())
    if isinstance(provider, TracerProvider) and not is_there:
        processor = begin(SQLiteSpanExporter()).processor
        assert processor is not None
        provider.add_span_processor(processor)
        _watch_provider()


def _add_recorders(kwargs: dict[str, Any], *, has_record: bool) -> None:
    """Have the SDK put our processor where it would put its own behind our exporters, and the run's id on the resource."""
    from retrospan.configuration import begin, begin_lines, resource_attributes
    from retrospan_exporters.jsonl import JSONLSpanExporter
    from retrospan_exporters.layers import LayersToo
    from retrospan_exporters.run import Run
    from retrospan_exporters.sqlite import SQLiteSpanExporter

    recorder = begin(SQLiteSpanExporter()) if has_record else None
    if recorder is not None:
        run_id = recorder.run_id
    else:  # the exporter of lines, which the SDK makes from its name, is of the same run
        run = Run()
        run.pass_on()
        run_id = run.id

    def processor_for(made: Any, *args: Any, **options: Any) -> Any:
        # The SDK makes exporters when the resource is there already; ours had to settle the run's id before.
        if recorder is not None and isinstance(made, SQLiteSpanExporter):
            return recorder.processor
        return begin_lines(made) if isinstance(made, JSONLSpanExporter) else LayersToo(made, *args, **options)

    kwargs.setdefault("export_span_processor", processor_for)
    kwargs["resource_attributes"] = {**(kwargs.get("resource_attributes") or {}), **resource_attributes(run_id)}


def _watch_provider() -> None:
    from opentelemetry import trace

    from retrospan.configuration import recorders, watch_lines

    provider = trace.get_tracer_provider()
    for recorder in recorders():
        recorder.watch(provider)
    watch_lines(provider)


def _names(variable: str | None) -> list[str]:
    return [name.strip() for name in (variable or "").split(",") if name.strip()]


def _exporters(asked: str | None, *, has_db: bool) -> str:
    """The exporters to use: the user's, and ours where nothing was asked for, or a record was."""
    if not asked:
        return EXPORTER
    names = _names(asked)
    if not has_db or EXPORTER in names:
        return asked
    return ",".join([*(name for name in names if name != "none"), EXPORTER])


def _are_httpx_hooks_on() -> bool:
    off = _names(os.environ.get(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS))
    return not set(off) & {"retrospan-httpx", "retrospan-httpx2", "*"}


def _is_news(record: logging.LogRecord) -> bool:
    """That other configurators were not loaded, because we chose ours, is none."""
    return not (record.levelno == logging.WARNING and "not loaded" in record.msg)
