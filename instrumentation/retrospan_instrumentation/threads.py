"""Carry the OTel Context into threads and thread pools, so that a request knows which attempt started its thread.

    from retrospan_instrumentation.threads import ThreadsInstrumentor
    ThreadsInstrumentor().instrument()

The official threading instrumentation carries the same context; beside it this one only says whose piece of work a wait
belongs to. A pool's worker thread carries nothing of its own, each submitted item does.
"""

import concurrent.futures.thread
import functools
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from opentelemetry.context import attach, detach, get_current

from . import waits
from .hooks import LibraryInstrumentor
from .owners import Work
from .surround import fault


class ThreadsInstrumentor(LibraryInstrumentor):
    """Hooks `Thread.start` and `ThreadPoolExecutor.submit`."""

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"threading": self._hook_threads, "concurrent.futures.thread": self._hook_pools}

    def _hook_threads(self, module: ModuleType) -> None:
        self.patch(module.Thread, "start", self._start)

    def _hook_pools(self, module: ModuleType) -> None:
        self.patch(module.ThreadPoolExecutor, "submit", self._submit)

    def _start(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            if (
                self.is_on
                and (get_current() or waits.alone.get())
                and getattr(instance, "_target", None) is not _worker
            ):
                run = carried(instance.run)

                def run_once() -> None:
                    del instance.run  # the class's own again: no thread keeps itself alive through us
                    run()

                instance.run = run_once
        except Exception as error:
            fault(error)
        return wrapped(*args, **kwargs)

    def _submit(self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            if self.is_on and args and callable(args[0]):
                args = (carried(args[0]), *args[1:])
        except Exception as error:
            fault(error)
        return wrapped(*args, **kwargs)


_worker = concurrent.futures.thread._worker


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, as a piece of work of its own, in the context that is current now."""
    context, left_alone = get_current(), waits.alone.get()

    @functools.wraps(function, updated=())
    def work(*args: Any, **kwargs: Any) -> Any:
        mine = Work()
        before = mine.begin()
        token, token_alone = attach(context), waits.alone.set(left_alone)
        try:
            return function(*args, **kwargs)
        finally:
            waits.alone.reset(token_alone)  # what it left there is for no later work of this thread
            detach(token)
            mine.end(before)

    return work
