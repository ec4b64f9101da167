"""Breakers of the tests, and what goes through them as each mode does it."""

from typing import Any

import pybreaker

from retrospan_instrumentation import semconv as sc

from .scenario import HTTP, call

BREAKER = (sc.CIRCUIT_BREAKER_STATE, sc.CIRCUIT_BREAKER_RECORDED)
MOVE = (sc.CIRCUIT_BREAKER_OLD_STATE, sc.CIRCUIT_BREAKER_NEW_STATE, sc.SERVER_ADDRESS, sc.CIRCUIT_BREAKER_SCOPE)


def make(name: str | None = "127.0.0.1", **options: Any) -> pybreaker.CircuitBreaker:
    return pybreaker.CircuitBreaker(**{"fail_max": 3, "reset_timeout": 60, "name": name, **options})


async def through(http: HTTP, breaker: pybreaker.CircuitBreaker, body: Any) -> Any:
    """A call through a breaker, as each mode does it."""
    if http.is_async:
        with breaker.calling():
            return await body()
    return breaker.call(http.function(body))


async def get_ok(client: Any, url: str) -> Any:
    return (await call(client.get(url))).raise_for_status()
