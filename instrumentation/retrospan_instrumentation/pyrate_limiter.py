"""Record what pyrate-limiter grants, delays and refuses.

    from retrospan_instrumentation.pyrate_limiter import PyrateLimiterInstrumentor
    PyrateLimiterInstrumentor().instrument()

Hooks the methods of `Limiter` (3.9 to 4.5) on the class, so limiters made earlier are reached. What a wait means for a
request is decided in `waits`.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from time import time_ns
from types import ModuleType
from typing import Any

from . import hooks, waits
from .hooks import Call, LibraryInstrumentor

_PARAMETERS = ("name", "weight", "blocking", "timeout")
_REFUSALS = ("BucketFullException", "LimiterDelayException")

# One acquire may pass through several of the hooked methods; the outermost counts.
_inside: ContextVar[bool] = ContextVar("retrospan-inside-limiter", default=False)


class PyrateLimiterInstrumentor(LibraryInstrumentor):
    """Hooks pyrate-limiter's `Limiter`."""

    layer, distribution, versions = "limiter", "pyrate-limiter", ">=3.9,<5"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"pyrate_limiter": self._hook}

    def _hook(self, module: ModuleType) -> None:
        # The sync decorator calls `_try_acquire` directly; where `try_acquire` comes to it too, one hook has both.
        comes_to = getattr(getattr(module.Limiter.try_acquire, "__code__", None), "co_names", ())
        if "_try_acquire" in comes_to:
            self.wrap(module.Limiter, "_try_acquire", _enter)
        else:
            self.wrap(module.Limiter, "try_acquire", _enter_outer)
            self.wrap(module.Limiter, "_try_acquire", _enter)
        self.wrap(module.Limiter, "try_acquire_async", _enter_outer, asynchronous=True)


def _is_refusal(error: BaseException) -> bool:
    """3.x refuses by an exception, 4.x inside by a TimeoutError; a caller that is cancelled got no permit either. Any other
    error says nothing."""
    return isinstance(error, TimeoutError) or type(error).__name__ in _REFUSALS or not isinstance(error, Exception)


def _enter(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    return None if _inside.get() else _Acquire(instance, args, kwargs)


def _enter_outer(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    return None if _inside.get() else _OuterAcquire(instance, args, kwargs)


class _Acquire(Call):
    """One question to a limiter. All of the hooked methods have these parameters in this order, or the first of them."""

    def __init__(self, limiter: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._limiter, self._args, self._kwargs = limiter, args, kwargs
        self._start = time_ns()

    def returned(self, result: Any) -> Any:
        if result is not True and result is not False and inspect.isawaitable(result):
            return self._awaited(result)
        self._report(bool(result))
        return result

    def raised(self, error: BaseException) -> None:
        if _is_refusal(error):
            self._report(False)

    async def _awaited(self, result: Awaitable[Any]) -> Any:
        token = _inside.set(True)
        try:
            granted = await result
        except BaseException as error:
            self._settled(token, False if _is_refusal(error) else None)
            raise
        self._settled(token, bool(granted))
        return granted

    def _settled(self, token: Any, granted: bool | None) -> None:
        try:
            _inside.reset(token)
            if granted is not None:
                self._report(granted)
        except Exception as error:
            hooks.fault(error)

    def _report(self, granted: bool) -> None:
        limiter, args, said = self._limiter, self._args, self._kwargs
        if args:
            said = dict(zip(_PARAMETERS, args, strict=False)) | said
        name, timeout = said.get("name", "pyrate"), said.get("timeout", -1)
        if not said.get("blocking", True):
            longest: Any = 0
        elif timeout is not None and timeout >= 0:
            longest = timeout * 1000
        else:  # 3.x sets it on the limiter, in milliseconds; in 4.x there is none
            longest = getattr(limiter, "max_delay", None)
        if longest is not None:
            longest = int(longest) if isinstance(longest, (int, float)) else None
        waits.report(limiter, str(name), granted, self._start, longest)


class _OuterAcquire(_Acquire):
    """Through a method that comes to others of those hooked."""

    def __init__(self, limiter: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__(limiter, args, kwargs)
        self._token = _inside.set(True)

    def returned(self, result: Any) -> Any:
        _inside.reset(self._token)
        return super().returned(result)

    def raised(self, error: BaseException) -> None:
        _inside.reset(self._token)
        super().raised(error)
