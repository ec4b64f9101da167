"""What the rows that are judged come to: the statistics, over the events of each indicator.

    measure = Measure(record, Scope.of(run))              # binds the run
    measure.sample(DEFAULTS["http_429"]).value            # 0.013

Each indicator's text is run once, whatever number of objectives ask. Whether a number is good enough is decided in
`verdicts`, who is to blame is found in `blame`.
"""

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from retrospan.engines import Engine
from retrospan.record import RecordError
from retrospan.slo.definitions import LAYER_ROWS, SLI, SLO, Op, Statistic
from retrospan.slo.disk import Disk
from retrospan.slo.events import Events, gather
from retrospan.slo.statistics import Number, effective_events, most_within, nearest_rank
from retrospan.slo.windows import Scope

# A wait that never ended, as `sli/rate_delay.sql` writes it.
REFUSED: Final = 1e308
_HOUR: Final = 3600.0
COMPARE: Final[dict[Op, Callable[[Number, Number], bool]]] = {
    "gte": operator.ge,
    "lte": operator.le,
    "gt": operator.gt,
    "lt": operator.lt,
}
_WEIGHT: Final = "COALESCE(weight, 1)"


@dataclass(frozen=True, slots=True)
class Sample:
    """The events of one objective: good among the known ones, and the unknown. With time slices, slices instead.

    `value` is the statistic, unrounded: a fraction of 1, milliseconds or a number; None without events, infinite when a
    percentile falls on a refusal. `apart` counts what the indicator shows beside. Where events carry weights, `good` and
    `total` are sums of them and `events` is the number of equal events that they are worth; else it is None.
    """

    good: Number
    total: Number
    unknown: int
    value: float | None
    apart: int | None = None
    events: float | None = None


class Measure:
    """The numbers of one scope of a record; every indicator's events are fetched once."""

    def __init__(self, record: Engine, scope: Scope, disk: Disk | None = None) -> None:
        """Bind the record to the scope. The measure is good until the record is bound anew.

        With `disk`, files that are said to be stored are looked at.
        """
        self.record = record
        self.disk = disk
        self.scope = scope
        self._events: dict[SLI, Events | RecordError] = {}
        self._samples: dict[SLO, Sample] = {}
        scope.bind(record)

    def sample(self, slo: SLO) -> Sample:
        """The events of an objective and its statistic. Raises RecordError when they cannot be had."""
        if slo not in self._samples:
            self._samples[slo] = _slices(self, slo) if slo.slices else _STATISTICS[slo.statistic](self, slo)
        return self._samples[slo]

    def events(self, sli: SLI) -> Events:
        """The events of an indicator. Raises RecordError when they cannot be had."""
        if sli not in self._events:
            try:
                self._events[sli] = gather(self.record, sli, self.scope.bounds(), self.disk)
            except RecordError as error:
                self._events[sli] = error
        found = self._events[sli]
        if isinstance(found, RecordError):
            raise found
        return found

    def adopt(self, other: "Measure") -> None:
        """Know what another measure of the same scope has found."""
        self._samples.update(other._samples)

    def applies(self, slo: SLO) -> bool:
        """Whether a run without it would be a fault: only a default objective of a layer that was not entered is not."""
        return not slo.default or self.scope.layers is None or self.seen(slo.sli.layer)

    def seen(self, layer: str | None) -> bool:
        """Whether a layer was entered: the run says so, or there are rows of it."""
        if layer is None:
            return False
        return layer in (self.scope.layers or ()) or any(self.record.exists(select) for select in LAYER_ROWS[layer])

    def blind(self, sli: SLI) -> bool:
        """Whether the tables lack what the indicator is read from."""
        return sli.blind is not None and bool(self.record.rows(f"SELECT {sli.blind[0]}")[0][0])


def _count(measure: Measure, slo: SLO) -> Sample:
    """The number of bad events."""
    events = measure.events(slo.sli)
    apart = slo.sli.apart[1] if slo.sli.apart else "NULL"
    weight, group = (_WEIGHT, "GROUP BY weight") if events.weighted else ("1", "")
    rows = events.counted(
        f"{weight}, COUNT(*), COUNT(value), COUNT(CASE WHEN {slo.good} THEN 1 END), COUNT(CASE WHEN {apart} THEN 1 END)",
        group,
    )
    good = _total((weight, good) for weight, _, _, good, _ in rows)
    known = _total((weight, known) for weight, _, known, _, _ in rows)
    return Sample(
        good,
        known,
        sum(row[1] - row[2] for row in rows),
        _number(known - good) if known else None,
        sum(row[4] for row in rows) if slo.sli.apart else None,
        effective_events((row[0], row[2]) for row in rows) if events.weighted else None,
    )


def _share(measure: Measure, slo: SLO) -> Sample:
    """Good among known; the value is the share that the threshold speaks of."""
    sample = _count(measure, slo)
    return _valued(sample, _ratio(sample.total - sample.good if slo.upper else sample.good, sample.total))


def _worst_hour(measure: Measure, slo: SLO) -> Sample:
    """The most bad events in any 60 minutes."""
    sample = _count(measure, slo)
    moments = measure.events(slo.sli).rows("timestamp", f"WHERE NOT ({slo.good}) ORDER BY timestamp")
    known = sample.total or (slo.sli.seen_is_zero and measure.seen(slo.sli.layer))
    return _valued(sample, most_within((moment for (moment,) in moments), _HOUR) if known else None)


def _percentile(measure: Measure, slo: SLO) -> Sample:
    """The nearest-rank percentile of the known values; of "p_q >= t" the rank counts from above."""
    assert slo.quantile is not None, f"{slo.name} has no quantile"
    events = measure.events(slo.sli)
    if measure.record.sorts and not events.weighted:
        # As many values as an archive has are better sorted where they are than fetched.
        sample = _count(measure, slo)
        place = max(1, math.ceil(slo.quantile * Fraction(sample.total)))
        rows = events.rows(
            "value",
            f"WHERE value IS NOT NULL ORDER BY value{'' if slo.upper else ' DESC'} LIMIT 1 OFFSET {place - 1}",
        )
        value = rows[0][0] if rows else None
        return _valued(sample, math.inf if value is not None and value >= REFUSED else value)
    known, sample = _values(measure, slo)
    value = nearest_rank(known if slo.upper else known[::-1], slo.quantile)
    return _valued(sample, math.inf if value is not None and value >= REFUSED else value)


def _mean(measure: Measure, slo: SLO) -> Sample:
    """The mean of the known values; of ratios, their sum is the number of good events."""
    known, sample = _values(measure, slo)
    total = sum((Fraction(value) * n for value, n in known), Fraction(0))
    if slo.target is None:
        return _valued(sample, _ratio(total, sample.total))
    good = sample.total - total if slo.upper else total
    return Sample(_plain(good), sample.total, sample.unknown, _ratio(total, sample.total), sample.apart, sample.events)


def values(measure: Measure, slo: SLO) -> list[tuple[float, Number]]:
    """The known values in order, each with how often it occurs. Raises RecordError when they cannot be had."""
    return _values(measure, slo)[0]


def _values(measure: Measure, slo: SLO) -> tuple[list[tuple[float, Number]], Sample]:
    """The known values in order with how often each occurs, and the sample without its statistic."""
    events = measure.events(slo.sli)
    apart = slo.sli.apart[1] if slo.sli.apart else "NULL"
    weight, also = (_WEIGHT, ", weight") if events.weighted else ("1", "")
    rows = events.counted(
        f"value, {weight}, COUNT(*), COUNT(CASE WHEN {apart} THEN 1 END)",
        f"GROUP BY value{also} ORDER BY value",
    )
    known = [row for row in rows if row[0] is not None]
    counted = [(row[0], row[2] if row[1] == 1 else Fraction(row[1]) * row[2]) for row in known]
    # A mean of ratios is counted by their sum.
    is_good, threshold = COMPARE[slo.op], float(slo.threshold)
    sample = Sample(
        _total((row[1], row[2]) for row in known if is_good(row[0], threshold)),
        _total((row[1], row[2]) for row in known),
        sum(row[2] for row in rows) - sum(row[2] for row in known),
        None,
        sum(row[3] for row in rows) if slo.sli.apart else None,
        effective_events((row[1], row[2]) for row in known) if events.weighted else None,
    )
    return counted, sample


def _slices(measure: Measure, slo: SLO) -> Sample:
    """Slices of time instead of events: good ones among those with events, or the mean of their shares."""
    assert slo.slices is not None, f"{slo.name} has no time slices"
    shares = slice_shares(measure, slo)
    unknown = measure.events(slo.sli).rows("COUNT(*) - COUNT(value)")[0][0]
    if slo.slices.target is None:
        good: Number = _plain(sum(shares, Fraction(0)))
    else:
        good = sum(share >= slo.slices.target for share in shares)
    # A mean is what the threshold speaks of, the share of what is bad where that is a most; a share of slices is of good.
    counted = len(shares) - good if slo.slices.target is None and slo.statistic == "share" and slo.upper else good
    return Sample(good, len(shares), unknown, _ratio(counted, len(shares)))


def slice_shares(measure: Measure, slo: SLO) -> list[Fraction]:
    """The share of good events in each slice of time that has events, in order."""
    assert slo.slices is not None, f"{slo.name} has no time slices"
    events = measure.events(slo.sli)
    weight, also = (_WEIGHT, ", weight") if events.weighted else ("1", "")
    rows = events.rows(
        f"{measure.record.floor(f'timestamp / {slo.slices.seconds}')} AS slice, {weight}, COUNT(*),"
        f" COUNT(CASE WHEN {slo.good} THEN 1 END)",
        f"WHERE value IS NOT NULL GROUP BY slice{also} ORDER BY slice",
    )
    sums: dict[int, tuple[Fraction, Fraction]] = {}
    for place, heavy, known, good in rows:
        before = sums.get(place, (Fraction(0), Fraction(0)))
        sums[place] = before[0] + Fraction(heavy) * good, before[1] + Fraction(heavy) * known
    return [good / total for good, total in sums.values() if total]


_STATISTICS: Final[dict[Statistic, Callable[[Measure, SLO], Sample]]] = {
    "share": _share,
    "percentile": _percentile,
    "mean": _mean,
    "count": _count,
    "worst_hour": _worst_hour,
}


def _valued(sample: Sample, value: float | None) -> Sample:
    return Sample(sample.good, sample.total, sample.unknown, value, sample.apart, sample.events)


def _ratio(part: Number, whole: Number) -> float | None:
    return float(Fraction(part) / Fraction(whole)) if whole else None


def _total(weighted: Iterable[tuple[float, int]]) -> Number:
    """The exact sum of weights, each with how often it occurs."""
    return _plain(sum(n if weight == 1 else Fraction(weight) * n for weight, n in weighted))


def _number(exact: Number) -> float:
    return exact if isinstance(exact, int) else float(exact)


def _plain(number: Number) -> Number:
    """A whole number as an int."""
    return int(number) if number == int(number) else number
