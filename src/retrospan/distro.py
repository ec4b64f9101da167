"""The zero-code start: what `opentelemetry-instrument` finds of Retrospan, and how it comes to record.

`environment_variables` makes ours the distro; the distro sets defaults where the user set nothing; the configurator puts
our processor where the SDK would put its own; `ensure_recording` adds it where another distro was chosen. Every OTEL_*
variable of the user's is obeyed.
"""

import logging
import os
import sys
import time
from typing import Any, Final

from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.instrumentation.distro import BaseDistro  # type: ignore[attr-defined]
from opentelemetry.instrumentation.environment_variables import (
    OTEL_PYTHON_CONFIGURATOR,
    OTEL_PYTHON_DISABLED_INSTRUMENTATIONS,
)
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.environment_variables import OTEL_CONFIG_FILE

from retrospan_exporters.sqlite import DB
from retrospan_instrumentation.hooks import is_disabled

NAME: Final = "retrospan"
EXPORTER: Final = "sqlite"
_OURS: Final = "retrospan_instrumentation."
# They import httpx and httpx2 at the start, and would make no span beside ours: left out while ours are on.
_OFFICIAL_HTTPX: Final = "opentelemetry.instrumentation.httpx:"
_LOADER: Final = "opentelemetry.instrumentation.auto_instrumentation._load"


class RetrospanDistro(BaseDistro):  # type: ignore[misc]  # its package is not typed
    """Sets defaults where the user set nothing, and leaves out the official httpx instrumentations while ours are on."""

    def _configure(self, **kwargs: Any) -> None:
        if is_disabled():
            return
        asked = os.environ.get(OTEL_TRACES_EXPORTER)
        os.environ[OTEL_TRACES_EXPORTER] = _exporters(asked, has_db=DB in os.environ)
        if asked is not None and EXPORTER not in os.environ[OTEL_TRACES_EXPORTER]:
            sys.stderr.write(
                f"retrospan: {OTEL_TRACES_EXPORTER}={asked}, so no record is written: add {EXPORTER} to it, or set {DB}\n"
            )
        os.environ.setdefault(OTEL_METRICS_EXPORTER, "none")
        os.environ.setdefault(OTEL_LOGS_EXPORTER, "none")
        if os.environ.setdefault(OTEL_PYTHON_CONFIGURATOR, NAME) == NAME:
            logging.getLogger(_LOADER).addFilter(_is_news)

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
        from retrospan.configuration import resource_attributes
        from retrospan_exporters.run import RUN_ID, new_id

        run_id = os.environ.setdefault(RUN_ID, new_id(time.time()))
        kwargs.setdefault("export_span_processor", _processor_for)
        kwargs["resource_attributes"] = {**kwargs.get("resource_attributes", {}), **resource_attributes(run_id)}
        super()._configure(**kwargs)  # type: ignore[no-untyped-call]


def ensure_recording() -> None:
    """Add the recorder to a provider that another distro set up, when RETROSPAN_DB asks for a record."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    if is_disabled() or not os.environ.get(DB) or EXPORTER in os.environ.get(OTEL_TRACES_EXPORTER, ""):
        return
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        from retrospan_exporters.sqlite import SQLiteSpanExporter

        provider.add_span_processor(_processor_for(SQLiteSpanExporter()))


def _processor_for(exporter: Any, *args: Any, **kwargs: Any) -> Any:
    """The processor that an exporter is put behind: ours for ours, the SDK's for all others."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from retrospan.configuration import recording_processor
    from retrospan_exporters import lifecycle
    from retrospan_exporters.sqlite import SQLiteSpanExporter

    if not isinstance(exporter, SQLiteSpanExporter):
        return BatchSpanProcessor(exporter, *args, **kwargs)
    processor = recording_processor(exporter)
    lifecycle.handle_signals()
    lifecycle.wrap_exits()
    return processor


def _exporters(asked: str | None, *, has_db: bool) -> str:
    """The exporters to use: the user's, and ours where nothing was asked for, or a record was."""
    if not asked:
        return EXPORTER
    names = [name.strip() for name in asked.split(",") if name.strip()]
    if not has_db or EXPORTER in names:
        return asked
    return ",".join([*(name for name in names if name != "none"), EXPORTER])


def _are_httpx_hooks_on() -> bool:
    off = {name.strip() for name in os.environ.get(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "").split(",")}
    return not off & {"retrospan-httpx", "retrospan-httpx2", "*"}


def _is_news(record: logging.LogRecord) -> bool:
    """That other configurators were not loaded, because we chose ours, is none."""
    return not (record.levelno == logging.WARNING and "not loaded" in record.msg)
