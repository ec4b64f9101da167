"""Which runs a record holds, and what became of each.

    for run in runs(record):
        print(run.run_id, run.state)
    latest = find(record, "latest")

A run is known by its row in `run_info`, by its summary, or by nothing but rows that name it. It is finished when it has
a summary; until then its numbers are provisional.
"""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from retrospan.engines import Engine
from retrospan.record import RecordError
from retrospan.text import printable
from retrospan_exporters.tables import EVENT_TABLES, PRUNED_ROWS, RUN_INFO, RUN_RANGES, RUN_SUMMARY, Table

State = Literal["finished", "live", "killed", "unknown"]

LATEST: Final = "latest"
_NAMED: Final = 3
_OF_RUNS: Final = (RUN_INFO, RUN_SUMMARY, PRUNED_ROWS)
# A process younger than its run by more than clocks err has only taken over the number.
_CLOCK_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Times are seconds since 1970; what the record does not say is None.

    `state` is finished (it has a summary), live or killed (its owner runs, or is gone, on this machine), or unknown (no
    owner is named, or on another machine). `layers` is None when the record does not say which were entered. `sampler` names
    one that did not keep every span.
    """

    run_id: str
    state: State
    started_at: float | None = None
    finished_at: float | None = None
    command: str | None = None
    host_name: str | None = None
    owner_process_id: int | None = None
    layers: frozenset[str] | None = None
    dropped_rows: int | None = None
    sampler: str | None = None
    pruned_rows: int | None = None

    @property
    def caveat(self) -> str | None:
        """Why the numbers of the run are not those of all that happened; None when they are."""
        reasons = []
        if self.sampler is not None:
            reasons.append(
                f"holds what the sampler {printable(self.sampler)} let through: counts are too low, and shares and percentiles"
                " those of a sample"
            )
        if self.dropped_rows:
            reasons.append(
                f"had {self.dropped_rows:,} rows dropped for want of room: its numbers may be those of what was left"
            )
        if self.pruned_rows:
            reasons.append(
                f"had {self.pruned_rows:,} rows pruned: its numbers are those of what is left (its archive, if there is one,"
                " has all)"
            )
        return f"run {printable(self.run_id)} {'; it '.join(reasons)}" if reasons else None

    @property
    def provisional(self) -> bool:
        """Whether rows may still come: the run has no summary."""
        return self.state != "finished"


def runs(record: Engine) -> list[Run]:
    """All runs of a record, the latest first."""
    info, summary, pruned = (_side_rows(record, table) for table in _OF_RUNS)
    found = [
        _run(record, run_id, info.get(run_id), summary.get(run_id), pruned.get(run_id))
        for run_id in {*info, *summary, *_side_rows(record, RUN_RANGES), *record.unlisted_runs()}
    ]
    return sorted(found, key=lambda run: (run.started_at or 0.0, run.run_id), reverse=True)


def find(record: Engine, wanted: str) -> Run | None:
    """The run of that id; for "latest" the one that started last, None when the record holds no run.

    Raises RecordError for an id that is not in the record; the message names what is near.
    """
    if wanted == LATEST:
        return next(iter(runs(record)), None)
    of_wanted = f"WHERE run_id = {record.literal(wanted)}"
    info, summary, pruned = (_side_rows(record, table, of_wanted).get(wanted) for table in _OF_RUNS)
    if info or summary:
        return _run(record, wanted, info, summary, pruned)
    # A foreign writer's rows may lie inside the ranges of our own runs, where `runs` does not look.
    for table in _event_tables(record):
        if record.exists(f"SELECT 1 FROM {record.base(table)} WHERE run_id = {record.literal(wanted)}"):
            return _run(record, wanted, None, None, pruned)
    raise RecordError(f"{record.name}: no run {printable(wanted)!r}: {_near(wanted, runs(record))}")


def _near(wanted: str, known: list[Run]) -> str:
    from difflib import get_close_matches

    if not known:
        return "the record holds no run yet"
    ids = [run.run_id for run in known]
    near = get_close_matches(wanted, ids, n=_NAMED)
    if near:
        return f"did you mean {' or '.join(map(printable, near))}?"
    return f"its latest are {', '.join(map(printable, ids[:_NAMED]))}"


def _event_tables(record: Engine) -> list[str]:
    return [table.name for table in EVENT_TABLES if table.name in record.tables]


def _side_rows(record: Engine, table: Table, condition: str = "") -> dict[str, dict[str, Any]]:
    """The rows of a side table, all or those of a condition, by run id; none when the record lacks the table."""
    names = record.tables.get(table.name)
    if not names:
        return {}
    rows = (
        dict(zip(names, row, strict=True))
        for row in record.rows(f"SELECT {', '.join(names)} FROM {record.base(table.name)} {condition}")
    )
    return {row["run_id"]: row for row in rows if isinstance(row["run_id"], str)}


def _run(
    record: Engine,
    run_id: str,
    info: dict[str, Any] | None,
    summary: dict[str, Any] | None,
    pruned: dict[str, Any] | None,
) -> Run:
    known = {**(summary or {}), **(info or {})}
    started_at = known.get("started_at")
    return Run(
        run_id,
        _state(info or {}, finished=summary is not None),
        _first_moment(record, run_id) if started_at is None else started_at,
        known.get("finished_at"),
        known.get("command"),
        known.get("host_name"),
        known.get("owner_process_id"),
        None if info is None else frozenset(filter(None, map(str.strip, (info.get("layers") or "").split(",")))),
        _greater((info or {}).get("dropped_rows"), (summary or {}).get("dropped_rows")),
        known.get("sampler"),
        (pruned or {}).get("row_count"),
    )


def _greater(first: int | None, second: int | None) -> int | None:
    return max((number for number in (first, second) if number is not None), default=None)


def _first_moment(record: Engine, run_id: str) -> float | None:
    moments = (
        record.rows(f"SELECT MIN(ts) FROM {record.base(table)} WHERE {record.where(table, run_id)}")[0][0]
        for table in _event_tables(record)
    )
    return min((moment for moment in moments if moment is not None), default=None)


def _state(info: dict[str, Any], *, finished: bool) -> State:
    if finished:
        return "finished"
    owner = info.get("owner_process_id")
    # On Windows a signal 0 would not ask, but end the process.
    if owner is None or info.get("host_name") != platform.node() or os.name != "posix":
        return "unknown"
    return "live" if _runs_still(owner, info["started_at"]) else "killed"


def _runs_still(process_id: int, started_at: float) -> bool:
    try:
        os.kill(process_id, 0)
    except PermissionError:
        pass
    except (ProcessLookupError, OverflowError):
        return False
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text(errors="replace").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except OSError:
        return True  # no /proc here: the number is all there is to go by
    import time

    born = time.time() - uptime + int(stat[19]) / os.sysconf("SC_CLK_TCK")
    return stat[0] != "Z" and born <= started_at + _CLOCK_SECONDS
