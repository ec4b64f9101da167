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

_REFUSALS = ("BucketFullException", "LimiterDelayException")

# One acquire passes through several of the hooked methods; the outermost counts.
_inside: ContextVar[bool] = ContextVar("retrospan-inside-limiter", default=False)


class PyrateLimiterInstrumentor(LibraryInstrumentor):
    """Hooks pyrate-limiter's `Limiter`."""

    layer, distribution, versions = "limiter", "pyrate-limiter", ">=3.9,<5"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"pyrate_limiter": self._hook}

    def _hook(self, module: ModuleType) -> None:
        self.wrap(module.Limiter, "try_acquire", _enter)
        self.wrap(module.Limiter, "_try_acquire", _enter)  # the sync decorator calls it directly
        self.wrap(module.Limiter, "try_acquire_async", _enter, asynchronous=True)


def _is_refusal(error: BaseException) -> bool:
    """3.x refuses by an exception; a caller that is cancelled got no permit either. Any other error says nothing."""
    return type(error).__name__ in _REFUSALS or not isinstance(error, Exception)


def _enter(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    return None if _inside.get() else _Acquire(instance, *args, **kwargs)


class _Acquire(Call):
    def __init__(
        self,
        limiter: Any,
        name: Any = "pyrate",
        weight: int = 1,
        blocking: bool = True,
        timeout: float = -1,
        *_: Any,
        **__: Any,
    ) -> None:
        self._limiter, self._name = limiter, str(name)
        if not blocking:
            self._max_delay_ms: int | None = 0
        elif timeout is not None and timeout >= 0:
            self._max_delay_ms = int(timeout * 1000)
        else:
            longest = getattr(limiter, "max_delay", None)  # 3.x sets it on the limiter; in 4.x there is none
            self._max_delay_ms = int(longest) if isinstance(longest, (int, float)) else None
        self._start = time_ns()
        self._token = _inside.set(True)

    def returned(self, result: Any) -> Any:
        _inside.reset(self._token)
        if result is not True and result is not False and inspect.isawaitable(result):
            return self._awaited(result)
        waits.report(self._limiter, self._name, bool(result), self._start, self._max_delay_ms)
        return result

    def raised(self, error: BaseException) -> None:
        _inside.reset(self._token)
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
        waits.report(self._limiter, self._name, granted, self._start, self._max_delay_ms)
