"""The counters, from 0 on since the start of the process; never fewer than before, whatever becomes of a record."""

from collections.abc import Iterable, Mapping
from typing import Final

from retrospan.prometheus import names
from retrospan.prometheus.counts import Counts
from retrospan.prometheus.labels import Folding, one_of
from retrospan.slo.definitions import SLO
from retrospan_instrumentation.semconv import OUTCOMES

_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
_WITHOUT_ANSWER: Final = "error"
_outcome: Final = one_of(OUTCOMES)


class Totals:
    """All counters of all records; `hosts` is how hosts are told, in gauges too."""

    def __init__(self, slos: Iterable[SLO], most_hosts: int) -> None:
        self.hosts = Folding(most_hosts)
        self._ways = Folding(most_hosts)
        self._series: dict[str, dict[tuple[str, ...], float]] = {
            name: {} for name, metric in names.METRICS.items() if metric.kind == "counter"
        }
        # A series that begins at a number has lost it for `increase`: what can be known beforehand begins at 0.
        for name in (names.SAVED_BYTES, names.CORRUPTIONS, names.ROWS_DROPPED):
            self._add(name, (), 0)
        for slo in slos:
            self.add_events(slo.name, 0, 0)

    def series(self) -> dict[str, dict[tuple[str, ...], float]]:
        """A copy of the counters as they are now."""
        return {name: dict(values) for name, values in self._series.items()}

    def add(self, counts: Counts) -> None:
        """Count rows that were read."""
        for (host, hundreds), number in counts.requests.most_common():
            self._add(names.REQUESTS, (*self.hosts(host), _class(hundreds)), number)
        for (tier, source, outcome), number in counts.attempts.most_common():
            self._add(names.ATTEMPTS, (*self._ways(tier, source), _outcome(outcome)), number)
        for (host,), number in counts.opens.most_common():
            self._add(names.BREAKER_OPENS, self.hosts(host), number)
        self._add(names.SAVED_BYTES, (), counts.saved_bytes)
        self._add(names.CORRUPTIONS, (), counts.corruptions)
        for slo, (good, bad) in counts.events.items():
            self.add_events(slo, good, bad)

    def add_events(self, slo: str, good: float, bad: float) -> None:
        """Count events of an objective."""
        self._add(names.SLO_EVENTS, (slo, names.GOOD), good)
        self._add(names.SLO_EVENTS, (slo, names.BAD), bad)

    def add_growth(
        self, before: Mapping[str, tuple[float, float]], now: Mapping[str, tuple[float, float]]
    ) -> dict[str, tuple[float, float]]:
        """Count by how much the sums of events have grown; gives the greater sums, which are what was told."""
        told = dict(before)
        for slo, sums in now.items():
            good, bad = before.get(slo, (0.0, 0.0))
            told[slo] = max(good, sums[0]), max(bad, sums[1])
            self.add_events(slo, told[slo][0] - good, told[slo][1] - bad)
        return told

    def add_dropped(self, rows: int) -> None:
        """Count rows that recorders had to drop."""
        self._add(names.ROWS_DROPPED, (), rows)

    def _add(self, name: str, labels: tuple[str, ...], number: float) -> None:
        series = self._series[name]
        series[labels] = series.get(labels, 0) + max(number, 0)


def _class(hundreds: object) -> str:
    if hundreds is None:
        return _WITHOUT_ANSWER
    return name if (name := f"{hundreds}xx") in _CLASSES else names.OTHER
