"""Orchestrators as programs write them: they know nothing of any telemetry, and are hooked by their names alone."""

import asyncio
import enum
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

Adapter = Callable[[Any, Mapping[str, Any]], Any]


class Outcome(enum.Enum):
    SUCCESS = "success"
    NO_PDF = "no_pdf"
    RETRYABLE = "retryable"


@dataclass
class Result:
    outcome: Outcome
    reason: str | None = None
    status: int | None = None
    elapsed_ms: int | None = None
    url: str | None = None
    host: str | None = None


@dataclass
class Tier:
    name: str
    sources: list[str]


@dataclass
class Plan:
    tiers: list[Tier]


class Base:
    """In order, one after the other."""

    plan = Plan([Tier("direct", ["unpaywall", "crossref"]), Tier("mirrors", ["mirror"])])

    def resolve(self, context: Mapping[str, Any], adapters: Mapping[str, Adapter]) -> Any:
        result = None
        for tier in self.plan.tiers:
            for source in tier.sources:
                if source not in adapters:
                    continue
                if self._health_gate(source, context) is not None:
                    continue
                result = adapters[source]("policy", context)
        return result

    def _health_gate(self, source: str, context: Mapping[str, Any]) -> Any:
        return {"outcome": "skipped", "reason": "breaker_open"} if source in context.get("down", ()) else None


class Inheriting(Base):
    """Overrides, and calls what it overrides."""

    def resolve(self, context: Mapping[str, Any], adapters: Mapping[str, Adapter]) -> Any:
        return super().resolve(context, adapters)


class Pooled:
    def resolve_all(self, context: Mapping[str, Any], adapters: Mapping[str, Adapter]) -> list[Any]:
        with ThreadPoolExecutor(4) as pool:
            return [f.result() for f in [pool.submit(a, "policy", context) for a in adapters.values()]]


class Threaded:
    """The first that answers wins; the threads of the others outlive the call."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def resolve(self, context: Mapping[str, Any], adapters: Mapping[str, Adapter]) -> Any:
        answers: queue.Queue[Any] = queue.Queue()
        for adapter in adapters.values():
            self.threads.append(threading.Thread(target=lambda a=adapter: answers.put(a("policy", context))))
            self.threads[-1].start()
        return answers.get(timeout=10)


class Queued:
    """Workers of its own that were there before the call, and know nothing of it."""

    def __init__(self) -> None:
        self._work: queue.Queue[Any] = queue.Queue()
        self._worker = threading.Thread(target=self._run, daemon=True)
        self._worker.start()

    def _run(self) -> None:
        while (job := self._work.get()) is not None:
            adapter, context, answers = job
            answers.put(adapter("policy", context))

    def resolve(self, context: Mapping[str, Any], adapters: Mapping[str, Adapter]) -> list[Any]:
        answers: queue.Queue[Any] = queue.Queue()
        for adapter in adapters.values():
            self._work.put((adapter, context, answers))
        return [answers.get(timeout=10) for _ in adapters]

    def close(self) -> None:
        self._work.put(None)
        self._worker.join(10)


class Asynchronous:
    async def resolve(self, context: Mapping[str, Any], adapters: Mapping[str, Any]) -> list[Any]:
        return list(await asyncio.gather(*(adapter("policy", context) for adapter in adapters.values())))

    async def resolve_in_order(self, context: Mapping[str, Any], adapters: Mapping[str, Any]) -> list[Any]:
        open_ones = {s: a for s, a in adapters.items() if await self._health_gate(context=context, source=s) is None}
        return await self.resolve(context, open_ones)

    async def _health_gate(self, source: str, context: Mapping[str, Any]) -> Any:
        return Result(Outcome.RETRYABLE, "cooling_down", host="a.example") if source == "down" else None


class NothingToHook:
    def run(self, context: Any, adapters: Any) -> None:
        pass


def store(url: str, artifact_id: str | None = None) -> Any:
    """A storing function: what it is given in `RESULTS` it returns or raises."""
    result = RESULTS.pop(0)
    if isinstance(result, Exception):
        raise result
    return result


async def store_async(url: str, context: Mapping[str, Any]) -> Any:
    return store(url)


class Store:
    def keep(self, artifact_id: str) -> Any:
        return store("")

    @staticmethod
    def keep_static(artifact_id: str) -> Any:
        return store("")

    @classmethod
    def keep_class(cls, artifact_id: str) -> Any:
        return store("")


RESULTS: list[Any] = []


class Promising:
    """Calls every adapter at once, and awaits what they hand on side by side."""

    async def resolve(self, context: Mapping[str, Any], adapters: Mapping[str, Adapter]) -> list[Any]:
        promised = [adapter("policy", context) for adapter in adapters.values()]
        return await asyncio.gather(*promised)
