"""Record that httpx-retries will send a request again.

    from retrospan_instrumentation.httpx_retries import HttpxRetriesInstrumentor
    HttpxRetriesInstrumentor().instrument()

The sends themselves are seen at the wire. What is added here is that another one is scheduled (`retry.scheduled`), and that
the row of an answer which will be retried is not kept back while the policy sleeps.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from opentelemetry import trace

from . import emit, frames, sends
from . import semconv as sc
from .hooks import LibraryInstrumentor
from .surround import Call


class HttpxRetriesInstrumentor(LibraryInstrumentor):
    """Hooks httpx-retries' `Retry.sleep` and `Retry.asleep`."""

    layer, distribution, versions = "retry", "httpx-retries", ">=0.6,<1"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"httpx_retries": self._hook}

    def _hook(self, module: ModuleType) -> None:
        self.wrap(module.Retry, "sleep", _scheduled)
        self.wrap(module.Retry, "asleep", _scheduled, asynchronous=True)


def _scheduled(retry: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    hop = frames.current_hop()
    if hop is not None and hop.is_open:
        sends.settle(hop)
    answer = args[0] if args else kwargs.get("response")
    facts: emit.Facts = {
        sc.RETRY_ATTEMPT: int(getattr(retry, "attempts_made", 1)),
        sc.ERROR_TYPE: type(answer).__name__ if isinstance(answer, BaseException) else None,
    }
    emit.tell(sc.RETRY_SCHEDULED, facts, on=trace.get_current_span())
    return None
