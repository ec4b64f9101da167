"""Ctrl-C and SIGTERM: the first asks the run to end, a second one does what it always does.

    with Stopping() as stopping:
        stopping.event.is_set()
        stopping.on_stop(callback)          # called in the main thread, from the signal handler

How soon the event is seen is up to those who wait: `fetch` looks before and after every wait and at every chunk.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from threading import Event
from types import FrameType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """`event` is set and `signum` known once a signal came."""

    def __init__(self) -> None:
        self.event = Event()
        self.signum: int | None = None
        self._callbacks: list[Callable[[], object]] = []
        self._previous: dict[signal.Signals, Any] = {}

    def on_stop(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._stop) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()
        self.event.set()
        for callback in self._callbacks:
            callback()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
