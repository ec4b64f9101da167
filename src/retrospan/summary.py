"""The row of `run_summary`: what a run's tables come to, by the same texts as the gate's.

    summarize("telemetry.sqlite", "01K9Z3NDEKTS")     # True: the row was not there yet

Called when a run ends, and by `retrospan summarize` for a run that was killed. The numbers are those of the default
objectives' statistics, whatever thresholds a program sets; what cannot be said is NULL, never 0.
"""

import math
import os
import sqlite3
from contextlib import closing
from typing import Final

from retrospan.engines import Engine
from retrospan.record import Record, RecordError, read
from retrospan.runs import Run, find
from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.measure import Measure, Sample
from retrospan.slo.verdicts import missing
from retrospan.slo.windows import Scope
from retrospan_exporters import held
from retrospan_exporters.tables import EVENT_TABLES, RUN_SUMMARY

Columns = dict[str, str | int | float | None]

_BUSY_SECONDS: Final = 4.0
_DEDUPE: Final = """
SELECT COALESCE(SUM(content_length), 0) / 1048576e0 FROM downloads WHERE dedupe_action IN ('hardlink', 'copy', 'skipped')
"""


def summary_columns(record: Engine, measure: Measure, run: Run) -> Columns:
    """Every column of `run_summary` for the run that `measure` bound, in the table's order.

    Raises RecordError when the record cannot be read.
    """
    samples = {name: measure.sample(slo) for name, slo in DEFAULTS.items()}
    values = {
        name: None if missing(slo, samples[name]) or measure.blind(slo.sli) else _finite(samples[name].value)
        for name, slo in DEFAULTS.items()
    }
    artifacts, gets, openings = samples["yield"], samples["cache_hit"], samples["breaker_opens"]
    columns: Columns = {
        "run_id": run.run_id,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "artifacts_total": int(artifacts.total),
        "artifacts_success": int(artifacts.good),
        "yield_pct": None if values["yield"] is None else _percent(artifacts),
        "ttfp_p50_ms": values["ttfp_p50"],
        "ttfp_p95_ms": values["ttfp_p95"],
        "cache_hit_pct": None if values["cache_hit"] is None else _percent(gets),
        "rate_delay_p95_ms": values["rate_delay_p95"],
        "http_429_ratio": values["http_429"],
        "breaker_open_events": None if openings.value is None else int(openings.total - openings.good),
        "dedupe_saved_mb": record.rows(_DEDUPE)[0][0],
        "corruption_count": values["corruption"],
        "dropped_rows": run.dropped_rows,
    }
    return {name: columns[name] for name in RUN_SUMMARY.names()}


def summarize(
    record: sqlite3.Connection | str | os.PathLike[str],
    run_id: str,
    dropped_rows: int | None = None,
    finished_at: float | None = None,
) -> bool:
    """Insert a run's summary, once; whether it was inserted now.

    `record` is a path or a connection that may write, in no transaction. `dropped_rows` is what the run's processes have
    noted unless given; `finished_at`, in seconds since 1970, the time of the run's last row. Raises RecordError when the
    record cannot be read or written, or the run is not in it.
    """
    if isinstance(record, sqlite3.Connection):
        reading = Record(record, "the record")
        try:
            columns = _summary(reading, run_id)
        finally:
            reading.release()
        return _insert(record, columns, dropped_rows, finished_at)
    columns = read(record, lambda reading: _summary(reading, run_id))
    hold = held.Hold(record)
    try:
        with closing(sqlite3.connect(record, timeout=_BUSY_SECONDS, isolation_level=None)) as connection:
            return _insert(connection, columns, dropped_rows, finished_at)
    except sqlite3.Error as error:
        raise RecordError(f"{os.fspath(record)}: the summary cannot be written: {error}") from error
    finally:
        hold.let_go()


def _summary(record: Record, run_id: str) -> Columns:
    run = find(record, run_id)
    if run is None:
        raise RecordError(f"{record.name}: the record holds no run yet")
    columns = summary_columns(record, Measure(record, Scope.of(run)), run)
    if columns["finished_at"] is None:
        moments = (record.rows(f"SELECT MAX(ts) FROM {table.name}")[0][0] for table in EVENT_TABLES)
        columns["finished_at"] = max((moment for moment in moments if moment is not None), default=run.started_at)
    return columns


def _insert(
    connection: sqlite3.Connection, columns: Columns, dropped_rows: int | None, finished_at: float | None
) -> bool:
    """One INSERT of the columns that the table has: an older one lacks the last."""
    columns = dict(columns)
    if dropped_rows is not None:
        columns["dropped_rows"] = dropped_rows
    if finished_at is not None:
        columns["finished_at"] = finished_at
    connection.execute(RUN_SUMMARY.ddl())
    present = [
        name for (name,) in connection.execute(f"SELECT name FROM pragma_table_info('{RUN_SUMMARY.name}', 'main')")
    ]
    names = [name for name in columns if name in present]
    # Not by a conflict alone: the original's table has no key on run_id.
    inserted = connection.execute(
        f"INSERT OR IGNORE INTO {RUN_SUMMARY.name} ({', '.join(names)}) SELECT {', '.join('?' * len(names))}"
        f" WHERE NOT EXISTS (SELECT 1 FROM {RUN_SUMMARY.name} WHERE run_id = ?)",
        [*(columns[name] for name in names), columns["run_id"]],
    )
    return inserted.rowcount > 0


def _finite(value: float | None) -> float | None:
    return None if value is None or math.isinf(value) else value


def _percent(sample: Sample) -> float:
    return float(100 * sample.good / sample.total)
