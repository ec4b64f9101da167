"""Limiters and breakers, one for each host and role, named `host:role`. Shared by threads and asyncio.

    guards = Guards(settings)
    with guards.breaker("api.crossref.org", "metadata").calling():
        if not guards.limiter("api.crossref.org", "metadata").try_acquire("api.crossref.org:metadata", timeout=30): ...

What is a failure of the host is said in `faults`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from threading import Event, Lock

from pybreaker import STATE_CLOSED, STATE_OPEN, CircuitBreaker, CircuitMemoryStorage
from pyrate_limiter import Limiter, Rate

from .faults import NOT_THE_HOSTS_FAULT, LimiterRefused, Stopped
from .settings import Settings

LIMITER_SLACK_MS = 5


class Guards:
    """Made on first use, kept for the run. `close()` ends the limiters' housekeeping."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = Lock()
        self._breakers: dict[str, tuple[CircuitBreaker, CircuitMemoryStorage]] = {}
        self._limiters: dict[str, Limiter] = {}

    def breaker(self, host: str, role: str) -> CircuitBreaker:
        """To be used as `with breaker.calling():`; its `call()` would hold a lock for as long as the request lasts."""
        name = key(host, role)
        with self._lock:
            if name not in self._breakers:
                storage = CircuitMemoryStorage(STATE_CLOSED)
                breaker = CircuitBreaker(
                    name=name,
                    state_storage=storage,
                    fail_max=self._settings.breaker_failures,
                    reset_timeout=self._settings.breaker_reset,
                    exclude=[*NOT_THE_HOSTS_FAULT, asyncio.CancelledError, KeyboardInterrupt],
                    throw_new_error_on_trip=False,  # the error that trips it is still worth a retry's judgement
                )
                self._breakers[name] = breaker, storage
            return self._breakers[name][0]

    def refuses(self, host: str, role: str) -> bool:
        """Whether the breaker would refuse a call now. Asks nothing, changes nothing, lets a due trial pass."""
        with self._lock:
            breaker, storage = self._breakers.get(key(host, role), (None, None))
        if breaker is None or storage is None or storage.state != STATE_OPEN or storage.opened_at is None:
            return False
        return datetime.now(UTC) < storage.opened_at + timedelta(seconds=breaker.reset_timeout)

    def limiter(self, host: str, role: str) -> Limiter:
        """Spaces requests evenly: a burst is what a server notices."""
        name = key(host, role)
        with self._lock:
            if name not in self._limiters:
                spacing_ms = max(1, round(1000 / self._settings.rate(role)))
                self._limiters[name] = Limiter(Rate(1, spacing_ms), buffer_ms=LIMITER_SLACK_MS)
            return self._limiters[name]

    def close(self) -> None:
        for limiter in self._limiters.values():
            limiter.close()


def key(host: str, role: str) -> str:
    """The name under which a limiter or a breaker is known."""
    return f"{host}:{role}"


def go_on(stopped: Event, grant: bool = True) -> None:
    """Raises when the run is to end, or the limiter said no."""
    if stopped.is_set():
        raise Stopped("stopped")
    if not grant:
        raise LimiterRefused("rate_limited")
