"""Which databases this process has open with SQLite's locks on them, so that nobody opens one of them by hand.

    hold = Hold(path)       # before it is opened
    is_held(path)           # True: do not even look at its header
    hold.let_go()           # after it was closed; or when the hold is collected, with whoever has the connection

POSIX takes all locks of a process on a file away as soon as the process closes any descriptor of it. SQLite knows of its own
ones only. After such a loss another process may believe itself alone, and delete the log that is still written.
"""

import os
from typing import Final

Identity = tuple[int, int]

# A list, since its append and remove are one step for every thread.
_held: Final[list[Identity]] = []


def identity_of(path: str | os.PathLike[str]) -> Identity | None:
    """What tells a file from all others, whatever its names; None when there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


class Hold:
    """Notes that a file is open in SQLite, until it is let go of."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Begin with it; of a file that is not there there is nothing to note."""
        self._identity = identity_of(path)
        if self._identity is not None:
            _held.append(self._identity)

    def let_go(self, _held: list[Identity] = _held) -> None:
        """Note that it was closed. A second call does nothing."""
        identity, self._identity = self._identity, None
        if identity is not None:
            _held.remove(identity)

    def __del__(self) -> None:
        self.let_go()


def is_held(path: str | os.PathLike[str]) -> bool:
    """Whether SQLite may have locks on the file for this process."""
    return identity_of(path) in _held
