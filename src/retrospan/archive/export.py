"""`retrospan parquet`: what a record has and its archive has not, as ZSTD Parquet.

    exported = export(Path("telemetry.sqlite"), place_of("archive"))
    exported.rows["http_events"]

Rows go in ranges of ids, one after the other: a range is read from SQLite as Arrow batches into a table of DuckDB's, which
writes a file a day, run and process; the files take their places, and the mark moves on. While one is written the next is read,
so memory is bounded whatever there is to do. An export that is killed leaves whole files at most, which the next one completes.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from retrospan.archive import schema, sides, watermark
from retrospan.archive.ahead import ahead
from retrospan.archive.places import Place
from retrospan.archive.source import Source, State, identify, identity_of, reading, state_of
from retrospan.archive.watermark import Mark
from retrospan.record import RecordError
from retrospan_exporters.tables import EVENT_TABLES, Table

# Ids in a range.
_RANGE: Final = 125_000
_MEMORY: Final = "200MB"
_BATCHES_AHEAD: Final = 3
_LONGEST_NAME: Final = 100

_DAY: Final = f"strftime(make_timestamp({schema.MICROSECONDS.format('ts')}), '%Y-%m-%d')"

Advance = Callable[[int], object]


@dataclass(slots=True)
class Exported:
    """What an export did, or with `dry_run` would do: rows by table, files, their bytes, and rows that are none of ours."""

    record_id: str | None
    rows: Counter[str] = field(default_factory=Counter)
    files: int = 0
    bytes: int = 0
    left_out: int = 0


def export(
    db: Path, place: Place, *, dry_run: bool = False, begin: Callable[[int], Advance] = lambda _: lambda _: None
) -> Exported:
    """Bring what is new of the record at `db` into the archive.

    `begin` is told how many ids there are to go through, and gives what is told of each range that is done. Raises
    RecordError when the record cannot be read, the archive not be written, or it has rows of this record that the record
    itself has not, since it was copied or restored.
    """
    record_id = identity_of(db) if dry_run else identify(db)
    state = state_of(db)
    if dry_run:
        return _foretold(db, place, record_id, state)
    assert record_id is not None
    exported = Exported(record_id)
    with place.alone(record_id), place.staging(record_id) as folder, engine(folder) as connection:
        place.introduce(connection)
        mark = watermark.load(place, record_id)
        refuse_another(db, place, mark, state)
        advance = begin(sum(last - mark.reached(name).last_id for name, last in state.last_ids.items()))
        work = _Work(db, place, folder, connection, state)
        # One at a time is written: what a killed export was at is done before anything else is begun.
        with closing(ahead(_chunks(work, _ranges(mark, state)), 1)) as chunks:
            for chunk in chunks:
                mark.pending = chunk.table.name, chunk.first, chunk.last
                watermark.save(place, mark)
                _write(work, chunk, mark, exported)
                advance(chunk.last - chunk.first + 1)
        for table, day, rows in sides.by_day(state.sides):
            exported.files += sides.keep(place, folder, connection, table, record_id, day, rows)
    return exported


@dataclass(frozen=True, slots=True)
class _Work:
    db: Path
    place: Place
    folder: Path
    connection: Any
    state: State


@dataclass(frozen=True, slots=True)
class _Chunk:
    """The rows of a range of ids, read into the table `name`; how many were none of ours, and the stamp of the last one."""

    table: Table
    first: int
    last: int
    name: str
    left_out: int
    stamp: str


@contextmanager
def engine(folder: Path) -> Iterator[Any]:
    """A DuckDB in memory, of bounded memory: what does not fit goes to the folder. Raises RecordError for what it refuses."""
    try:
        import duckdb
    except ImportError as error:
        raise RecordError("archives need an extra: pip install 'retrospan[parquet]'") from error
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"SET memory_limit = '{_MEMORY}'")
            connection.execute(f"SET temp_directory = {schema.quoted(str(folder / 'spilled'))}")
            connection.execute("SET enable_progress_bar = false")
            connection.execute("SET TimeZone = 'UTC'")
            # What DuckDB knows of a range would make a column optional in one file and required in the next.
            connection.execute("SET disabled_optimizers = 'statistics_propagation'")
            yield connection
    except duckdb.Error as error:
        raise RecordError(f"the archive cannot be written or read: {str(error).splitlines()[0]}") from error


def refuse_another(db: Path, place: Place, mark: Mark, state: State) -> None:
    """Raise RecordError when the archive has rows of this record that the record itself never had: it is a copy that went its
    own way, or was restored, and its ids mean other rows."""
    ends = [(table, mark.reached(table)) for table in state.last_ids if mark.reached(table).last_id]
    if not ends:
        return
    stamps = reading(db, lambda source: [source.one(_stamp(name, f"id = {reached.last_id}")) for name, reached in ends])
    for (table, reached), stamp in zip(ends, stamps, strict=True):
        if state.last_ids[table] < reached.last_id or (stamp is not None and stamp[0] != reached.stamp):
            raise RecordError(
                f"{db}: {place.name} has rows of this record that it has not: it was copied or restored, and went on by"
                " itself. Make it a record of its own by `retrospan merge NEW.sqlite`, or name another archive"
            )


def _stamp(table: str, condition: str) -> str:
    return (
        f"SELECT id || ' ' || quote(run_id) || ' ' || quote(ts) AS stamp FROM {table} WHERE {condition}"
        " ORDER BY id DESC LIMIT 1"
    )


def _ranges(mark: Mark, state: State) -> list[tuple[Table, int, int]]:
    """The ranges of ids that the archive has not; first the one that was being written when an export was killed."""
    ranges = [(table, *mark.pending[1:]) for table in EVENT_TABLES if mark.pending and mark.pending[0] == table.name]
    for table in EVENT_TABLES:
        last_id = state.last_ids.get(table.name, 0)
        reached = max((last for of, _, last in ranges if of is table), default=mark.reached(table.name).last_id)
        ranges += [
            (table, first, min(first + _RANGE - 1, last_id)) for first in range(reached + 1, last_id + 1, _RANGE)
        ]
    return ranges


def _chunks(work: _Work, ranges: Iterable[tuple[Table, int, int]]) -> Iterator[_Chunk]:
    """The rows of each range, in a table of DuckDB's that whoever writes them drops."""
    connection = work.connection.cursor()
    for number, (table, first, last) in enumerate(ranges):
        name = f"chunk_{number}"
        yield _Chunk(table, first, last, name, *_load(work, connection, name, table, f"id BETWEEN {first} AND {last}"))


def _write(work: _Work, chunk: _Chunk, mark: Mark, exported: Exported) -> None:
    """Write one range, and move the mark."""
    connection, table = work.connection, chunk.table
    groups = connection.execute(
        f"SELECT day, run_id, process_id, COUNT(*), MIN(id), MAX(id) FROM {chunk.name} GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    rows = sum(group[3] for group in groups)
    for day, run_id, process_id, _, least, greatest in groups:
        file = f"{_named(run_id, process_id)}.{mark.record_id}.{chunk.first}-{chunk.last}.parquet"
        name = f"table={table.name}/date={day}/{file}"
        if work.place.has(name):
            continue
        unfinished = work.folder / "rows.part"
        connection.execute(
            # They lie in the order of their ids, so that the bounds spare looking at all of them for each small run.
            f"COPY (SELECT * EXCLUDE (day) FROM {chunk.name} WHERE id BETWEEN {least} AND {greatest} AND day = ? AND run_id = ?"
            f" AND process_id IS NOT DISTINCT FROM ?) TO {schema.quoted(str(unfinished))}"
            " (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2)",
            [day, run_id, process_id],
        )
        exported.files += 1
        exported.bytes += unfinished.stat().st_size
        work.place.put(unfinished, name)
    connection.execute(f"DROP TABLE {chunk.name}")
    reached = mark.reached(table.name)
    reached.last_id, reached.rows, reached.stamp = chunk.last, reached.rows + rows, chunk.stamp
    mark.pending = None
    watermark.save(work.place, mark)
    exported.rows[table.name] += rows
    exported.left_out += chunk.left_out


def _load(work: _Work, connection: Any, name: str, table: Table, condition: str) -> tuple[int, str]:
    """Have a table of DuckDB's hold the rows of a range; how many were none of ours, and the stamp of the last one."""
    import pyarrow as pa

    def load(source: Source) -> tuple[int, str]:
        batches = ahead(source.batches(table, work.state.columns.get(table.name, ()), condition), _BATCHES_AHEAD)
        first = next(batches)
        rows = pa.RecordBatchReader.from_batches(first.schema, chain((first,), batches))
        connection.register("rows", rows)
        try:
            connection.execute(
                f"CREATE OR REPLACE TABLE {name} AS SELECT {schema.stored(table)}, {_DAY} AS day FROM rows"
            )
        finally:
            connection.unregister("rows")
            batches.close()
        left_out = source.one(schema.unsound(table, condition))
        stamp = source.one(_stamp(table.name, condition))
        return (left_out or (0,))[0], (stamp or ("",))[0]

    return reading(work.db, load)


def _named(run_id: str, process_id: int | None) -> str:
    """Run and process as a part of a file's name, whatever the run's id holds."""
    name = quote(run_id, safe="-_~")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}~{hashlib.sha256(run_id.encode()).hexdigest()[:16]}"
    return f"{name}.{'none' if process_id is None else process_id}"


def _foretold(db: Path, place: Place, record_id: str | None, state: State) -> Exported:
    exported = Exported(record_id)
    mark = Mark("") if record_id is None else watermark.load(place, record_id)
    refuse_another(db, place, mark, state)

    def count(source: Source) -> None:
        exported.rows.clear()
        exported.left_out = 0
        for table in EVENT_TABLES:
            if table.name in state.last_ids:
                condition = f"id > {mark.reached(table.name).last_id}"
                (rows,) = source.one(f"SELECT COUNT(*) FROM {table.name} WHERE {condition}") or (0,)
                (unsound,) = source.one(schema.unsound(table, condition)) or (0,)
                exported.rows[table.name] = rows - unsound
                exported.left_out += unsound

    reading(db, count)
    return exported
