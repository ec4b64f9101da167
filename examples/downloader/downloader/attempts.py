"""What one source made of one artifact: the result, and the one place where exceptions become results.

    with judging(source, judge) as attempt:
        attempt.url = ...
        attempt.stored = store(...)
    attempt.result()                        # AttemptResult(outcome="success", ...)

Which exception means what is said in `faults`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .artifacts import Artifact
from .faults import Judge, Verdict
from .sources import Source
from .store import Stored

SUCCESS = Verdict("success", "stored", 200)


@dataclass(frozen=True)
class AttemptResult:
    """One attempt: `outcome` success, retryable, nonretryable, timeout, skipped, error or no_pdf; `reason` a code."""

    tier: str
    source: str
    outcome: str
    reason: str | None = None
    status: int | None = None
    elapsed_ms: int = 0
    host: str | None = None
    url: str | None = None
    stored: Stored | None = None


@dataclass
class Attempt:
    """An attempt that is under way; `url` is the last address that was asked."""

    source: Source
    url: str | None = None
    stored: Stored | None = None
    verdict: Verdict = SUCCESS
    started: float = field(default_factory=time.perf_counter)

    def result(self) -> AttemptResult:
        return AttemptResult(
            self.source.tier,
            self.source.name,
            *self.verdict,
            elapsed_ms=round((time.perf_counter() - self.started) * 1000),
            host=urlsplit(self.url).hostname if self.url else None,
            url=self.url,
            stored=self.stored,
        )


@contextmanager
def judging(source: Source, judge: Judge) -> Iterator[Attempt]:
    """An attempt whose exceptions, but for cancellation and exit, become its verdict."""
    attempt = Attempt(source)
    try:
        yield attempt
    except Exception as error:
        attempt.verdict = judge.verdict(error)


@dataclass(frozen=True)
class Resolution:
    """All attempts for one artifact; `stored` is what the last of them stored, if any."""

    artifact: Artifact
    attempts: tuple[AttemptResult, ...]

    @property
    def stored(self) -> Stored | None:
        return self.attempts[-1].stored if self.attempts else None


def context_of(artifact: Artifact) -> Mapping[str, Any]:
    """What orchestrator and adapters are told about an artifact."""
    return {"artifact_id": artifact.artifact_id, "work_id": artifact.work_id, "artifact": artifact}
