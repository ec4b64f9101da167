"""The run that rows belong to: its id, shared by all its processes, and its row in `run_info`.

    run = Run()                     # the id of the environment, else a new one
    run.begin(connection)           # the first process that comes owns the run
    run.id                          # "01K9Z3NDEKTS"

A run id is 12 characters of Crockford's base 32: seconds since 1970, then 25 random bits, so that ids sort by time. Child
processes inherit it through the environment.
"""

import os
import sqlite3
import sys
import time
from collections.abc import Sequence, Set
from logging import getLogger
from pathlib import PurePath
from socket import gethostname
from typing import Final

from retrospan_instrumentation import semconv as sc

from .tables import RUN_INFO, RUN_SUMMARY, SCHEMA_VERSION

RUN_ID: Final = "RETROSPAN_RUN_ID"
# The run that this process was started in, which its parent had begun: not for users, who say RETROSPAN_RUN_ID.
BEGUN_RUN: Final = "RETROSPAN_BEGUN_RUN"
_OF_PARENT: Final = os.environ.get(BEGUN_RUN)
_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LONGEST: Final = 128
# Interpreter options that take the next argument as their value.
_WITH_VALUE: Final = ("W", "X")

_logger = getLogger("retrospan")


def new_id(now: float) -> str:
    """A run id for a run that starts at `now`, in seconds since 1970."""
    number = int(now) << 25 | int.from_bytes(os.urandom(4), "big") >> 7
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(55, -1, -5))


def program_name(command: Sequence[str]) -> str:
    """Name of the program that a command line runs, never one of its arguments: of an interpreter, its script or module."""
    name = PurePath(command[0]).name if command else ""
    if not name.startswith(("python", "pypy")):
        return name
    arguments = iter(command[1:])
    for argument in arguments:
        if not argument.startswith("-") or argument == "-":
            return PurePath(argument).name if argument != "-" else name
        letters = "" if argument.startswith("--") else argument[1:]
        for position, letter in enumerate(letters, 1):
            if letter == "m":
                return letters[position:] or next(arguments, name)
            if letter == "c":
                return name
            if letter in _WITH_VALUE:
                if not letters[position:]:
                    next(arguments, None)
                break
    return name


def entered_layers() -> set[str]:
    """The layers whose hooks were called in this process."""
    surround = sys.modules.get("retrospan_instrumentation.surround")
    return set() if surround is None else surround.layers & set(sc.LAYERS)


def as_list(layers: Set[str]) -> str | None:
    """Layers as `run_info` has them; None when there are none."""
    return ",".join(layer for layer in sc.LAYERS if layer in layers) or None


class Run:
    """One run, in one record."""

    def __init__(self, run_id: str | None = None, command: Sequence[str] | None = None) -> None:
        """Take the given id, else the environment's, else a new one; `command` is this process's unless given."""
        self.started_at = time.time()
        given = run_id or os.environ.get(RUN_ID)
        self.is_new = not given
        self.id = _text(given or new_id(self.started_at))
        self.command = _text(program_name(sys.orig_argv if command is None else command))
        self.sampler: str | None = None
        # A process that starts late takes part in its parent's run although that is complete by now.
        self._begun = self.id == _OF_PARENT
        self._owner: int | None = None

    @property
    def is_mine(self) -> bool:
        """Whether the run ends with this process."""
        return self._owner == os.getpid()

    def pass_on(self) -> None:
        """Have the processes that this one starts take part in the run, even one that starts and ends before it writes."""
        os.environ[RUN_ID] = self.id
        if self.is_new:  # else it may have to go on as ID.2, which is known when it begins
            os.environ[BEGUN_RUN] = self.id

    def begin(self, connection: sqlite3.Connection) -> None:
        """Enter the run in a record, in the caller's transaction. An id that is complete there goes on as ID.2, once, unless it
        is that of this process's parent."""
        if not self._begun:
            self._go_on_as(_unfinished(connection, self.id))
        row = self.row()
        connection.execute(
            f"INSERT OR IGNORE INTO {RUN_INFO.name} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
            tuple(row.values()),
        )
        owner = connection.execute(
            f"SELECT owner_process_id, host_name FROM {RUN_INFO.name} WHERE run_id = ?", (self.id,)
        ).fetchone()
        # By the row, not by who inserted it: a program that replaced itself by exec is the same process.
        self._owner = os.getpid() if owner == (os.getpid(), row["host_name"]) else None

    def claim(self) -> None:
        """Have the run end with this process, as far as anybody can tell: where rows are kept in no record, nobody can."""
        self._owner = os.getpid()

    def row(self) -> dict[str, str | int | float | None]:
        """The columns of `run_info` as this process knows them, but for the layers."""
        return {
            "run_id": self.id,
            "started_at": self.started_at,
            "owner_process_id": os.getpid(),
            "command": self.command,
            "host_name": gethostname(),
            "schema_version": SCHEMA_VERSION,
            "sampler": self.sampler,
            "dropped_rows": 0,
        }

    def note(self, connection: sqlite3.Connection) -> None:
        """Enter the layers that have been entered, and a sampler that thins, beside what other processes noted."""
        entered = entered_layers()
        if not entered and self.sampler is None:
            return
        row = connection.execute(f"SELECT layers, sampler FROM {RUN_INFO.name} WHERE run_id = ?", (self.id,)).fetchone()
        if row is None:
            return
        noted = set(filter(None, (row[0] or "").split(",")))
        if entered <= noted and self.sampler in (None, row[1]):
            return
        layers = as_list(noted | entered)
        connection.execute(
            f"UPDATE {RUN_INFO.name} SET layers = ?, sampler = ifnull(?, sampler) WHERE run_id = ?",
            (layers, self.sampler, self.id),
        )

    def _go_on_as(self, run_id: str) -> None:
        if run_id != self.id:
            _logger.warning("Run %s is complete in this record already; this one is recorded as %s.", self.id, run_id)
        self.id = os.environ[RUN_ID] = os.environ[BEGUN_RUN] = run_id
        self._begun = True


def _unfinished(connection: sqlite3.Connection, run_id: str) -> str:
    finished = f"SELECT 1 FROM {RUN_SUMMARY.name} WHERE run_id = ?"
    candidate, number = run_id, 1
    while connection.execute(finished, (candidate,)).fetchone() is not None:
        number += 1
        candidate = f"{run_id}.{number}"
    return candidate


def _text(value: str) -> str:
    return value[:_LONGEST].encode(errors="replace").decode()
