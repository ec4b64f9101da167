"""Text for terminals: what a record holds, made harmless, and columns that line up.

    table(("RUN", "STATE"), [("01K9Z3NDEKTS", "live")])

No colour, no width of a terminal: the same lines wherever they go.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Final

LONGEST: Final = 80


def printable(text: str, longest: int = LONGEST) -> str:
    """The text without control or escape characters, in at most `longest` characters.

    What stands in a record was chosen by strangers: a run id may hold a terminal's escape sequences.
    """
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= longest else f"{shown[: longest - 3]}..."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of left-aligned columns under a head, two spaces apart, none ending in a space."""
    widths = [max(map(len, column)) for column in zip_longest(head, *rows, fillvalue="")]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in (head, *rows)
    )
