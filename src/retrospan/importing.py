"""`retrospan import`: a record again, of the lines that `JSONLSpanExporter` wrote.

    done = import_lines([Path("telemetry.000001.jsonl"), Path("telemetry.jsonl")], Path("telemetry.sqlite"), print)

The rows are those that the exporter of records would have written, in the order of the lines, but for their numbers. Every
process told of the run that it took part in: the one that began first began the run, all their layers are its layers, what
they had to drop is added up, and if that process told of its end the run is summed up as of then.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from retrospan.building import building, fill_ranges, insert
from retrospan.record import RecordError
from retrospan.summary import summarize
from retrospan.text import printable
from retrospan_exporters.lines import BadLine, decode
from retrospan_exporters.run import as_list
from retrospan_exporters.tables import EVENT_TABLES, RUN_INFO, RUN_SUMMARY, SCHEMA_VERSION, Table

Line = tuple[Table, dict[str, Any]]
_BATCH: Final = 10_000
_MOST_TOLD: Final = 20
_NO_ROW: Final = {table.name: dict.fromkeys(column.name for column in table.inserted()) for table in EVENT_TABLES}


@dataclass(slots=True)
class Imported:
    """What came of it: rows by table, the runs' ids, and how many lines were left out."""

    rows: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)
    bad: int = 0


def import_lines(
    files: Iterable[Path], place: Path, tell: Callable[[str], None], *, skip_bad: bool = False
) -> Imported:
    """Make a new record at `place` of the lines of these files; lines that are no row are told as "FILE:LINE: why".

    Raises RecordError when a file cannot be read, or was written by a newer version, when the record cannot be made, or,
    unless `skip_bad`, when a line is no row. Then nothing is made.
    """
    done, runs = Imported(), _Runs()
    with building(place) as connection:
        lines = _lines(_distinct(files), done, tell)
        while batch := list(islice(lines, _BATCH)):
            for table in EVENT_TABLES:
                rows = [_NO_ROW[table.name] | row for of, row in batch if of is table]
                connection.executemany(insert(table), rows)
                done.rows[table.name] += len(rows)
            for table, row in batch:
                runs.take(table, row)
        if done.bad and not skip_bad:
            raise RecordError(
                f"{place}: not made, since {done.bad} of the lines cannot be read: leave them out by --skip-bad-lines"
            )
        fill_ranges(connection)
        done.runs = runs.enter(connection)
    return done


def _distinct(files: Iterable[Path]) -> list[Path]:
    known: dict[Path, Path] = {}
    for file in files:
        if file.resolve() in known:
            raise RecordError(f"{file}: is named twice: its rows would be, too")
        known[file.resolve()] = file
    return list(known.values())


def _lines(files: Iterable[Path], done: Imported, tell: Callable[[str], None]) -> Iterator[Line]:
    """The rows of files, line by line; what is none is told and counted."""
    for file in files:
        try:
            with file.open("rb") as stream:
                for number, line in enumerate(stream, 1):
                    try:
                        if line.strip():
                            yield decode(line)
                    except BadLine as error:
                        done.bad += 1
                        if done.bad <= _MOST_TOLD:
                            tell(f"{file}:{number}: {error}")
        except OSError as error:
            raise RecordError(f"{file}: cannot be read: {error.strerror}") from error


class _Runs:
    """The rows of the side tables, put together of what the processes of each run told."""

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}
        self._info: dict[str, dict[str, Any]] = {}
        self._ends: dict[tuple[str, float | None], float | None] = {}
        self._dropped: dict[str, Counter[tuple[object, ...]]] = {}

    def take(self, table: Table, row: dict[str, Any]) -> None:
        """One line, whatever its table. Raises RecordError when a newer version wrote it."""
        run_id = row["run_id"]
        self._ids.setdefault(run_id)
        if table is RUN_SUMMARY:
            self._ends[run_id, row.get("started_at")] = row.get("finished_at")
        if table is not RUN_INFO:
            return
        if (row.get("schema_version") or 0) > SCHEMA_VERSION:
            raise RecordError(
                f"run {printable(run_id)} was written by a newer Retrospan (schema {row['schema_version']}, this one reads"
                f" up to {SCHEMA_VERSION}): upgrade retrospan to import it"
            )
        known = self._info.get(run_id, row)
        layers = {layer for one in (known, row) for layer in (one.get("layers") or "").split(",")}
        first = row if row["started_at"] < known["started_at"] else known
        sampler = known.get("sampler") or row.get("sampler")
        dropped = self._dropped.setdefault(run_id, Counter())
        dropped |= Counter({(row.get("host_name"), row.get("owner_process_id")): row.get("dropped_rows") or 0})
        told = {"layers": as_list(layers), "sampler": sampler, "dropped_rows": dropped.total()}
        self._info[run_id] = first | told

    def enter(self, connection: sqlite3.Connection) -> list[str]:
        """Write the rows, and the summaries of the runs that ended; the ids of all runs."""
        names = RUN_INFO.names()
        for row in self._info.values():
            connection.execute(insert(RUN_INFO), dict.fromkeys(names) | row)
        for run_id, info in self._info.items():
            if (run_id, info["started_at"]) in self._ends:
                summarize(connection, run_id, finished_at=self._ends[run_id, info["started_at"]])
        return list(self._ids)
