"""Which databases this process has open with SQLite's locks on them, so that nobody opens one of them by hand.

    identity = hold(path)       # before it is opened
    is_held(path)               # True: do not even look at its header
    let_go(identity)            # after it was closed

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


def hold(path: str | os.PathLike[str]) -> Identity | None:
    """Note that the file is to be opened by SQLite; what to give back by `let_go`."""
    identity = identity_of(path)
    if identity is not None:
        _held.append(identity)
    return identity


def let_go(identity: Identity | None) -> None:
    """Note that it was closed."""
    if identity is not None:
        _held.remove(identity)


def is_held(path: str | os.PathLike[str]) -> bool:
    """Whether SQLite may have locks on the file for this process."""
    return identity_of(path) in _held
