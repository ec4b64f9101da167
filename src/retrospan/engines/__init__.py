"""What the SLI texts run on: SQLite over a record, DuckDB over an archive, ClickHouse over a fleet's spans.

    read("telemetry.sqlite", work)      # a record
    read("archive", work)               # a Parquet archive, by DuckDB; an object store's by its URL
    read("clickhouse://reader@host:8123/otel", work)

The same texts, and the same statistics round them, give the same numbers on all of them. An engine says what differs: how a
name is bound to the rows that are judged, and the few wordings that are not portable.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from retrospan import record
from retrospan.record import Row

Result = TypeVar("Result")

CLICKHOUSE: Final = ("clickhouse://", "clickhouses://")


class Engine(Protocol):
    """An open record, archive or server, in one state. Methods raise RecordError when it cannot answer.

    `name` is what messages call it, `tables` maps the name of each table that is there to its columns. One that `sorts` is
    asked for the value of a rank; of another all values are fetched, once for all ranks: faster where they are few.
    """

    name: str
    sorts: bool

    @property
    def tables(self) -> dict[str, tuple[str, ...]]: ...

    def rows(self, sql: str) -> list[Row]:
        """All rows of one SELECT."""

    def columns(self, select: str) -> list[str]:
        """The names of a SELECT's columns."""

    def exists(self, select: str) -> bool:
        """Whether a SELECT has a row."""

    def bind_where(self, condition: Callable[[str], str]) -> None:
        """Let each event table's name mean its rows that meet a condition, until the next `bind_where`."""

    def keep(self, select: str) -> str:
        """The name under which the rows of a SELECT are to be had until the next `bind_where`."""

    def base(self, table: str) -> str:
        """The name by which a table means all of its rows, whatever is bound."""

    def where(self, table: str, run_id: str) -> str:
        """The condition that picks a run's rows of a table."""

    def within(self, first: float | None, last: float | None) -> str:
        """The condition that picks the rows that ended in [first, last), seconds since 1970; None is open."""

    def floor(self, number: str) -> str:
        """An expression of the greatest whole number that is not above another's, which is not negative."""

    def literal(self, value: str | float | None) -> str:
        """A value as an expression that no character in it can leave."""

    def unlisted_runs(self) -> set[str]:
        """Runs of which nothing but rows may tell."""

    def state(self) -> tuple[int, ...]:
        """What differs between two states of a record that may be read on two connections; nothing where that is no use."""


def read(source: str | os.PathLike[str], work: Callable[[Engine], Result]) -> Result:
    """What `work` makes of one consistent state of a record or an archive, or of a server as it goes on.

    Raises RecordError as its opening and `work` do.
    """
    said = os.fspath(source)
    if said.startswith(CLICKHOUSE):
        from retrospan.engines.clickhouse import ClickHouse

        with ClickHouse.open(said) as server:
            return work(server)
    if "://" in said or Path(said).is_dir():
        from retrospan.engines.duckdb import Archive

        with Archive.open(said) as archive:
            return work(archive)
    return record.read(said, work)
