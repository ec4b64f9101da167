"""`retrospan prune`: old rows leave the record, those alone that its archive holds, while writers write.

    pruned = prune(Path("telemetry.sqlite"), place_of("archive"), before=time.time() - 30 * 86400)
    pruned.rows["http_events"]

A row goes when it is older than that and a file of the archive has it: of this very record, by its number, run and time. Of a
run that is complete none goes before its end is as old, so that it is judged whole or not at all; of one that goes on, or was
killed, it is noted how many are gone. They go in short transactions, between which all writers have their turns. The newest row
of each table stays, so that no number is ever used twice. A run that has no row left goes from the side tables, too, when it is
complete and archived as it stands.
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from retrospan.archive import schema, watermark
from retrospan.archive.export import engine, refuse_another
from retrospan.archive.holdings import Holdings
from retrospan.archive.places import Place
from retrospan.archive.source import identity_of, state_of
from retrospan.record import RecordError, Row
from retrospan_exporters.database import Database, Refused, advice
from retrospan_exporters.retention import give_back
from retrospan_exporters.tables import PRUNED_ROWS, RUN_INFO, RUN_RANGES, RUN_SUMMARY, Table

# Ids that one transaction looks at, and the pause after it: writers wait for some tens of milliseconds at most.
_STEP: Final = 10_000
_PAUSE_SECONDS: Final = 0.002
_OLD: Final = f"""
SELECT id, run_id, ts FROM {{table}} WHERE id BETWEEN ? AND ? AND id <> ? AND ts < ?
AND run_id NOT IN (SELECT run_id FROM {RUN_SUMMARY.name} WHERE finished_at >= ?)
"""
_NOTE: Final = (
    f"INSERT INTO {PRUNED_ROWS.name} VALUES (?, ?)"
    " ON CONFLICT (run_id) DO UPDATE SET row_count = row_count + excluded.row_count"
)


@dataclass(slots=True)
class Pruned:
    """What went, or with `dry_run` would go: rows by table, and runs; what was kept since no archive has it.

    `bytes` is what the disk got back.
    """

    rows: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    bytes: int = 0


def prune(
    db: Path, place: Place | None, before: float, *, unarchived_too: bool = False, dry_run: bool = False
) -> Pruned:
    """Delete the rows of the record at `db` that ended `before` (seconds since 1970) and that the archive at `place` holds.

    With `unarchived_too` all of them go, and `place` may be None.

    Raises RecordError when the record cannot be written, the archive not be read, or has nothing of this record.
    """
    pruned = Pruned()
    size = _size(db)
    with ExitStack() as stack:
        holdings = None if place is None or unarchived_too else stack.enter_context(_holdings(db, place))
        if holdings is None and not unarchived_too:
            raise RecordError("nothing says that the rows are archived: name the archive")
        state = state_of(db)
        database = Database(db)
        stack.callback(database.release)
        try:
            for table, last_id in state.last_ids.items():
                for first in _firsts(database, table, last_id):
                    _step(database, table, first, before, holdings, pruned, dry_run)
            if not dry_run:
                _forget_runs(database, holdings, pruned)
                _free(database)
        except (sqlite3.Error, OSError, Refused) as error:
            raise RecordError(f"{db}: cannot be pruned: {advice(error)}") from error
    pruned.bytes = max(0, size - _size(db))
    return pruned


@contextmanager
def _holdings(db: Path, place: Place) -> Iterator[Holdings]:
    """What the archive holds of the record, while nobody exports it."""
    record_id = identity_of(db)
    if record_id is None or not place.has(watermark.name_of(record_id)):
        raise RecordError(f"{place.name}: has nothing of {db}: archive it first by `retrospan parquet`")
    with place.alone(record_id), place.staging(record_id) as folder, engine(folder) as connection:
        place.introduce(connection)
        refuse_another(db, place, watermark.load(place, record_id), state_of(db))
        yield Holdings(place, connection, record_id)


def _firsts(database: Database, table: str, last_id: int) -> Iterator[int]:
    """Where the steps begin: no gap that an earlier prune left is gone through."""
    first: int | None = 0
    while first is not None and first <= last_id:
        with database.transaction() as connection:
            (first,) = connection.execute(f"SELECT MIN(id) FROM {table} WHERE id >= ?", (first,)).fetchone()
        if first is not None:
            yield first
            first += _STEP


def _step(
    database: Database,
    table: str,
    first: int,
    before: float,
    proof: Holdings | None,
    pruned: Pruned,
    dry_run: bool,
) -> None:
    """Delete what may go of one step's ids."""
    last = first + _STEP - 1
    held = None if proof is None else proof.rows(table, first, last)
    with database.transaction() as connection:
        (newest,) = connection.execute(f"SELECT MAX(id) FROM {table}").fetchone()
        old = connection.execute(_OLD.format(table=table), (first, last, newest, before, before)).fetchall()
        going = [row for row in old if held is None or _is_held(held, row)]
        pruned.rows[table] += len(going)
        pruned.kept[table] += len(old) - len(going)
        if dry_run or not going:
            return
        connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(row[0],) for row in going])
        connection.execute(PRUNED_ROWS.ddl())
        for run_id, count in Counter(row[1] for row in going).items():
            _shorten(connection, table, run_id)
            connection.execute(_NOTE, (run_id, count))
    time.sleep(_PAUSE_SECONDS)


def _is_held(held: dict[int, tuple[str, int]], row: Row) -> bool:
    """Whether the archive's row of that number is this one."""
    number, run_id, ts = row
    return isinstance(ts, (int, float)) and held.get(number) == (str(run_id), schema.microseconds(ts))


def _shorten(connection: sqlite3.Connection, table: str, run_id: str) -> None:
    """Have the run's range begin with its first row that is left; without one it has none."""
    where = "run_id = ? AND table_name = ?"
    row = connection.execute(
        f"SELECT first_id, last_id FROM {RUN_RANGES.name} WHERE {where}", (run_id, table)
    ).fetchone()
    if row is None:
        return
    left = connection.execute(
        f"SELECT id FROM {table} WHERE run_id = ? AND id BETWEEN ? AND ? ORDER BY id LIMIT 1", (run_id, *row)
    ).fetchone()
    if left is None:
        connection.execute(f"DELETE FROM {RUN_RANGES.name} WHERE {where}", (run_id, table))
    else:
        connection.execute(f"UPDATE {RUN_RANGES.name} SET first_id = ? WHERE {where}", (left[0], run_id, table))


def _forget_runs(database: Database, proof: Holdings | None, pruned: Pruned) -> None:
    """Take complete runs without a row out of the side tables, but for the latest."""
    sides = (RUN_INFO, RUN_SUMMARY)
    held = None if proof is None else {table: proof.side_rows(table) for table in sides}
    with database.transaction() as connection:
        # With its summary a run is complete; and it is by the ranges that a run has rows.
        empty = connection.execute(
            f"SELECT s.run_id FROM {RUN_SUMMARY.name} AS s LEFT JOIN {RUN_INFO.name} AS i ON i.run_id = s.run_id"
            f" WHERE s.run_id NOT IN (SELECT run_id FROM {RUN_RANGES.name})"
            " ORDER BY COALESCE(i.started_at, s.started_at, 0) DESC, s.run_id DESC"
        ).fetchall()
        latest = connection.execute(f"SELECT run_id FROM {RUN_INFO.name} ORDER BY started_at DESC LIMIT 1").fetchone()
        for (run_id,) in empty:
            of_run = {table: _side_rows(connection, table.name, table.names(), run_id) for table in sides}
            if (latest is not None and run_id == latest[0]) or not _all_held(held, of_run):
                continue
            connection.execute(PRUNED_ROWS.ddl())
            for table in (*sides, PRUNED_ROWS):
                connection.execute(f"DELETE FROM {table.name} WHERE run_id = ?", (run_id,))
            pruned.runs += 1


def _side_rows(connection: sqlite3.Connection, table: str, names: tuple[str, ...], run_id: str) -> list[Row]:
    return connection.execute(f"SELECT {', '.join(names)} FROM {table} WHERE run_id = ?", (run_id,)).fetchall()


def _all_held(held: dict[Table, set[Row]] | None, of_run: dict[Table, list[Row]]) -> bool:
    return held is None or all(
        _as_archived(table, row) in held[table] for table, rows in of_run.items() for row in rows
    )


def _as_archived(table: Table, row: Row) -> Row:
    """A row with its moments in whole microseconds."""
    return tuple(schema.settled(column, value) for column, value in zip(table.columns, row, strict=True))


def _free(database: Database) -> None:
    """Give the free pages back to the disk, a few at a time."""

    def some() -> bool:
        with database.transaction() as connection:
            return give_back(connection)

    while some():
        time.sleep(_PAUSE_SECONDS)
    database.checkpoint()


def _size(db: Path) -> int:
    try:
        return db.stat().st_size
    except OSError:
        return 0
