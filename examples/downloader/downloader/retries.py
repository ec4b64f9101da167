"""One retry policy: what is worth another send, how long to wait for it, when to give up. Used by both of tenacity's classes.

    Retrying(**retry_options(settings, judge, tries=4, stopped=event), sleep=sleep_using_event(event))

What is worth another send is said in `faults`.
"""

from __future__ import annotations

from threading import Event
from typing import Any

from tenacity import (
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    stop_when_event_set,
    wait_exponential_jitter,
)
from tenacity.stop import stop_base

from .faults import Fault, Judge
from .settings import Settings


def retry_options(settings: Settings, judge: Judge, *, tries: int, stopped: Event) -> dict[str, Any]:
    """Arguments of `Retrying` and `AsyncRetrying`; the last error is raised as it is."""
    backoff = wait_exponential_jitter(initial=settings.backoff, max=settings.max_retry_after, jitter=settings.backoff)
    return {
        "retry": retry_if_exception(judge.retryable),
        "stop": stop_after_attempt(tries) | stop_when_event_set(stopped) | AskedTooLong(settings.max_retry_after),
        "wait": lambda state: _asked(state) or backoff(state),  # asked for 0 s, a little patience is still polite
        "reraise": True,
    }


class AskedTooLong(stop_base):
    """Sending sooner than the server asked would be rude, waiting over `limit` seconds useless: so this is the end."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, retry_state: RetryCallState) -> bool:
        return _asked(retry_state) > self.limit


def _asked(state: RetryCallState) -> float:
    """Seconds that the server asked for in Retry-After; 0 if it did not."""
    error = state.outcome.exception() if state.outcome else None
    return (error.retry_after or 0.0) if isinstance(error, Fault) else 0.0
