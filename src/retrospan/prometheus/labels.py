"""Values of labels: bounded in number and length, whatever the rows say.

hosts = Folding(200)
hosts("api.example.org")        # the same, or "other" once 200 others have been met
"""

from collections.abc import Callable
from typing import Final

from retrospan.prometheus.names import OTHER, UNKNOWN

_LONGEST: Final = 200


class Folding:
    """The first `most` values that are met keep their names; all others are one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._met: set[tuple[str, ...]] = set()

    def __call__(self, *values: object) -> tuple[str, ...]:
        """The labels of these values, which belong together."""
        labels = tuple(map(_label, values))
        if labels not in self._met:
            if len(self._met) >= self._most:
                return (OTHER,) * len(labels)
            self._met.add(labels)
        return labels


def _label(value: object) -> str:
    return UNKNOWN if value is None or value == "" else str(value)[:_LONGEST]


def one_of(known: tuple[str, ...]) -> Callable[[object], str]:
    """A function that gives a value as it is when it is one of the known ones, else "other"."""
    return lambda value: str(value) if value in known else UNKNOWN if value is None else OTHER
