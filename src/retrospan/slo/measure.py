"""What a run's rows come to: the statistics wrapped round the texts in `sli/`, over one open record.

    measure = Measure(record, run)                        # binds the run
    measure.sample(DEFAULTS["http_429"]).value            # 0.013

Each text is run once for each way of counting it, whatever number of objectives ask. Whether a number is good enough
is decided in `verdicts`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from retrospan.record import Record, Row
from retrospan.runs import Run
from retrospan.slo.definitions import LAYER_ROWS, SLI, SLO, Statistic
from retrospan.slo.statistics import most_within, nearest_rank

# A wait that never ended, as `sli/rate_delay.sql` writes it.
REFUSED: Final = 1e308
_HOUR: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Sample:
    """The events of one objective: good among the known ones, and the unknown.

    `value` is the statistic, unrounded: a fraction of 1, milliseconds or a count; None without events, infinite when a
    percentile falls on a refusal. `bad_events` is their number over the whole run. `apart` counts what the indicator
    shows beside.
    """

    good: int
    total: int
    unknown: int
    value: float | None
    apart: int | None = None


@dataclass(frozen=True, slots=True)
class Offender:
    """One value of one dimension, its bad events among all, and from when to when they came (seconds since 1970)."""

    dimension: str
    value: str
    bad: int
    total: int
    first: float
    last: float


class Measure:
    """The numbers of one run, each fetched once. `run` None is a record without any."""

    def __init__(self, record: Record, run: Run | None) -> None:
        """Bind the record to the run."""
        self._record = record
        self._layers = run.layers if run is not None else None
        self._fetched: dict[str, list[Row]] = {}
        record.bind(None if run is None else run.run_id)

    def sample(self, slo: SLO) -> Sample:
        """The events of an objective and its statistic. Raises RecordError when the record cannot be read."""
        return _STATISTICS[slo.statistic](self, slo)

    def applies(self, slo: SLO) -> bool:
        """Whether a run without it would be a fault: only a default objective of a layer that was not entered is not."""
        return not slo.default or self._layers is None or self.seen(slo.sli.layer)

    def seen(self, layer: str | None) -> bool:
        """Whether a layer was entered: the run says so, or there are rows of it."""
        if layer is None:
            return False
        return layer in (self._layers or ()) or any(self._record.exists(select) for select in LAYER_ROWS[layer])

    def blind(self, sli: SLI) -> bool:
        """Whether the tables lack what the indicator is read from."""
        return sli.blind is not None and bool(self._fetch(f"SELECT {sli.blind[0]}")[0][0])

    def offenders(self, slo: SLO, most: int = 3) -> tuple[Offender, ...]:
        """For each dimension of the indicator the values with most bad events, the worst first."""
        sli = slo.sli
        by = ", ".join(sli.dimensions)
        rows = self._wrap(
            sli,
            f"SELECT {by}, COUNT(*), COUNT(CASE WHEN NOT ({slo.good}) THEN 1 END),"
            f" MIN(CASE WHEN NOT ({slo.good}) THEN timestamp END), MAX(CASE WHEN NOT ({slo.good}) THEN timestamp END)"
            f" FROM e WHERE value IS NOT NULL GROUP BY {by}",
        )
        found: list[Offender] = []
        for place, dimension in enumerate(sli.dimensions):
            groups: dict[str, list[Row]] = {}
            for row in rows:
                if row[place] is not None:
                    groups.setdefault(str(row[place]), []).append(row[-4:])
            merged = (_merged(dimension, value, parts) for value, parts in groups.items())
            worst = sorted((one for one in merged if one.bad), key=lambda one: (-one.bad, one.total, one.value))
            found += worst[:most]
        return tuple(found)

    def share(self, slo: SLO) -> Sample:
        """Good among known; the value is the share that the threshold speaks of."""
        sample = self.count(slo)
        if not sample.total:
            return sample
        counted = sample.good if slo.op == "gte" else sample.total - sample.good
        return Sample(sample.good, sample.total, sample.unknown, counted / sample.total, sample.apart)

    def count(self, slo: SLO) -> Sample:
        """The number of bad events."""
        apart = slo.sli.apart[1] if slo.sli.apart else "NULL"
        ((events, known, good, beside),) = self._wrap(
            slo.sli,
            f"SELECT COUNT(*), COUNT(value), COUNT(CASE WHEN {slo.good} THEN 1 END), COUNT(CASE WHEN {apart} THEN 1 END)"
            " FROM e",
        )
        value = known - good if known else None
        return Sample(good, known, events - known, value, beside if slo.sli.apart else None)

    def worst_hour(self, slo: SLO) -> Sample:
        """The most bad events in any 60 minutes."""
        rows = self._wrap(slo.sli, "SELECT timestamp, value FROM e ORDER BY timestamp")
        known = [(moment, value) for moment, value in rows if value is not None]
        bad = [moment for moment, value in known if value >= 1]
        value = most_within(bad, _HOUR) if known or (slo.sli.seen_is_zero and self.seen(slo.sli.layer)) else None
        return Sample(len(known) - len(bad), len(known), len(rows) - len(known), value)

    def percentile(self, slo: SLO) -> Sample:
        """The nearest-rank percentile of the known values."""
        assert slo.quantile is not None, f"{slo.name} has no quantile"
        apart = slo.sli.apart[1] if slo.sli.apart else "NULL"
        rows = self._wrap(
            slo.sli,
            f"SELECT value, COUNT(*), COUNT(CASE WHEN {apart} THEN 1 END) FROM e GROUP BY value ORDER BY value",
        )
        values = [(value, n) for value, n, _ in rows if value is not None]
        known = sum(n for _, n in values)
        threshold = float(slo.threshold)
        value = nearest_rank(values, slo.quantile)
        return Sample(
            sum(n for value, n in values if value <= threshold),
            known,
            sum(n for _, n, _ in rows) - known,
            math.inf if value is not None and value >= REFUSED else value,
            sum(beside for _, _, beside in rows) if slo.sli.apart else None,
        )

    def _wrap(self, sli: SLI, select: str) -> list[Row]:
        return self._fetch(f"WITH e AS (\n{sli.text()}\n) {select}")

    def _fetch(self, sql: str) -> list[Row]:
        if sql not in self._fetched:
            self._fetched[sql] = self._record.rows(sql)
        return self._fetched[sql]


_STATISTICS: Final[dict[Statistic, Callable[[Measure, SLO], Sample]]] = {
    "share": Measure.share,
    "percentile": Measure.percentile,
    "count": Measure.count,
    "worst_hour": Measure.worst_hour,
}


def _merged(dimension: str, value: str, parts: list[Row]) -> Offender:
    bad = [part for part in parts if part[1]]
    return Offender(
        dimension,
        value,
        bad=sum(part[1] for part in parts),
        total=sum(part[0] for part in parts),
        first=min((part[2] for part in bad), default=0.0),
        last=max((part[3] for part in bad), default=0.0),
    )
