"""Record what pyrate-limiter grants, delays and refuses.

    from retrospan_instrumentation.pyrate_limiter import PyrateLimiterInstrumentor
    PyrateLimiterInstrumentor().instrument()

Hooks the methods of `Limiter` (3.9 to 4.5) on the class, so limiters made earlier are reached. What a wait means for a
request is decided in `waits`.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any

from . import waits
from .hooks import LibraryInstrumentor
from .surround import fault

_REFUSALS = ("BucketFullException", "LimiterDelayException")


class PyrateLimiterInstrumentor(LibraryInstrumentor):
    """Hooks pyrate-limiter's `Limiter`."""

    layer, distribution, versions = "limiter", "pyrate-limiter", ">=3.9,<5"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"pyrate_limiter": self._hook}

    def _hook(self, module: ModuleType) -> None:
        # In 4.x `try_acquire` comes to `_try_acquire`, and so does the synchronous decorator. So does an asynchronous acquire,
        # which knows how long it waited for the limiter's own lock. (One bound before the hooks has the inner one alone.)
        name = "_try_acquire" if hasattr(module.Limiter, "_try_acquire") else "try_acquire"
        self.wrap_timed(module.Limiter, name, _asked)
        self.wrap_timed(module.Limiter, "try_acquire_async", _asked, asynchronous=True)


def _is_refusal(error: BaseException) -> bool:
    """3.x refuses by an exception, 4.x inside by a TimeoutError; a caller that is cancelled got no permit either. Any other
    error says nothing."""
    return isinstance(error, TimeoutError) or type(error).__name__ in _REFUSALS or not isinstance(error, Exception)


def _asked(
    limiter: Any, args: tuple[Any, ...], kwargs: dict[str, Any], start: int, result: Any, error: BaseException | None
) -> Any:
    """A limiter was asked for a permit at `start`, and this is its answer."""
    granted = True
    if result is not True:
        if error is not None and not _is_refusal(error):
            return result
        if result and inspect.isawaitable(result):
            return _awaited(limiter, args, kwargs, start, result)
        granted = bool(result)
    # 3.x sets the longest wait on the limiter, in milliseconds; in 4.x there is none.
    longest = getattr(limiter, "max_delay", None)
    if len(args) == 1 and not kwargs:  # as most are asked, by a name alone
        name = args[0]
    else:
        name, blocking, timeout = _said(*args, **kwargs)
        if not blocking:
            longest = 0
        elif timeout is not None and timeout >= 0:
            longest = timeout * 1000
    if longest is not None:
        longest = int(longest) if isinstance(longest, (int, float)) else None
    waits.report(limiter, str(name), granted, start, longest)
    return result


async def _awaited(
    limiter: Any, args: tuple[Any, ...], kwargs: dict[str, Any], start: int, result: Awaitable[Any]
) -> Any:
    try:
        granted = await result
    except BaseException as error:
        _guarded(limiter, args, kwargs, start, None, error)
        raise
    _guarded(limiter, args, kwargs, start, bool(granted), None)
    return granted


def _guarded(*asked: Any) -> None:
    try:
        _asked(*asked)
    except Exception as error:
        fault(error)


def _said(name: Any = "pyrate", weight: Any = 1, blocking: Any = True, timeout: Any = -1, *_: Any, **__: Any) -> Any:
    """What was asked: all of the hooked methods have these parameters in this order, or the first of them."""
    return name, blocking, timeout
