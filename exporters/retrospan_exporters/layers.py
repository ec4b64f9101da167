"""Where spans go to a collector, too: which layers the process has entered, told by a span of its own.

    provider.add_span_processor(LayersToo(OTLPSpanExporter()))

A record has this in `run_info`; without it nobody there could tell a run that used no limiter from one whose limiter never made
anybody wait. It is told when another span ends, and again whenever there is more to tell: a few spans a process. Those of ours
that write records make no row of it.
"""

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanContext

from retrospan_instrumentation import emit, surround
from retrospan_instrumentation import semconv as sc

from .run import as_list, entered_layers


class LayersToo(BatchSpanProcessor):
    """The SDK's batch processor, before an exporter that is not ours."""

    def __init__(self, span_exporter: SpanExporter, *args: Any, **options: Any) -> None:
        """As the SDK's."""
        super().__init__(span_exporter, *args, **options)
        self._count = -1
        self._told: str | None = None
        self._last: SpanContext | None = None

    def on_end(self, span: ReadableSpan) -> None:
        """Take the span, and tell if there is more to tell than before."""
        super().on_end(span)
        self._last = span.context
        # For each span of the program: no more than this, and no lock. What two threads see at once is told twice.
        if len(surround.layers) != self._count:
            self._tell()

    def shutdown(self) -> None:
        """Tell of what was entered after the last span."""
        if self._last is not None:
            self._tell()
        super().shutdown()  # type: ignore[no-untyped-call]

    def _tell(self) -> None:
        self._count = len(surround.layers)
        entered = as_list(entered_layers()) or ""
        if entered != self._told:
            self._told = entered
            # Below a span that was sampled, and so sampled itself.
            emit.tell(sc.SPAN_LAYERS, {sc.RETROSPAN_LAYERS: entered}, parent=self._last)
