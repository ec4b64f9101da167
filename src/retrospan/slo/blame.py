"""Who burned the budget: the values of each dimension with most bad events, the worst minutes, the worst stretch.

    blame(measure, DEFAULTS["http_429"]).offenders[0]     # Offender("host", "api.example.org", bad=90, total=120, ...)

Rows are counted, whatever their weight. That an objective was missed is said in `verdicts`.
"""

import time
from dataclasses import dataclass
from typing import Final

from retrospan.record import Row
from retrospan.slo.definitions import SLO
from retrospan.slo.events import Events
from retrospan.slo.measure import Measure
from retrospan.slo.statistics import shortest_half

MINUTE: Final = "minute"
_MINUTE_SECONDS: Final = 60
# So finely is the stretch looked for among more than a few: parts of the time from the first bad event to the last.
_FEW: Final = 5000
_PARTS: Final = 240


@dataclass(frozen=True, slots=True)
class Offender:
    """One value of one dimension, its bad events among all, from when to when they came (seconds since 1970).

    `share` is its part of all bad events; `traces` are ids of examples, in hex. A `value` of None is what is not known.
    """

    dimension: str
    value: str | None
    bad: int
    total: int
    first: float
    last: float
    share: float = 0.0
    traces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time, from the first to the last bad event in it, and their number."""

    first: float
    last: float
    bad: int


@dataclass(frozen=True, slots=True)
class Blame:
    """All that is known of an objective's bad events.

    `worst` is the shortest stretch that holds at least half of them; `traces` are ids of examples, the worst first.
    """

    bad: int = 0
    offenders: tuple[Offender, ...] = ()
    worst: Stretch | None = None
    traces: tuple[str, ...] = ()


def blame(measure: Measure, slo: SLO, most: int = 3) -> Blame:
    """The `most` worst values of each dimension, minutes last, and when and where to look. Raises RecordError."""
    events = measure.events(slo.sli)
    bad = events.subset(f"value IS NOT NULL AND NOT ({slo.good})")
    ((number, first, last),) = bad.rows("COUNT(*), MIN(timestamp), MAX(timestamp)")
    if not number:
        return Blame()
    worst = [
        (dimension, row)
        for dimension in (*events.dimensions, MINUTE)
        for row in bad.rows(
            f"{_by(events, dimension)} AS slice, COUNT(*) AS n, MIN(timestamp), MAX(timestamp), {_examples(events)}",
            f"GROUP BY slice ORDER BY n DESC, slice NULLS FIRST LIMIT {most}",
        )
        # That nothing is known of some is worth a line; where it is so of all, the dimension says nothing.
        if row[0] is not None or row[1] < number
    ]
    totals = _totals(events, worst)
    offenders = [
        _offender(dimension, row, total, number) for (dimension, row), total in zip(worst, totals, strict=True)
    ]
    return Blame(
        number,
        tuple(sorted(offenders, key=lambda one: _place(events, one))),
        _worst_stretch(bad, number, first, last),
        _worst_traces(bad, "value DESC" if slo.upper else "value"),
    )


def _by(events: Events, dimension: str) -> str:
    return (
        events.record.floor(f"timestamp / {_MINUTE_SECONDS}")
        if dimension == MINUTE
        else '"' + dimension.replace('"', '""') + '"'
    )


def _examples(events: Events) -> str:
    return "MIN(trace_id), MAX(trace_id)" if events.traced else "NULL, NULL"


def _totals(events: Events, worst: list[tuple[str, Row]]) -> Row:
    """How many known events each of the worst has, by one pass over them."""
    counts = ", ".join(
        f"COUNT(CASE WHEN {_by(events, dimension)} {_is(events, row[0])} THEN 1 END)" for dimension, row in worst
    )
    return events.rows(counts, "WHERE value IS NOT NULL")[0] if worst else ()


def _is(events: Events, value: str | float | None) -> str:
    return "IS NULL" if value is None else f"= {events.record.literal(value)}"


def _offender(dimension: str, row: Row, total: int, bad: int) -> Offender:
    value, n, first, last, *traces = row
    if dimension == MINUTE:
        value = time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(value * _MINUTE_SECONDS))
    return Offender(dimension, None if value is None else str(value), n, total, first, last, n / bad, _distinct(traces))


def _place(events: Events, offender: Offender) -> tuple[int, int, int, str]:
    place = (*events.dimensions, MINUTE).index(offender.dimension)
    return place, -offender.bad, offender.total, offender.value or ""


def _worst_stretch(bad: Events, number: int, first: float, last: float) -> Stretch | None:
    part = (last - first) / _PARTS or 1.0
    by = "timestamp" if number <= _FEW else bad.record.floor(f"(timestamp - {first!r}) / {part!r}")
    counts = bad.rows(f"MIN(timestamp), MAX(timestamp), COUNT(*), {by} AS part", "GROUP BY part ORDER BY part")
    found = shortest_half([(row[0], row[1], row[2]) for row in counts])
    return found and Stretch(*found)


def _worst_traces(bad: Events, order: str, most: int = 3) -> tuple[str, ...]:
    if not bad.traced:
        return ()
    rows = bad.rows("trace_id", f"WHERE trace_id IS NOT NULL ORDER BY {order}, timestamp LIMIT {most}")
    return _distinct([trace for (trace,) in rows])


def _distinct(traces: list[bytes | str | None]) -> tuple[str, ...]:
    """Ids in hex, each once; a query of a definition file may give them as text."""
    return tuple(dict.fromkeys(trace_of(trace) for trace in traces if trace))


def trace_of(cell: object) -> str:
    """A cell of a row as text: an id in hex."""
    return cell.hex() if isinstance(cell, bytes) else str(cell)
