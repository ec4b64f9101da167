"""`retrospan merge`: one record of several, of the shards of a CI run or of the machines of a fleet.

    merged = merge(Path("all.sqlite"), [Path("a.sqlite"), Path("b.sqlite")], print)

Rows keep everything but their numbers. Runs stay apart: where two records have a run of the same id, the later one's goes on
as ID.2. Records of older versions and of other tools are taken as every command reads them: what they lack is NULL.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from retrospan.building import building, fill_ranges
from retrospan.record import Record, RecordError, Row, read
from retrospan.text import printable
from retrospan_exporters.tables import EVENT_TABLES, RUN_INFO, RUN_SUMMARY, Table

_TABLES: Final = (*EVENT_TABLES, RUN_INFO, RUN_SUMMARY)


@dataclass(slots=True)
class Merged:
    """What came of it: rows by table, the ids of all runs, and the rows that belong to no run and were left out."""

    rows: Counter[str] = field(default_factory=Counter)
    runs: set[str] = field(default_factory=set)
    left_out: int = 0


def merge(place: Path, sources: Iterable[Path], tell: Callable[[str], None]) -> Merged:
    """Make a new record at `place` of these; runs that had to be renamed are told.

    Raises RecordError when one cannot be read or is named twice, or the new one cannot be made. Then nothing is made.
    """
    merged = Merged()
    distinct: set[Path] = set()
    with building(place) as connection:
        for source in sources:
            if source.resolve() in distinct:
                raise RecordError(f"{source}: is named twice: its runs would be, too")
            distinct.add(source.resolve())
            _add(connection, source, merged, tell)
        fill_ranges(connection)
    return merged


def _add(connection: sqlite3.Connection, source: Path, merged: Merged, tell: Callable[[str], None]) -> None:
    connection.execute("SAVEPOINT source")

    def copy(record: Record) -> tuple[dict[str, str], Counter[str], int]:
        connection.execute("ROLLBACK TO source")  # what was copied of a state that did not last
        names = _names(_run_ids(record), merged.runs)
        counts: Counter[str] = Counter()
        for table in _TABLES:
            if table.name in record.tables:
                counts[table.name] = _copy(record, connection, table, names)
        held = sum(record.rows(f"SELECT COUNT(*) FROM main.{name}")[0][0] for name in counts)
        return names, counts, held - counts.total()

    names, counts, left_out = read(source, copy)
    connection.execute("RELEASE source")
    merged.rows += counts
    merged.runs |= set(names.values())
    merged.left_out += left_out
    for old, new in names.items():
        if new != old:
            tell(f"{source}: a run {printable(old)} is there already: this one is {printable(new)}")


def _run_ids(record: Record) -> list[str]:
    found = {
        run_id
        for table in _TABLES
        if table.name in record.tables
        for (run_id,) in record.rows(f"SELECT DISTINCT run_id FROM main.{table.name}")
        if isinstance(run_id, str)
    }
    return sorted(found)


def _names(run_ids: list[str], taken: set[str]) -> dict[str, str]:
    """What each run is called from now on: as before, or with the least number that no run of either bears."""
    names: dict[str, str] = {}
    unfree = taken | set(run_ids)
    for run_id in run_ids:
        name, number = run_id, 1
        while name in (taken if name == run_id else unfree):
            number += 1
            name = f"{run_id}.{number}"
        unfree.add(name)
        names[run_id] = name
    return names


def _copy(record: Record, connection: sqlite3.Connection, table: Table, names: dict[str, str]) -> int:
    """Copy the rows of a table; how many could be. What belongs to no run, or has no time, is no row of ours."""
    present = [column.name for column in table.inserted() if column.name in record.tables[table.name]]
    order = " ORDER BY id" if table in EVENT_TABLES else ""
    try:
        rows = record.connection.execute(f"SELECT {', '.join(present)} FROM main.{table.name}{order}")
        return connection.executemany(
            f"INSERT OR IGNORE INTO {table.name} ({', '.join(present)}) VALUES ({', '.join('?' * len(present))})",
            _renamed(rows, names),
        ).rowcount
    except sqlite3.Error as error:
        raise RecordError(f"{record.name}: cannot be copied: {error}") from error


def _renamed(rows: Iterator[Row], names: dict[str, str]) -> Iterator[Row]:
    """Rows under the new names of their runs; `run_id` is the first column of every table."""
    renamed = {old: new for old, new in names.items() if new != old}
    return ((renamed.get(row[0], row[0]), *row[1:]) for row in rows) if renamed else rows
