"""Settings that the environment gives, and what is said wrongly in them, told in a line.

most_bytes("RETROSPAN_MAX_BYTES")       # 100000000, or None: no bound
"""

import os
from logging import getLogger
from typing import Final

DB: Final = "RETROSPAN_DB"
DEFAULT_DB: Final = "telemetry.sqlite"

_logger = getLogger("retrospan")
_told: set[str] = set()


def record_path() -> str:
    """Where the record is, as far as the environment says."""
    return os.environ.get(DB) or DEFAULT_DB


def most_bytes(variable: str) -> int | None:
    """The bound that a variable sets, in bytes; None when it is not set, or, with a line that says so, no positive number."""
    said = os.environ.get(variable, "").strip()
    if not said:
        return None
    if said.isascii() and said.isdigit() and int(said) > 0:
        return int(said)
    warn_once(f"{variable}={said!r} is no number of bytes: the file may grow without a bound.")
    return None


def warn_once(line: str) -> None:
    """Tell it once a process: several exporters read one setting, the one that the SDK makes beside ours among them."""
    if line not in _told:
        _told.add(line)
        _logger.warning("%s", line)
