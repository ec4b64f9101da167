"""What a look at a record finds of a run that may have to be followed; asks for side rows and ends of ranges alone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from retrospan.record import Record, literal
from retrospan.runs import State, find
from retrospan_exporters.tables import RUN_INFO, RUN_RANGES, RUN_SUMMARY

MOST_RUNS: Final = 100


@dataclass(frozen=True, slots=True)
class RunSeen:
    """One run: its state, the rows it dropped, and when its last row was written (s since 1970), where its ranges say."""

    state: State
    dropped: int
    last_at: float | None

    @property
    def is_over(self) -> bool:
        """Whether the record says that no row comes any more."""
        return self.state in ("finished", "killed")


def run_seen(record: Record, run_id: str) -> RunSeen:
    """One run of a record that is bound to nothing. Raises RecordError."""
    state: State = "finished" if _has_row(record, RUN_SUMMARY.name, run_id) else "unknown"
    dropped = 0
    if _has_row(record, RUN_INFO.name, run_id):
        run = find(record, run_id)
        state = "unknown" if run is None else run.state
        if "dropped_rows" in record.tables[RUN_INFO.name]:
            # Not the summary's number, in which what a bound let go counts too.
            ((dropped,),) = record.rows(
                f"SELECT COALESCE(MAX(dropped_rows), 0) FROM main.{RUN_INFO.name} WHERE run_id = {literal(run_id)}"
            )
    return RunSeen(state, dropped, _last_at(record, run_id))


def unfinished(record: Record) -> list[str]:
    """The runs without a summary that started last."""
    if RUN_INFO.name not in record.tables:
        return []
    without = ""
    if RUN_SUMMARY.name in record.tables:
        without = f"WHERE NOT EXISTS (SELECT 1 FROM main.{RUN_SUMMARY.name} AS s WHERE s.run_id = i.run_id)"
    sql = f"SELECT run_id FROM main.{RUN_INFO.name} AS i {without} ORDER BY started_at DESC LIMIT {MOST_RUNS}"
    return [run_id for (run_id,) in record.rows(sql) if isinstance(run_id, str)]


def had_rows(record: Record, run_id: str, before: Mapping[str, int]) -> bool:
    """Whether a run has rows up to these ids."""
    return any(
        record.exists(f"SELECT 1 FROM main.{table} WHERE id <= {last} AND {record.where(table, run_id)}")
        for table, last in before.items()
        if table in record.tables
    )


def newest_at(record: Record, ids: Mapping[str, int]) -> float | None:
    """When the newest row was written, of those with the greatest ids; s since 1970."""
    return _latest(record, ids.items())


def _has_row(record: Record, table: str, run_id: str) -> bool:
    return table in record.tables and record.exists(f"SELECT 1 FROM main.{table} WHERE run_id = {literal(run_id)}")


def _last_at(record: Record, run_id: str) -> float | None:
    if RUN_RANGES.name not in record.tables:
        return None
    ends = record.rows(f"SELECT table_name, last_id FROM main.{RUN_RANGES.name} WHERE run_id = {literal(run_id)}")
    return _latest(record, ends)


def _latest(record: Record, ids: Iterable[tuple[str, int]]) -> float | None:
    found = [
        moment
        for table, last in ids
        if table in record.tables
        for (moment,) in record.rows(f"SELECT ts FROM main.{table} WHERE id = {int(last)}")
        if isinstance(moment, int | float)
    ]
    return max(found, default=None)
