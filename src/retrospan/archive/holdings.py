"""What an archive holds of one record, looked up in its files: the proof without which nothing is pruned.

holdings = Holdings(place, connection, "9f2c...")
holdings.rows("http_events", 1, 10_000)           # {1: ("01K9Z3NDEKTS", 1760000000500000), ...}
"""

from collections import defaultdict
from typing import Any

from retrospan.archive import schema
from retrospan.archive.places import Place
from retrospan_exporters.tables import EVENT_TABLES, Table

# Which row it is, by more than its number: its run, and its time in microseconds.
Proof = tuple[str, int]


class Holdings:
    """The files of one record in an archive, as they are there at this moment."""

    def __init__(self, place: Place, connection: Any, record_id: str) -> None:
        """List them. Raises RecordError when the place cannot be read."""
        self._place = place
        self._connection = connection
        self._record_id = record_id
        self._files: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
        for table in EVENT_TABLES:
            for name in place.names(f"table={table.name}"):
                *_, record, ids, _ = name.rpartition("/")[2].rsplit(".", 3)
                if record == record_id:
                    first, _, last = ids.partition("-")
                    self._files[table.name].append((int(first), int(last), name))

    def rows(self, table: str, first: int, last: int) -> dict[int, Proof]:
        """The rows that the files hold of these ids."""
        names = [name for low, high, name in self._files[table] if low <= last and high >= first]
        if not names:
            return {}
        rows = self._connection.execute(
            "SELECT id, run_id, epoch_us(ts) FROM read_parquet(?, hive_partitioning = false)"
            f" WHERE id BETWEEN {first} AND {last}",
            [[self._place.address(name) for name in names]],
        ).fetchall()
        return {number: (run_id, moment) for number, run_id, moment in rows}

    def side_rows(self, table: Table) -> set[tuple[Any, ...]]:
        """The rows that the files hold of a side table, as SQLite has them."""
        ending = f"/{self._record_id}.parquet"
        names = [name for name in self._place.names(f"table={table.name}") if name.endswith(ending)]
        if not names:
            return set()
        addresses = [self._place.address(name) for name in names]
        sql = f"SELECT {schema.seen(table)} FROM read_parquet(?, hive_partitioning = false)"
        return set(self._connection.execute(sql, [addresses]).fetchall())
