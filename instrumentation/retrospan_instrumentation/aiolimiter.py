"""Record what aiolimiter delays.

    from retrospan_instrumentation.aiolimiter import AiolimiterInstrumentor
    AiolimiterInstrumentor().instrument()

`AsyncLimiter` grants or makes the caller wait, and never refuses: only a caller that is cancelled, or stops waiting, goes
without. It knows no keys, so the host of a wait is that of the request that takes it.
"""

from collections.abc import Callable, Mapping
from time import time_ns
from types import ModuleType
from typing import Any

from . import waits
from .hooks import Call, LibraryInstrumentor

NAME = "aiolimiter"


class AiolimiterInstrumentor(LibraryInstrumentor):
    """Hooks aiolimiter's `AsyncLimiter.acquire`, which `async with limiter` calls too."""

    layer, distribution, versions = "limiter", "aiolimiter", ">=1.1,<2"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"aiolimiter": self._hook}

    def _hook(self, module: ModuleType) -> None:
        self.wrap(module.AsyncLimiter, "acquire", _Acquire, asynchronous=True)


class _Acquire(Call):
    def __init__(self, limiter: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._limiter, self._start = limiter, time_ns()

    def returned(self, result: Any) -> Any:
        waits.report(self._limiter, NAME, granted=True, start=self._start, max_delay_ms=None)
        return result

    def raised(self, error: BaseException) -> None:
        if not isinstance(error, ValueError):  # an amount that it can never give is no wait
            waits.report(self._limiter, NAME, granted=False, start=self._start, max_delay_ms=None)
