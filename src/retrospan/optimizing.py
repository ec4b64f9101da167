"""`retrospan optimize`: an index for looking traces up in a finished record, and away with it again.

    cost = optimize(Path("telemetry.sqlite"))
    cost.bytes, cost.seconds

A record has no index while it is written: an index on random ids halves the writers' pace. One that is finished may have one,
of the first four bytes of each trace id, a third of the size of the whole id's. A query finds it by the condition `OF_TRACE`.
"""

import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from retrospan.record import RecordError, read
from retrospan.runs import runs
from retrospan.text import printable
from retrospan_exporters.database import Database, Refused, advice
from retrospan_exporters.retention import give_back
from retrospan_exporters.tables import EVENT_TABLES

_PREFIX: Final = "substr(trace_id, 1, 4)"
# The condition that picks a trace's rows, by the index if there is one; :trace_id is the id's 16 bytes.
OF_TRACE: Final = f"{_PREFIX} = substr(:trace_id, 1, 4) AND trace_id = :trace_id"
_INDICES: Final = {f"{table.name}_by_trace": table.name for table in EVENT_TABLES}


@dataclass(frozen=True, slots=True)
class Cost:
    """What it took: seconds, and bytes that the record has grown by, less than 0 when it shrank."""

    bytes: int
    seconds: float


def optimize(db: Path, *, drop: bool = False, force: bool = False) -> Cost:
    """Give the record its index, or with `drop` take it away; done already, it costs nothing.

    Raises RecordError when the record cannot be read or written, or, unless `force`, when a run of it is live.
    """
    live = [run.run_id for run in read(db, runs) if run.state == "live"]
    if live and not (force or drop):
        raise RecordError(
            f"{db}: run {printable(live[0])} is still live, and an index would slow it down: wait for its end, or say --force"
        )
    database = Database(db)
    started = time.perf_counter()
    try:
        with database.transaction() as connection:
            before = _used(connection)
            for name, table in _INDICES.items():
                connection.execute(
                    f"DROP INDEX IF EXISTS {name}"
                    if drop
                    else f"CREATE INDEX IF NOT EXISTS {name} ON {table} ({_PREFIX})"
                )
            after = _used(connection)
        if drop:
            _shrink(database)
        database.release()
    except (sqlite3.Error, OSError, Refused) as error:
        raise RecordError(f"{db}: cannot be written: {advice(error)}") from error
    return Cost(after - before, time.perf_counter() - started)


def _shrink(database: Database) -> None:
    goes_on = True
    while goes_on:
        with database.transaction() as connection:
            goes_on = give_back(connection)


def _used(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
