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
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from . import emit, frames, sends
from . import semconv as sc
from .frames import HTTPFrame, RetryFrame
from .hooks import Call, LibraryInstrumentor


class TenacityInstrumentor(LibraryInstrumentor):
    """Hooks tenacity's retrying classes."""

    layer, distribution, versions = "retry", "tenacity", ">=8.5,<10"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"tenacity": self._hook}

    def _hook(self, module: ModuleType) -> None:
        def iterated(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            return _Iteration(module, instance, args[0] if args else kwargs["retry_state"])

        self.wrap(module.Retrying, "__call__", _enter_call)
        self.wrap(module.BaseRetrying, "iter", iterated)
        manager = module.AttemptManager
        self.wrap(manager, "__enter__", _enter_attempt)
        self.wrap(manager, "__exit__", _leave_attempt)
        self.wrap(manager, "__aenter__", _enter_attempt, asynchronous=True)
        # `__aexit__` needs no hook: it calls `__exit__`.
        if hasattr(module, "AsyncRetrying"):
            self.wrap(module.AsyncRetrying, "__call__", _enter_call, asynchronous=True)
            self.wrap(module.AsyncRetrying, "iter", iterated, asynchronous=True)


def _open(frame: RetryFrame) -> None:
    """Enter; with a span of its own where nothing else would hold the attempts together."""
    if not trace.get_current_span().is_recording() and frames.nearest(HTTPFrame, frame.outer) is None:
        frame.span = emit.tracer().start_span(sc.SPAN_RETRY, kind=SpanKind.INTERNAL)
    frame.enter(span=frame.span)


def _close(frame: RetryFrame) -> None:
    frame.close()
    span, frame.span = frame.span, None
    if span is not None:
        span.end()


class _RetryingCall(Call):
    def __init__(self, retrying: Any) -> None:
        self._frame = RetryFrame(id(retrying))
        _open(self._frame)

    def returned(self, result: Any) -> Any:
        self._frame.leave()
        _close(self._frame)
        return result

    def raised(self, error: BaseException) -> None:
        self.returned(None)


def _enter_call(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return _RetryingCall(instance)


class _Iteration(Call):
    """One step of the policy: it says what comes next, an attempt, a wait or the end."""

    def __init__(self, module: ModuleType, retrying: Any, state: Any) -> None:
        self._module, self._retrying, self._state = module, retrying, state

    def returned(self, result: Any) -> Any:
        if isinstance(result, self._module.DoAttempt):
            current = frames.current()
            if isinstance(current, RetryFrame) and current.of == id(self._retrying):
                current.begin_attempt(self._state.attempt_number)
        elif isinstance(result, self._module.DoSleep):
            self._scheduled(float(result))
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


class _AttemptEntered(Call):
    """The loop form: one frame a loop, kept on the loop's state, entered again for each attempt."""

    def __init__(self, manager: Any) -> None:
        state = manager.retry_state
        frame = state.__dict__.get("_retrospan_frame")
        if frame is None:
            frame = state.__dict__["_retrospan_frame"] = RetryFrame(id(state))
        frame.is_open = True
        frame.begin_attempt(state.attempt_number)
        if frame.span is None:
            _open(frame)
        else:
            frame.enter(span=frame.span)

    def returned(self, result: Any) -> Any:
        return result

    def raised(self, error: BaseException) -> None:
        pass


def _enter_attempt(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return _AttemptEntered(instance)


class _AttemptLeft(Call):
    """A clean end of the `with` block is the loop's end; after an exception the policy decides."""

    def __init__(self, manager: Any, clean: bool) -> None:
        frame = manager.retry_state.__dict__.get("_retrospan_frame")
        if frame is not None:
            frame.leave()
            if clean:
                _close(frame)

    def returned(self, result: Any) -> Any:
        return result

    def raised(self, error: BaseException) -> None:
        pass


def _leave_attempt(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    return _AttemptLeft(instance, clean=not args or args[0] is None)
