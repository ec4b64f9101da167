"""Record what aiolimiter delays.

    from retrospan_instrumentation.aiolimiter import AiolimiterInstrumentor
    AiolimiterInstrumentor().instrument()

`AsyncLimiter` grants or makes the caller wait, and never refuses: only a caller that is cancelled, or stops waiting, goes
without. It knows no keys, so the host of a wait is that of the request that takes it.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from . import waits
from .hooks import LibraryInstrumentor

NAME = "aiolimiter"


class AiolimiterInstrumentor(LibraryInstrumentor):
    """Hooks aiolimiter's `AsyncLimiter.acquire`, which `async with limiter` calls too."""

    layer, distribution, versions = "limiter", "aiolimiter", ">=1.1,<2"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"aiolimiter": self._hook}

    def _hook(self, module: ModuleType) -> None:
        self.wrap_timed(module.AsyncLimiter, "acquire", _acquired, asynchronous=True)


def _acquired(
    limiter: Any, args: tuple[Any, ...], kwargs: dict[str, Any], start: int, result: Any, error: BaseException | None
) -> Any:
    if not isinstance(error, ValueError):  # an amount that it can never give is no wait
        waits.report(limiter, NAME, granted=error is None, start=start, max_delay_ms=None)
    return result
