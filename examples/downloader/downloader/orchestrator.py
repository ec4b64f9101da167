"""Resolving one artifact: tier after tier, source after source, until one has stored it. In threads.

    with FallbackOrchestrator(plan, settings, guards) as orchestrator:
        resolution = orchestrator.resolve_pdf(context_of(artifact), adapters)

An adapter is called as `adapter(policy, context)` in a pool: so an attempt has a deadline that nothing overruns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Self

from .attempts import AttemptResult, Resolution
from .guards import Guards
from .plan import Plan, Policy
from .settings import Settings
from .sources import SOURCES

Adapter = Callable[[Policy, Mapping[str, Any]], AttemptResult]


class FallbackOrchestrator:
    """Shared by all workers."""

    def __init__(self, plan: Plan, settings: Settings, guards: Guards) -> None:
        self.plan = plan
        self._settings, self._guards = settings, guards
        # Twice the workers: one attempt that overran its deadline must not keep the next from starting.
        self._pool = ThreadPoolExecutor(2 * settings.concurrency, thread_name_prefix="adapter")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def resolve_pdf(self, context: Mapping[str, Any], adapters: Mapping[str, Adapter]) -> Resolution:
        """All attempts, the last of them the one that stored, if any did."""
        attempts: list[AttemptResult] = []
        end = time.monotonic() + self.plan.budget_s
        for _, source in self.plan.steps(adapters):
            if time.monotonic() > end:
                break
            attempts.append(self._health_gate(source, context) or self._attempt(source, context, adapters[source]))
            if attempts[-1].outcome == "success":
                break
        return Resolution(context["artifact"], tuple(attempts))

    def _health_gate(self, source: str, context: Mapping[str, Any]) -> AttemptResult | None:
        """The result of an attempt that is not worth making: its host's breaker is open."""
        asked = SOURCES[source]
        host = asked.host(self._settings, context["artifact"])
        if host and self._guards.refuses(host, asked.role):
            return AttemptResult(asked.tier, source, "skipped", "breaker_open", host=host)
        return None

    def _attempt(self, source: str, context: Mapping[str, Any], adapter: Adapter) -> AttemptResult:
        policy = self.plan.policies[source]
        claim, started = Lock(), time.perf_counter()
        future = self._pool.submit(adapter, policy, {**context, "claim": claim})
        try:
            return future.result(timeout=policy.deadline_s)
        except TimeoutError:
            if not claim.acquire(blocking=False):  # it is storing at this very moment
                return future.result()
        future.cancel()
        elapsed_ms = round((time.perf_counter() - started) * 1000)
        return AttemptResult(SOURCES[source].tier, source, "timeout", "deadline", elapsed_ms=elapsed_ms)
