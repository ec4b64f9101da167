"""What came after a cursor, for the counters: the rows between two ids of each table, and nothing else of the record.

    ids = newest(record)
    found = Reading(record, after=cursor.ids, upto=ids).count(slos)

Events of an objective are counted by the indicator's own text, bound to these rows, where each row is an event by itself. Where
a text makes one event of several rows (an artifact's attempts), `runs` counts them, over the whole run.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from retrospan.record import Record, literal
from retrospan.slo.definitions import DEFAULTS, SLO
from retrospan.slo.events import gather
from retrospan_exporters.tables import EVENT_TABLES

Row = tuple[object, ...]

# So many rows of a table are read in one transaction, which keeps the writers' log from being cut.
MOST_ROWS: Final = 200_000
_CORRUPTION: Final = DEFAULTS["corruption"]
_OPENS: Final = "breaker_transitions WHERE LOWER(new_state) = 'open' AND COALESCE(LOWER(old_state), '') <> 'open'"
_SAVED: Final = """
SELECT COALESCE(SUM(content_length), 0) FROM downloads WHERE dedupe_action IN ('hardlink', 'copy', 'skipped')
"""


@dataclass(slots=True)
class Counts:
    """Numbers of rows, by what they are labelled with, not yet bounded."""

    requests: Counter[Row] = field(default_factory=Counter)
    attempts: Counter[Row] = field(default_factory=Counter)
    opens: Counter[Row] = field(default_factory=Counter)
    saved_bytes: int = 0
    corruptions: int = 0
    events: dict[str, tuple[float, float]] = field(default_factory=dict)
    runs: frozenset[str] = frozenset()


def by_rows(slo: SLO) -> bool:
    """Whether each row is an event of the objective's indicator by itself."""
    return not slo.sli.queries and slo.slices is None and "GROUP BY" not in slo.sli.text()


def newest(record: Record) -> dict[str, int]:
    """The greatest id of each event table that is there; 0 of an empty one."""
    present = [table.name for table in EVENT_TABLES if table.name in record.tables]
    return {name: record.rows(f"SELECT COALESCE(MAX(id), 0) FROM main.{name}")[0][0] for name in present}


def step(after: Mapping[str, int], upto: Mapping[str, int]) -> dict[str, int]:
    """How far to read at once: to `upto`, or so many rows of each table. An id that went backwards is followed."""
    return {table: min(last, after.get(table, 0) + MOST_ROWS) for table, last in upto.items()}


def count(
    record: Record, after: Mapping[str, int], upto: Mapping[str, int], slos: Iterable[SLO], run_id: str | None
) -> Counts:
    """The rows with ids in (after, upto], of one run or of all. The record is bound to them. Raises RecordError."""
    of_run = "" if run_id is None else f" AND run_id = {literal(run_id)}"
    record.bind_where(lambda table: f"id > {after.get(table, 0)} AND id <= {upto.get(table, 0)}{of_run}")
    found = Counts(
        _counted(record, "host, status / 100", "http_events"),
        _counted(record, "tier, source, outcome", "fallback_attempts"),
        _opens(record),
        record.rows(_SAVED)[0][0],
    )
    found.events = {slo.name: _events(record, slo) for slo in slos if by_rows(slo)}
    found.corruptions = int(_events(record, _CORRUPTION)[1])
    ids = " UNION ".join(f"SELECT run_id FROM {table.name}" for table in EVENT_TABLES)
    found.runs = frozenset(run_id for (run_id,) in record.rows(ids) if isinstance(run_id, str))
    return found


def _opens(record: Record) -> Counter[Row]:
    """Openings by host, with a 0 for each whose breaker was seen: then even the first opening of all is an increase."""
    seen = record.rows("SELECT DISTINCT host FROM http_events WHERE breaker_state IS NOT NULL")
    return Counter({**dict.fromkeys(seen, 0), **_counted(record, "host", _OPENS)})


def _counted(record: Record, labels: str, source: str) -> Counter[Row]:
    numbers = ", ".join(str(place) for place in range(1, labels.count(",") + 2))
    rows = record.rows(f"SELECT {labels}, COUNT(*) FROM {source} GROUP BY {numbers}")
    return Counter({row[:-1]: row[-1] for row in rows})


def _events(record: Record, slo: SLO) -> tuple[float, float]:
    events = gather(record, slo.sli, {})
    ((known, good),) = events.rows(f"COUNT(value), COUNT(CASE WHEN {slo.good} THEN 1 END)")
    return good, known - good
