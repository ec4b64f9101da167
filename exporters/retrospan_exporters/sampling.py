"""Chatty rows, thinned: RETROSPAN_SAMPLE=rate_events:0.1 keeps a tenth of the permits that were granted at once.

    sampling = Sampling.of_environment()
    rows = sampling.thin(projection.rows(spans, os.getpid()), RATE_EVENTS.name)

A row that is kept stands for all that are not: its `weight` is 1 / share, so sums of weights and weighted percentiles are
those of all rows, but for the noise of a sample. What waited, was refused or was skipped is always kept. Whether a row is
depends on nothing but its span's id: every process, and a second run over the same spans, keeps the same ones.
"""

import os
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from .settings import warn_once
from .shapes import Row
from .tables import RATE_EVENTS

SAMPLE: Final = "RETROSPAN_SAMPLE"

_POSITION: Final = {column.name: position for position, column in enumerate(RATE_EVENTS.inserted())}
_ACTION, _DELAY, _SPAN, _WEIGHT = (_POSITION[name] for name in ("action", "delay_ms", "span_id", "weight"))
# Knuth's multiplicative hash: ids that merely count up are spread over the whole range by it, as random ones are anyway.
_SPREAD: Final = 0x9E3779B97F4A7C15
_IDS: Final = 2**64

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which share of the undelayed acquires is kept: 0 < share <= 1."""

    share: float = 1.0

    @classmethod
    def of_environment(cls) -> Self:
        """As RETROSPAN_SAMPLE says; what it says wrongly is told in a line, and everything is kept."""
        said = os.environ.get(SAMPLE, "").strip()
        if not said:
            return cls()
        table, _, number = said.partition(":")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if table.strip() == RATE_EVENTS.name and 0 < share <= 1:
            return cls(share)
        warn_once(
            f"{SAMPLE}={said!r} is not understood, and every row is kept:"
            f" say {RATE_EVENTS.name}:SHARE, with a share over 0 and up to 1."
        )
        return cls()

    def thin(self, made: dict[Key, list[Row]], key: Key) -> dict[Key, list[Row]]:
        """What was made of a batch without the rows of `rate_events`, which are under `key`, that are not kept."""
        if self.share < 1 and key in made:
            made[key] = [thinned for row in made[key] if (thinned := self._thinned(row)) is not None]
        return made

    def _thinned(self, row: Row) -> Row | None:
        if row[_ACTION] != "acquire" or row[_DELAY] != 0:
            return row
        if int.from_bytes(row[_SPAN], "big") * _SPREAD % _IDS >= self.share * _IDS:
            return None
        return (*row[:_WEIGHT], 1 / self.share, *row[_WEIGHT + 1 :])
