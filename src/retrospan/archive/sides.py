"""Side tables in the archive: a file a record and day, replaced whole when what the record says has changed.

    keep(place, staging, connection, RUN_INFO, record_id, rows)

Rows that the record has no more, because their run was pruned, stay as they were.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from retrospan.archive import schema
from retrospan.archive.places import Place
from retrospan.archive.source import SIDE_TABLES
from retrospan_exporters.tables import RUN_RANGES, Table

Fields = dict[str, Any]
# Where nothing says when a run began.
_NO_DAY: Final = "1970-01-01"


def by_day(sides: dict[str, list[Fields]]) -> Iterator[tuple[Table, str, list[Fields]]]:
    """The rows of each side table by the day on which their run began, by what a record says.

    A range of a run of which it says no more is that of a run that has been pruned: the archive has the whole of it.
    """
    began: dict[str, str] = {}
    for rows in sides.values():
        for row in rows:
            moment = row.get("started_at") or row.get("finished_at")
            if moment is not None and row["run_id"] not in began and 0 <= moment < schema.LAST_MOMENT:
                began[row["run_id"]] = datetime.fromtimestamp(moment, UTC).date().isoformat()
    for table in SIDE_TABLES:
        grouped: dict[str, list[Fields]] = {}
        for row in sides.get(table.name, ()):
            if table is not RUN_RANGES or row["run_id"] in began:
                grouped.setdefault(began.get(row["run_id"], _NO_DAY), []).append(row)
        for day, rows in grouped.items():
            yield table, day, rows


def keep(
    place: Place, folder: Path, connection: Any, table: Table, record_id: str, day: str, rows: Iterable[Fields]
) -> bool:
    """Have the file of that day hold these rows beside those it has of other keys; whether it had to be written."""
    name = f"table={table.name}/date={day}/{record_id}.parquet"
    keys = [column.name for column in table.columns if column.key]
    had = _held(connection, place, table, name) if place.has(name) else {}
    held = dict(had)
    for fields in rows:
        row = {column.name: schema.settled(column, fields[column.name]) for column in table.columns}
        key = tuple(row[name] for name in keys)
        held[key] = _joined(held[key], row) if table is RUN_RANGES and key in held else row
    if held == had:
        return False
    import pyarrow as pa

    columns = [[row[column.name] for row in held.values()] for column in table.columns]
    types = {"text": pa.string(), "integer": pa.int64(), "real": pa.float64()}
    known = pa.table(
        [pa.array(values, types[column.kind]) for column, values in zip(table.columns, columns, strict=True)],
        names=list(table.names()),
    )
    unfinished = folder / "side.part"
    connection.register("side", known)
    connection.execute(
        f"COPY (SELECT {schema.stored(table)} FROM side) TO {schema.quoted(str(unfinished))} (FORMAT parquet)"
    )
    connection.unregister("side")
    place.put(unfinished, name)
    return True


def _held(connection: Any, place: Place, table: Table, name: str) -> dict[tuple[Any, ...], Fields]:
    keys = [column.name for column in table.columns if column.key]
    file = schema.quoted(place.address(name))
    rows = connection.execute(
        f"SELECT {schema.seen(table)} FROM read_parquet({file}, hive_partitioning = false)"
    ).fetchall()
    fields = (dict(zip(table.names(), row, strict=True)) for row in rows)
    return {tuple(row[name] for name in keys): row for row in fields}


def _joined(before: Fields, now: Fields) -> Fields:
    """A range that has been, and is: what was pruned shortens it in the record alone."""
    return {
        **now,
        "first_id": min(before["first_id"], now["first_id"]),
        "last_id": max(before["last_id"], now["last_id"]),
    }
