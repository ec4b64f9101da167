"""Who a wait or a frame belongs to: the task, the piece of work in a pool, or the thread that is running.

    mine = owner_ref()
    ...
    is_over(mine)                        # whether nothing more comes from it

What one has left may be taken by another when it is over.
"""

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any
from weakref import ref

import wrapt

Owner = ref[Any]
_trio: Any = None
_get_running_loop, _get_asyncgen_hooks, _get_ident = (
    asyncio._get_running_loop,
    sys.get_asyncgen_hooks,
    threading.get_ident,
)
# Up to 3.11 `asyncio.current_task` is a function in Python over this dict.
_current_task: Callable[[Any], Any] = asyncio.current_task
if sys.version_info < (3, 12):
    _current_task = asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]
# Where `threading.current_thread` looks. A thread's owner is kept on it: a `threading.local` costs three times as much.
_threads: dict[int, Any] = getattr(threading, "_active", {})


def _trio_is_there(lowlevel: Any) -> None:
    global _trio
    _trio = lowlevel if hasattr(lowlevel, "in_trio_task") else None


# httpcore imports trio wherever it is installed; this package imports neither.
wrapt.register_post_import_hook(_trio_is_there, "trio.lowlevel")


class Work:
    """A piece of work in a pool: its own owner, though its thread serves many."""

    __slots__ = ("__weakref__", "over")

    def __init__(self) -> None:
        self.over = False

    def begin(self) -> Owner:
        """Become what this thread is doing; returns what it was doing."""
        before = _of_thread()
        threading.current_thread().retrospan_owner = ref(self)  # type: ignore[attr-defined]
        return before

    def end(self, before: Owner) -> None:
        """Done: whatever it left may be taken by others now."""
        self.over = True
        threading.current_thread().retrospan_owner = before  # type: ignore[attr-defined]


def owner_ref() -> Owner:
    """Who a wait or a frame belongs to: the task, the piece of work in a pool, or the thread that is running.

    A weak reference: unlike an id, no later task or thread is ever taken for it.
    """
    loop = _get_running_loop()
    if loop is not None and (task := _current_task(loop)) is not None:
        return ref(task)
    # A loop of trio's hooks the generators of its thread, which is quicker to see than a task.
    if _trio is not None and _get_asyncgen_hooks()[0] is not None and _trio.in_trio_task():
        return ref(_trio.current_task())
    try:
        return _threads[_get_ident()].retrospan_owner  # type: ignore[no-any-return]
    except (KeyError, AttributeError):
        return _of_thread()


def _of_thread() -> Owner:
    thread: Any = threading.current_thread()
    try:
        return thread.retrospan_owner  # type: ignore[no-any-return]
    except AttributeError:
        thread.retrospan_owner = mine = ref(thread)
        return mine


def is_over(owned_by: Owner) -> bool:
    """Whether an owner has finished, so that nothing more comes from it."""
    who = owned_by()
    if who is None:
        return True
    if isinstance(who, Work):
        return who.over
    if isinstance(who, threading.Thread):
        return not who.is_alive()
    if isinstance(who, asyncio.Future):
        return who.done()
    return getattr(who.coro, "cr_frame", None) is None  # trio's task
