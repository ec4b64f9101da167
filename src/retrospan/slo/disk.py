"""Stored files held against the record: `--verify disk` hashes each again.

    verify = Disk(Path("archive"))                        # where a relative final_path begins
    verify.fault("pdf/ab.pdf", "ab12...")                 # "missing", "differs", "unreadable", or None when it is sound

A file is read once, however many rows claim it; what is no regular file is never read.
"""

import hashlib
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from retrospan.record import Record

FUNCTION: Final = "retrospan_disk_fault"
DIMENSION: Final = "disk"


@dataclass(frozen=True, slots=True)
class Disk:
    """The folder that relative paths begin at, and what was found so far: a digest in hex, or a fault."""

    root: Path
    _found: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    def fault(self, final_path: str, sha256: str) -> str | None:
        """What is wrong with a stored file; None when its bytes have the hash."""
        if final_path not in self._found:
            self._found[final_path] = _digest(self.root / final_path)
        found = self._found[final_path]
        if found in _FAULTS:
            return found
        return None if found == sha256.lower() else "differs"

    def select(self, record: Record, text: str) -> str:
        """The events of the corruption indicator with value 1 for every file that is not sound on disk."""
        record.connection.create_function(FUNCTION, 2, self.fault)
        fault = f"CASE WHEN value = 0 THEN {FUNCTION}(final_path, sha256) END AS {DIMENSION}"
        return (
            f"SELECT timestamp, CASE WHEN {DIMENSION} IS NULL THEN value ELSE 1 END AS value, host, source, {DIMENSION},"
            f" trace_id FROM (SELECT *, {fault} FROM (\n{text}\n))"
        )


_FAULTS: Final = frozenset({"missing", "unreadable"})


def _digest(file: Path) -> str:
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return "unreadable"
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return "missing"
    except (OSError, ValueError):  # a path with a NUL is no path
        return "unreadable"
