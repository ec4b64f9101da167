"""Record what tenacity retries.

    from retrospan_instrumentation.tenacity import TenacityInstrumentor
    TenacityInstrumentor().instrument()

Hooks the calling form (`Retrying.__call__`, so decorated functions too) and the loop form (`for attempt in Retrying()`),
sync and async. The frame says which attempt a request belongs to; stamina is covered, being built on tenacity.

Most calls succeed at once and pay for their frame alone. One that retries has a span, where no other is there to hold its
attempts together: it begins with the first wait. A retry is seen where its wait begins, in
`RetryCallState.prepare_for_next_attempt`, which every form calls, and a program that drives `iter` itself. When the wait is
over, or a loop is, only `iter` tells.
"""

from collections.abc import Callable, Mapping
from functools import partial
from time import time_ns
from types import ModuleType
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span

from . import emit, frames, sends
from . import semconv as sc
from .contexts import attach, get_current
from .frames import RetryFrame
from .hooks import LibraryInstrumentor
from .surround import Call

_LOOP = "_retrospan_loop"


class TenacityInstrumentor(LibraryInstrumentor):
    """Hooks tenacity's retrying classes."""

    layer, distribution, versions = "retry", "tenacity", ">=8.5,<10"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"tenacity": self._hook}

    def _hook(self, module: ModuleType) -> None:
        iterated = partial(_iterated, module.DoSleep)
        self.wrap(module.Retrying, "__call__", _Retrying)
        self.wrap(module.BaseRetrying, "iter", iterated, choose=_after_first)
        self.wrap(module.RetryCallState, "prepare_for_next_attempt", _scheduled)
        manager = module.AttemptManager
        self.wrap(manager, "__enter__", _enter_attempt)
        self.wrap(manager, "__exit__", _leave_attempt)
        self.wrap(manager, "__aenter__", _enter_attempt, asynchronous=True)
        # `__aexit__` needs no hook: it calls `__exit__`.
        if hasattr(module, "AsyncRetrying"):
            self.wrap(module.AsyncRetrying, "__call__", _Retrying, asynchronous=True)
            self.wrap(module.AsyncRetrying, "iter", iterated, asynchronous=True, choose=_after_first)


def _after_first(function: Callable[..., Any], hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook, but for the first attempt of a call: most have no other, and what the policy says of it is not for us."""

    def iterated(retrying: Any, retry_state: Any) -> Any:
        if retry_state.attempt_number == 1 and retry_state.fn is not None:
            return function(retrying, retry_state)
        return hook(retrying, retry_state)

    return iterated


def _iterated(sleep: type, retrying: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    state = args[0] if args else kwargs["retry_state"]
    if state.outcome is not None:
        loop = _loop_of(state)
        return None if loop is None else _Decision(sleep, loop)
    # Nothing has been tried since the last step: an attempt comes next. It begins after the wait and no sooner: until then,
    # what the last one left running sends for that. A call's frame begins with the first.
    if state.attempt_number > 1 and (frame := _frame_of(retrying)) is not None:
        frame.begin_attempt(state.attempt_number)
    return None


def _frame_of(retrying: Any) -> RetryFrame | None:
    """The frame of a call of this policy, if that is the current one."""
    frame = frames.current()
    return frame if isinstance(frame, RetryFrame) and frame.of == id(retrying) else None


class _Loop:
    """The frame of a loop, kept on the loop's state. A loop left by `break` or a cancellation is over when that is collected.

    (The frame may live on for as long as a thread that was started inside.)
    """

    def __init__(self, frame: RetryFrame) -> None:
        self.frame = frame

    def __del__(self) -> None:
        if self.frame.is_open:
            frames.left.append(partial(self.frame.close, time_ns()))


def _loop_of(state: Any) -> RetryFrame | None:
    """The frame of the loop that this state is of."""
    loop = state.__dict__.get(_LOOP)
    return None if loop is None else loop.frame


class _Retrying(RetryFrame):
    """The frame of a call, or a loop, of a policy, and what surrounds the call."""

    def returned(self, result: Any) -> Any:
        self.close()
        return result

    def raised(self, error: BaseException) -> None:
        self.close()


def _span_of(frame: RetryFrame) -> Span:
    """The span of a call that is made again where no other holds its attempts together. It begins with the first wait, in the
    trace of the first request; most calls need none."""
    if frame.span is None:
        frame.span = emit.tracer.start_span(sc.SPAN_RETRY, emit.held_together(get_current(), frame))
        if frames.current() is frame:
            attach(trace.set_span_in_context(frame.span))
    return frame.span


class _Decision:
    """The policy's word on an attempt of a loop: a wait, or the loop's end."""

    def __init__(self, sleep: type, loop: RetryFrame) -> None:
        self._sleep, self._loop = sleep, loop

    def returned(self, result: Any) -> Any:
        if not isinstance(result, self._sleep):
            self._loop.close()
        return result

    def raised(self, error: BaseException) -> None:
        self._loop.close()


def _scheduled(state: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A wait begins, and another attempt comes after it."""
    outcome = state.outcome
    facts: emit.Facts = {
        sc.RETRY_ATTEMPT: state.attempt_number,
        sc.RETRY_WAIT: None if state.next_action is None else float(state.upcoming_sleep),
        sc.ERROR_TYPE: type(outcome.exception()).__name__ if outcome is not None and outcome.failed else None,
    }
    span, hop = trace.get_current_span(), frames.current_hop()
    frame = _loop_of(state)
    if frame is not None:
        frame.is_open = True  # it may go on after a clean end, which looked like its last
    else:
        frame = _frame_of(state.retry_object)
    if frame is not None and frame.is_open and hop is None and not span.is_recording():
        span = _span_of(frame)
    emit.tell(sc.RETRY_SCHEDULED, facts, on=span)
    if hop is not None and hop.is_open:
        sends.settle(hop)  # it will be sent again: do not keep the row back while the policy sleeps


def _enter_attempt(manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The loop form: one frame a loop, kept on the loop's state, entered again for each attempt."""
    state = manager.retry_state
    frame = _loop_of(state)
    if frame is None:
        frame = _Retrying(state)
        state.__dict__[_LOOP] = _Loop(frame)
    else:
        frame.is_open = True
        frame.enter(frame.span)
    frame.begin_attempt(state.attempt_number)


def _leave_attempt(manager: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A clean end of the `with` block is the loop's end; after an exception the policy decides."""
    loop = _loop_of(manager.retry_state)
    if loop is not None:
        if not args or args[0] is None:
            loop.close()
        else:
            loop.leave()
