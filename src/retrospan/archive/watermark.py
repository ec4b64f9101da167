"""How far each record is archived: one small file a record in the archive itself, replaced at once.

    mark = load(place, "9f2c...")
    mark.tables["http_events"].last_id

It also says which range of ids is being written, so that whoever comes after a kill writes the very same range again, under
the very same names: files that are there already are whole, and are left as they are.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from retrospan.archive.places import OWN, Place
from retrospan.record import RecordError

_VERSION: Final = 1


@dataclass(slots=True)
class Reached:
    """How far a table is archived: the greatest id, the number of rows, and a stamp of the row with that id."""

    last_id: int = 0
    rows: int = 0
    stamp: str = ""


@dataclass(slots=True)
class Mark:
    """How far a record is archived; `pending` is the table and the first and last id that are being written."""

    record_id: str
    tables: dict[str, Reached] = field(default_factory=dict)
    pending: tuple[str, int, int] | None = None

    def reached(self, table: str) -> Reached:
        """How far a table is archived."""
        return self.tables.setdefault(table, Reached())


def load(place: Place, record_id: str) -> Mark:
    """The mark of a record; of one that is not there yet, its beginning. Raises RecordError when it cannot be read."""
    content = place.read(name_of(record_id))
    if content is None:
        return Mark(record_id)
    try:
        fields: dict[str, Any] = json.loads(content)
        if fields["version"] != _VERSION:
            raise RecordError(f"{place.name}: was written by a newer Retrospan: upgrade retrospan to go on with it")
        pending = fields["pending"]
        tables = {name: Reached(**reached) for name, reached in fields["tables"].items()}
        return Mark(record_id, tables, None if pending is None else (pending[0], pending[1], pending[2]))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise RecordError(
            f"{place.name}/{name_of(record_id)}: is damaged: bring it back, or use another archive"
        ) from error


def save(place: Place, mark: Mark) -> None:
    """Have the archive say so. Raises RecordError when it cannot."""
    place.write(name_of(mark.record_id), json.dumps({"version": _VERSION, **asdict(mark)}, indent=1).encode())


def name_of(record_id: str) -> str:
    """Where the mark of a record lies in an archive."""
    return f"{OWN}/{record_id}.json"
