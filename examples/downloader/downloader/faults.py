"""What an answer or an exception means, decided once for threads and asyncio. No I/O here.

    check(429, {"Retry-After": "2"}, now=time.time())      # raises Throttled, retry_after == 2.0
    Judge(httpx2).verdict(error)                           # Verdict(outcome="timeout", reason="timeout", status=None)

Who waits, sends again or gives up because of it: `retries`, `guards`, the adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import ModuleType
from typing import NamedTuple

from pybreaker import CircuitBreakerError


class Verdict(NamedTuple):
    """How an attempt ended: an outcome of the fallback vocabulary, a reason code, the HTTP status if one decided."""

    outcome: str
    reason: str
    status: int | None = None


class Fault(Exception):
    """Something the downloader understands. Subclasses say which outcome it makes."""

    outcome = "nonretryable"

    def __init__(self, reason: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status, self.retry_after = reason, status, retry_after


class Rejected(Fault):
    """A 4xx: asking again is no use."""


class Throttled(Fault):
    """429: the server is well, and asks for patience. No failure for a breaker."""

    outcome = "retryable"


class ServerFault(Fault):
    """5xx."""

    outcome = "retryable"


class LimiterRefused(Fault):
    """Our own limiter would have made us wait too long. No failure for a breaker."""

    outcome = "retryable"


class Stopped(Fault):
    """The user wants to end."""

    outcome = "skipped"


class NoPdf(Fault):
    """The source has no PDF, or what it calls one is none."""

    outcome = "no_pdf"


class RefusedFile(Fault):
    """The file that came is not stored; `reason` says why."""

    outcome = "retryable"


class TruncatedFile(RefusedFile):
    """Shorter than announced, or without the end of a PDF."""


class NotAPdf(RefusedFile):
    """Something else, whatever its Content-Type says."""

    outcome = "no_pdf"


class TooLarge(RefusedFile):
    """Larger than the user allows."""

    outcome = "nonretryable"


NOT_THE_HOSTS_FAULT: tuple[type[Fault], ...] = (Rejected, Throttled, LimiterRefused, Stopped, NoPdf, RefusedFile)


def check(status: int, headers: Mapping[str, str], now: float) -> None:
    """Raises the Fault that a final (not redirecting) status means; nothing for a 2xx. `now` is wall clock, s."""
    if status < 400:
        return
    kind = Throttled if status == 429 else ServerFault if status >= 500 else Rejected
    raise kind(f"http_{status}", status, retry_after(headers.get("Retry-After"), now))


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks to wait, in either of its forms; None if absent or unreadable."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except ValueError:
        return None


class Judge:
    """Reads the exceptions of one HTTP library (httpx2 or httpx), which have their names in common but no base class."""

    def __init__(self, library: ModuleType) -> None:
        self._transport_error: type[Exception] = library.TransportError
        # The first row that fits decides.
        self._table: tuple[tuple[type[Exception], str, str], ...] = (
            (CircuitBreakerError, "retryable", "breaker_open"),
            (TimeoutError, "timeout", "deadline"),
            (library.TimeoutException, "timeout", "timeout"),
            (library.ConnectError, "retryable", "connect"),
            (library.RemoteProtocolError, "retryable", "incomplete"),
            (library.NetworkError, "retryable", "reset"),
            (library.TransportError, "retryable", "transport"),
            (library.TooManyRedirects, "nonretryable", "redirects"),
            (library.InvalidURL, "nonretryable", "bad_url"),
            (library.DecodingError, "nonretryable", "decoding"),
        )

    def retryable(self, error: BaseException) -> bool:
        """Whether sending the same request again may help."""
        return isinstance(error, (Throttled, ServerFault, self._transport_error))

    def verdict(self, error: Exception) -> Verdict:
        if isinstance(error, Fault):
            return Verdict(error.outcome, error.reason, error.status)
        for kind, outcome, reason in self._table:
            if isinstance(error, kind):
                return Verdict(outcome, reason)
        return Verdict("error", type(error).__name__)
