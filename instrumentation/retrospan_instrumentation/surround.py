"""What surrounds one call of a watched function: told before it and after, and never in its way.

    hook = surrounded(function, enter, instrumentor, "retry")            # `enter` makes a `Call` of each call
    hook = timed(function, after, instrumentor, "limiter")               # `after` is told of each call when it is over

No fault of a `Call` reaches the application: the wrapped function is called as if no hook were there, and the fault is
logged once a place.
"""

import functools
import logging
from collections.abc import Callable
from contextvars import ContextVar
from time import time_ns
from typing import Any, Protocol

_logger = logging.getLogger("retrospan")
faults: set[tuple[str, int]] = set()
"""The places that have been told of."""
MARK = "_retrospan_hook"

layers: set[str] = set()
"""The layers whose hooks have been called in this process; what `run_info.layers` is made of."""


class Switch(Protocol):
    """Who has placed a hook."""

    is_on: bool
    """Whether it is to work; one that could not be taken off lets every call through."""


class Call(Protocol):
    """What surrounds one call of a watched function."""

    def returned(self, result: Any) -> Any:
        """Take the result, and return what the caller gets."""

    def raised(self, error: BaseException) -> None:
        """Take the exception, which goes on to the caller."""


Enter = Callable[[Any, tuple[Any, ...], dict[str, Any]], Call | None]
"""Called before: (instance, args, kwargs) -> the `Call` around it, or None to leave it alone."""
After = Callable[[Any, tuple[Any, ...], dict[str, Any], int, Any, BaseException | None], Any]
"""Called after: (instance, args, kwargs, when it was called, ns; result; exception) -> what the caller gets for the result."""


def fault(error: BaseException) -> None:
    """Log a fault of a hook, once a place, by class and line: its text may hold what must not be written."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno) if traceback is not None else ("?", 0)
    if where in faults:
        return
    faults.add(where)
    module = where[0].replace("\\", "/").rsplit("/", 1)[-1]
    _logger.error(
        "A hook failed with %s at %s:%d; the application's call went on without it. Please report this.",
        type(error).__name__,
        module,
        where[1],
    )


def surrounded(
    function: Callable[..., Any], enter: Enter, owner: Switch, layer: str, when: bool = True
) -> Callable[..., Any]:
    """A method inside what `enter` makes of each call, while `owner.is_on` is `when`; each counts for this layer.

    A plain function, with no other in between: wrapt's binding would cost half a hook more.
    """

    @functools.wraps(function)
    def hooked(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        if owner.is_on is not when:
            return function(instance, *args, **kwargs)
        try:
            if layer not in layers:
                layers.add(layer)
            call = enter(instance, args, kwargs)
        except Exception as error:
            fault(error)
            call = None
        if call is None:
            return function(instance, *args, **kwargs)
        try:
            result = function(instance, *args, **kwargs)
        except BaseException as error:
            told_of(call, error)
            raise
        try:
            return call.returned(result)
        except Exception as error:
            fault(error)
            return result

    return marked(hooked)


def surrounded_async(
    function: Callable[..., Any], enter: Enter, owner: Switch, layer: str, when: bool = True
) -> Callable[..., Any]:
    """The same of a coroutine function: nothing differs but the `await`."""

    @functools.wraps(function)
    async def hooked(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        if owner.is_on is not when:
            return await function(instance, *args, **kwargs)
        try:
            if layer not in layers:
                layers.add(layer)
            call = enter(instance, args, kwargs)
        except Exception as error:
            fault(error)
            call = None
        if call is None:
            return await function(instance, *args, **kwargs)
        try:
            result = await function(instance, *args, **kwargs)
        except BaseException as error:
            told_of(call, error)
            raise
        try:
            return call.returned(result)
        except Exception as error:
            fault(error)
            return result

    return marked(hooked)


def timed(
    function: Callable[..., Any], after: After, owner: Switch, layer: str, inside: ContextVar[bool]
) -> Callable[..., Any]:
    """A method after which `after` is told when it was called, with what, and what came of it: nothing is made before.

    Where `inside` is True the call is a part of another one, and let through.
    """

    @functools.wraps(function)
    def hooked(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not owner.is_on or inside.get():
            return function(instance, *args, **kwargs)
        if layer not in layers:
            layers.add(layer)
        start = time_ns()
        try:
            result = function(instance, *args, **kwargs)
        except BaseException as error:
            _failed(after, instance, args, kwargs, start, error)
            raise
        try:
            return after(instance, args, kwargs, start, result, None)
        except Exception as error:
            fault(error)
            return result

    return marked(hooked)


def timed_async(
    function: Callable[..., Any], after: After, owner: Switch, layer: str, inside: ContextVar[bool]
) -> Callable[..., Any]:
    """The same of a coroutine function, in whatever it calls `inside` is True."""

    @functools.wraps(function)
    async def hooked(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not owner.is_on or inside.get():
            return await function(instance, *args, **kwargs)
        if layer not in layers:
            layers.add(layer)
        start = time_ns()
        inside.set(True)
        try:
            result = await function(instance, *args, **kwargs)
        except BaseException as error:
            inside.set(False)
            _failed(after, instance, args, kwargs, start, error)
            raise
        inside.set(False)
        try:
            return after(instance, args, kwargs, start, result, None)
        except Exception as error:
            fault(error)
            return result

    return marked(hooked)


def marked(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Known as ours, with code of its own: the interpreter specialises code by the types that it meets, one a place."""
    function: Any = hook
    setattr(function, MARK, True)
    function.__code__ = function.__code__.replace()
    return hook


def _failed(
    after: After, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any], start: int, error: BaseException
) -> None:
    try:
        after(instance, args, kwargs, start, None, error)
    except Exception as own:
        fault(own)


def told_of(call: Call, error: BaseException) -> None:
    """Tell a call of its exception."""
    try:
        call.raised(error)
    except Exception as own:
        fault(own)
