"""What a value must be to stand in a column; whatever a stranger's span holds, what does not fit is missing.

    text("é" * 5000)            # the first 256
    integer(2**70)              # -1: missing

Missing is "", -1 or -1.0 here, which no column can hold in earnest.
"""

import re
from math import isfinite
from typing import Final

LONGEST: Final = 256
GREATEST: Final = 2**63 - 1
LATEST: Final = 1e15  # seconds that a real may hold: beyond, it is nonsense
_CLASS_NAME: Final = re.compile(r"[\w.<>]{1,256}", re.ASCII)
_STATUS: Final = re.compile(r"\d{3}")


def text(value: object, longest: int = LONGEST) -> str:
    """A value as bounded text that can be encoded; "" when it is none."""
    if not isinstance(value, (str, int, float)):
        return ""
    return str(value)[:longest].encode(errors="replace").decode()


def integer(value: object) -> int:
    """A value as a whole number that SQLite can hold; -1 when it is none."""
    return int(value) if isinstance(value, int) and 0 <= value <= GREATEST else -1


def real(value: object) -> float:
    """A value as a finite number; -1.0 when it is none."""
    return float(value) if isinstance(value, (int, float)) and isfinite(value) and 0 <= value < LATEST else -1.0


def boolean(value: object) -> int:
    """1, 0, or -1 when it is neither."""
    return int(value) if isinstance(value, int) and value in (0, 1) else -1


def class_name(error: object) -> str:
    """An error's class without its module; a mere status code is none, and free text never gets through."""
    if not isinstance(error, str) or not error or _STATUS.fullmatch(error):
        return ""
    return error.rpartition(".")[2] if _CLASS_NAME.fullmatch(error) else "_OTHER"
