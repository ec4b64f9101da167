"""A limiter of the tests' own, which grants and refuses as they say."""

from typing import Any

import httpx2

from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation import waits

from .conftest import Spans

SECOND = 1_000_000_000
LIMITER = 4711


def granted(name: str = "pyrate", after: int = 0, limiter: int = LIMITER) -> None:
    """A limiter grants, `after` so many nanoseconds."""
    waits.report(limiter, name, True, waits.time_ns() - after, None)


def refused(name: str = "pyrate", limiter: int = LIMITER) -> None:
    waits.report(limiter, name, False, waits.time_ns(), 0)


def sync(answer: int = 200) -> Any:
    return httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(answer)))


def delays(spans: Spans) -> list[int | None]:
    return spans.sends(sc.RATE_LIMITER_DELAY_MS)
