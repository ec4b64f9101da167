"""How far a record has been read, kept beside it over a restart: `telemetry.sqlite.cursor`.

    cursor = of_file(path)          # None: there is none, or it cannot be read
    cursor.keep(path)               # before what was read is shown: then nothing is ever counted twice

A counter begins at 0 in each process: what lies behind the cursor is not counted again, and what came meanwhile is. Without
a cursor counting begins with the rows to come; a record that appears or is replaced later is counted from its first row.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Final

from retrospan_exporters.held import Identity

SUFFIX: Final = ".cursor"
_VERSION: Final = 1

_logger = getLogger("retrospan")


@dataclass(slots=True)
class Told:
    """What the counters have of one run that is under way: the rows it dropped, and by objective its events.

    `events` are the sums of good and of bad ones; None as long as it is not known what of them came before the cursor.
    """

    dropped: int = 0
    events: dict[str, tuple[float, float]] | None = None


@dataclass(slots=True)
class Cursor:
    """The record that was read (its file's identity), the greatest id of each table, and what was told of its runs."""

    identity: Identity
    ids: dict[str, int] = field(default_factory=dict)
    runs: dict[str, Told] = field(default_factory=dict)
    _kept: str = ""

    def keep(self, record: Path) -> None:
        """Write the cursor beside a record, whole or not at all, unless it is there already. Raises OSError."""
        runs = {run_id: asdict(told) for run_id, told in self.runs.items()}
        text = json.dumps({"version": _VERSION, "identity": self.identity, "ids": self.ids, "runs": runs})
        if text == self._kept:
            return
        file = beside(record)
        fresh = file.with_name(f"{file.name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        fresh.replace(file)
        self._kept = text


def beside(record: Path) -> Path:
    """The file in which a record's cursor is."""
    return record.with_name(record.name + SUFFIX)


def of_file(record: Path) -> Cursor | None:
    """The cursor beside a record; None when there is none. One that cannot be read is told, and is none."""
    file = beside(record)
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        if fields["version"] != _VERSION:
            raise ValueError(fields["version"])
        runs = {str(run_id): _told(told) for run_id, told in fields["runs"].items()}
        device, inode = map(int, fields["identity"])
        return Cursor((device, inode), {str(table): int(last) for table, last in fields["ids"].items()}, runs)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _logger.warning("%s is no cursor (%s): counting begins with the rows to come.", file, type(error).__name__)
        return None


def _told(fields: dict[str, object]) -> Told:
    dropped, events = fields["dropped"], fields["events"]
    if not isinstance(dropped, int) or not (events is None or isinstance(events, dict)):
        raise TypeError("not what was told of a run")
    pairs = None if events is None else {str(slo): (float(good), float(bad)) for slo, (good, bad) in events.items()}
    return Told(dropped, pairs)
