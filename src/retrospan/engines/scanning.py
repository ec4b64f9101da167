"""What the engines share that go over a whole table, on all cores by themselves: DuckDB and ClickHouse."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Self

from retrospan.record import Row
from retrospan_exporters.tables import EVENT_TABLES


class Scanning(ABC):
    """The half of an `Engine` that is the same on both. `_text` is how the octets of a text are written, by their hex."""

    sorts: bool = True
    _text: ClassVar[str]
    _close: Callable[[], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @abstractmethod
    def rows(self, sql: str) -> list[Row]:
        """All rows of one SELECT."""

    @abstractmethod
    def base(self, table: str) -> str:
        """The name by which a table means all of its rows."""

    def exists(self, select: str) -> bool:
        """Whether a SELECT has a row."""
        return bool(self.rows(f"SELECT 1 FROM ({select}) LIMIT 1"))

    def where(self, table: str, run_id: str) -> str:
        """The condition that picks a run's rows."""
        return f"run_id = {self.literal(run_id)}"

    def literal(self, value: str | float | None) -> str:
        """A value as an expression."""
        if value is None:
            return "NULL"
        return self._text.format(value.encode(errors="replace").hex()) if isinstance(value, str) else repr(value)

    def unlisted_runs(self) -> set[str]:
        """The runs of all rows."""
        return {
            run_id
            for table in EVENT_TABLES
            for (run_id,) in self.rows(f"SELECT DISTINCT run_id FROM {self.base(table.name)}")
        }

    def state(self) -> tuple[int, ...]:
        """Nothing: a second connection would be no quicker."""
        return ()
