"""Record what tenacity retries.

    from retrospan_instrumentation.tenacity import TenacityInstrumentor
    TenacityInstrumentor().instrument()

Hooks the calling form (`Retrying.__call__`, so decorated functions too) and the loop form (`for attempt in Retrying()`),
sync and async. The frame says which attempt a request belongs to; stamina is covered, being built on tenacity.
"""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from . import emit, frames, sends
from . import semconv as sc
from .contexts import get_current
from .frames import SPAN_KEY, HTTPFrame, RetryFrame
from .hooks import Call, LibraryInstrumentor


class TenacityInstrumentor(LibraryInstrumentor):
    """Hooks tenacity's retrying classes."""

    layer, distribution, versions = "retry", "tenacity", ">=8.5,<10"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"tenacity": self._hook}

    def _hook(self, module: ModuleType) -> None:
        sleep = module.DoSleep

        def iterated(retrying: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
            state = args[0] if args else kwargs["retry_state"]
            if state.outcome is not None:
                return _Iteration(sleep, state)
            # Nothing has been tried since the last step: an attempt comes next. A call's frame begins with the first.
            if state.attempt_number == 1:
                return None
            frame = frames.current()
            if isinstance(frame, RetryFrame) and frame.of == id(retrying):
                frame.begin_attempt(state.attempt_number)
            return None

        self.wrap(module.Retrying, "__call__", _Retrying)
        self.wrap(module.BaseRetrying, "iter", iterated)
        manager = module.AttemptManager
        self.wrap(manager, "__enter__", _enter_attempt)
        self.wrap(manager, "__exit__", _leave_attempt)
        self.wrap(manager, "__aenter__", _enter_attempt, asynchronous=True)
        # `__aexit__` needs no hook: it calls `__exit__`.
        if hasattr(module, "AsyncRetrying"):
            self.wrap(module.AsyncRetrying, "__call__", _Retrying, asynchronous=True)
            self.wrap(module.AsyncRetrying, "iter", iterated, asynchronous=True)


def _open(frame: RetryFrame, context: Context) -> None:
    """Enter; with a span of its own where nothing else would hold the attempts together."""
    current: Any = context.get(SPAN_KEY)
    if (current is None or not current.is_recording()) and (
        frame.outer is None or frames.nearest(HTTPFrame, frame.outer) is None
    ):
        frame.span = emit.tracer().start_span(sc.SPAN_RETRY, context, SpanKind.INTERNAL)
    frame.enter(frame.span, context)


def _close(frame: RetryFrame) -> None:
    frame.close()
    span, frame.span = frame.span, None
    if span is not None:
        span.end()


class _Retrying(RetryFrame):
    """One call of a policy: the frame, and what surrounds the call."""

    def __init__(self, retrying: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        context = get_current()
        super().__init__(id(retrying), context)
        _open(self, context)

    def returned(self, result: Any) -> Any:
        self.leave()
        _close(self)
        return result

    def raised(self, error: BaseException) -> None:
        self.leave()
        _close(self)


class _Iteration:
    """The policy's word on an outcome: a wait, or the end."""

    def __init__(self, sleep: type, state: Any) -> None:
        self._sleep, self._state = sleep, state

    def returned(self, result: Any) -> Any:
        if isinstance(result, self._sleep):
            self._scheduled(float(result))  # type: ignore[arg-type]  # tenacity's DoSleep is a float
        else:
            _end_loop(self._state)
        return result

    def raised(self, error: BaseException) -> None:
        _end_loop(self._state)

    def _scheduled(self, wait: float) -> None:
        attributes: dict[str, AttributeValue] = {sc.RETRY_ATTEMPT: self._state.attempt_number, sc.RETRY_WAIT: wait}
        outcome = self._state.outcome
        if outcome is not None and outcome.failed:
            attributes[sc.ERROR_TYPE] = type(outcome.exception()).__name__
        emit.tell(sc.RETRY_SCHEDULED, attributes, on=trace.get_current_span())
        hop = frames.nearest(HTTPFrame)
        if hop is not None and hop.is_open:
            sends.settle(hop)  # it will be sent again: do not keep the row back while the policy sleeps


def _end_loop(state: Any) -> None:
    frame = state.__dict__.get("_retrospan_frame")
    if frame is not None:
        _close(frame)


def _enter_attempt(manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The loop form: one frame a loop, kept on the loop's state, entered again for each attempt."""
    state = manager.retry_state
    frame = state.__dict__.get("_retrospan_frame")
    if frame is None:
        frame = state.__dict__["_retrospan_frame"] = RetryFrame(id(state))
    frame.is_open = True
    frame.begin_attempt(state.attempt_number)
    if frame.span is None:
        _open(frame, get_current())
    else:
        frame.enter(frame.span)


def _leave_attempt(manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A clean end of the `with` block is the loop's end; after an exception the policy decides."""
    frame = manager.retry_state.__dict__.get("_retrospan_frame")
    if frame is not None:
        frame.leave()
        if not args or args[0] is None:
            _close(frame)
