"""Settings that the environment gives: read once, and what is said wrongly is told in a line.

most_bytes("RETROSPAN_MAX_BYTES")       # 100000000, or None: no bound
"""

import os
from logging import getLogger

_logger = getLogger("retrospan")


def most_bytes(variable: str) -> int | None:
    """The bound that a variable sets, in bytes; None when it is not set, or, with a line that says so, no positive number."""
    said = os.environ.get(variable, "").strip()
    if not said:
        return None
    if said.isascii() and said.isdigit() and int(said) > 0:
        return int(said)
    _logger.warning("%s=%r is no number of bytes: the file may grow without a bound.", variable, said)
    return None
