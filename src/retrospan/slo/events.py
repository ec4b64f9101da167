"""The events of one indicator: what its text selects, kept where that took more than reading rows.

    events = gather(record, DEFAULTS["http_429"].sli, {})
    events.rows("COUNT(value)", "WHERE value >= 1")

A row an event: timestamp (seconds since 1970), value or NULL, dimensions; perhaps a trace_id, and a weight, how many
events like it the row stands for. What numbers they come to stands in `measure`, who is to blame in `blame`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from retrospan.engines import Engine
from retrospan.record import Record, RecordError, Row
from retrospan.slo.definitions import SLI
from retrospan.slo.disk import DIMENSION, Disk


@dataclass(frozen=True, slots=True)
class Events:
    """What one indicator's events are selected from, a kept table or a text, until the record is bound anew."""

    record: Engine
    source: str
    columns: tuple[str, ...]
    dimensions: tuple[str, ...]
    _fetched: dict[str, list[Row]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def weighted(self) -> bool:
        """Whether rows say how many events they stand for."""
        return "weight" in self.columns

    @property
    def traced(self) -> bool:
        """Whether rows say which trace they belong to."""
        return "trace_id" in self.columns

    def rows(self, columns: str, rest: str = "") -> list[Row]:
        """SELECT these columns of the events, with what follows FROM. Raises RecordError when it cannot be done."""
        return self.record.rows(f"SELECT {columns} FROM {self.source} {rest}")

    def counted(self, columns: str, rest: str = "") -> list[Row]:
        """The same as `rows`, remembered: several objectives, and the summary, ask for the same numbers."""
        asked = f"{columns} {rest}"
        if asked not in self._fetched:
            self._fetched[asked] = self.rows(columns, rest)
        return self._fetched[asked]

    def subset(self, condition: str) -> "Events":
        """The events that meet a condition, kept as a table of their own."""
        table = self.record.keep(f"SELECT * FROM {self.source} WHERE {condition}")
        return Events(self.record, table, self.columns, self.dimensions)


def gather(record: Engine, sli: SLI, bounds: Mapping[str, object], disk: Disk | None = None) -> Events:
    """The events of an indicator in the rows that the record is bound to.

    `bounds` has `run_id`, `date_from` and `date_to`, for the queries of definition files. With `disk`, files that are
    said to be stored are looked at. Raises RecordError when the events cannot be had.
    """
    dimensions = sli.dimensions
    if sli.queries:
        from retrospan.slo import user_sql

        gathered = user_sql.gather(_of_sqlite(record, "queries of definition files"), sli, bounds)
        source, dimensions = record.keep(gathered.text), gathered.dimensions
    elif disk is not None and sli.on_disk:
        source, dimensions = (
            record.keep(disk.select(_of_sqlite(record, "--verify disk"), sli.text())),
            (*dimensions, DIMENSION),
        )
    elif "GROUP BY" in (text := sli.text()):
        source = record.keep(text)
    else:
        # Rows as they stand cost less to read again than to keep.
        source = f"(\n{text}\n)"
    columns = tuple(record.columns(f"SELECT * FROM {source}"))
    return Events(record, source, columns, dimensions)


def _of_sqlite(record: Engine, what: str) -> Record:
    """The same, where it is a record. Raises RecordError for others, which have no authorizer and no functions of ours."""
    if not isinstance(record, Record):
        raise RecordError(
            f"{record.name}: {what} are for SQLite records alone: judge the record, or export what you need of it"
        )
    return record
