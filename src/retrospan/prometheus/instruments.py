"""From series to a page: observable instruments on OpenTelemetry's reader for Prometheus.

    instruments = Instruments()
    instruments.render({"retrospan_yield_ratio": {("01K9Z3NDEKTS",): 0.9}}).plain

What is not among the series is not on the page, nor its HELP and TYPE. The SDK keeps a slot for every set of labels that a
reader has seen, two thousand an instrument: so the reader is a new one as soon as a set has gone, and memory stays flat.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from retrospan.prometheus.names import METRICS
from retrospan.prometheus.server import Page

Labels = tuple[str, ...]
Series = Mapping[str, Mapping[Labels, float]]
"""By metric, the values by labels in the order of `names.METRICS`."""

MOST_SERIES: Final = 1900
"""So many series of one metric are shown: beyond 2 000 the SDK would give all of them as one."""


class Instruments:
    """The instruments of `names.METRICS`, and the reader that is theirs at present. To be used by one thread."""

    def __init__(self) -> None:
        self._series: Series = {}
        self._provider = MeterProvider(shutdown_on_exit=False)
        meter = self._provider.get_meter("retrospan")
        for name, metric in METRICS.items():
            create = meter.create_observable_counter if metric.kind == "counter" else meter.create_observable_gauge
            observe: Callable[[CallbackOptions], Iterable[Observation]] = partial(self._observe, name)
            create(metric.instrument, [observe], metric.unit, metric.meaning)
        self._begin()

    def render(self, series: Series) -> Page:
        """The page of these series, at most `MOST_SERIES` of each metric, the first ones."""
        before, self._series = self._series, series
        if any(not before[name].keys() <= series.get(name, {}).keys() for name in before):
            self._provider.remove_metric_reader(self._reader)
            self._begin()
        return Page(generate_latest(self._registry))

    def _begin(self) -> None:
        self._registry = CollectorRegistry()
        self._reader = PrometheusMetricReader(True, scope_info_enabled=False, registry=self._registry)
        self._provider.add_metric_reader(self._reader)

    def _observe(self, name: str, options: CallbackOptions) -> Iterable[Observation]:
        labels = METRICS[name].labels
        for number, (values, value) in enumerate(self._series.get(name, {}).items()):
            if number == MOST_SERIES:
                return
            yield Observation(value, dict(zip(labels, values, strict=True)))
