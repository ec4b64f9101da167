"""Limiter waits: which permits were granted, delayed or refused, and which request each of them was for.

A limiter's hook reports what it was told; here it becomes at most one acquire or block, and finds its request:

    waits.report(limiter, "api.crossref.org:metadata", granted=True, start=t0, max_delay_ms=None)

Inside a request's own frame the wait is that request's. Outside, it is left where the request will look: in the enclosing
frame, or, without one, with the task. A wait is *taken* by one request, and *told* once (its row is out); these are two
flags, since a flush may have it told before its request begins.

Refusals followed by a grant are polling, and one acquire, timed from the first refusal.
"""

import os
from contextvars import ContextVar
from time import monotonic_ns, time_ns
from typing import Any
from weakref import ref

from opentelemetry.context import Context, create_key
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext
from opentelemetry.util.types import AttributeValue

from . import emit, frames, mapping
from . import semconv as sc
from .contexts import get_current
from .frames import KEY, SPAN_KEY, HTTPFrame, at_end, left
from .hooks import fault
from .late import LateAttributes

ROLE_KEY = create_key("retrospan-role")
_SECOND = 1_000_000_000
_AT_ONCE = _SECOND // 2000  # a grant within half a millisecond is 0 ms: an event will do
_POLLING_APART = 10 * _SECOND
_POLLING_ALONE = 1 * _SECOND  # how long a refusal outside every frame waits for a grant to follow
_TAKEN_WITHIN = 60 * _SECOND
_MOST_EVENTS = 32
_SWEEPS_APART = _SECOND // 4
_NOBODY = INVALID_SPAN_CONTEXT
_MOST_LEFT = 64  # a limiter that guards no requests leaves a wait a call: the oldest of so many are for none

alone: ContextVar[tuple["Wait", ...]] = ContextVar("retrospan-waits", default=())
"""What was left outside every frame, in this task or thread."""
# What drain() tells, oldest first: grants that no request has taken, refusals that a grant may yet follow.
_granted: dict[int, "Wait"] = {}
_refused: dict[int, "Wait"] = {}
_polls: dict[frames.Poll, "Wait"] = {}
_swept = [0]  # when the last look was taken at what nobody will take: not at every call of a hook


def milliseconds(nanoseconds: int) -> int:
    """Whole milliseconds, half up."""
    return (nanoseconds + 500_000) // 1_000_000


class Wait(LateAttributes):
    """One acquire, or one final refusal, and the attributes of what tells of it."""

    def __init__(
        self,
        name: str,
        action: str,
        start: int,
        end: int,
        max_delay_ms: int | None,
        owner: frames.Owner,
        context: Context,
    ) -> None:
        self.name, self.action, self.start, self.end, self.max_delay_ms = name, action, start, end, max_delay_ms
        self.host = mapping.host_of(name)
        self.role = mapping.role_of(name) or role_in(context)
        parent: Any = context.get(SPAN_KEY)
        self.parent: SpanContext = _NOBODY if parent is None else parent.get_span_context()
        self.owner = owner
        self._untaken, self._untold = [True], [True]

    def take(self) -> bool:
        """True for the first caller only: it has the wait. (Popping a list is atomic: no lock on the caller's path.)"""
        try:
            return self._untaken.pop()
        except IndexError:
            return False

    @property
    def taken(self) -> bool:
        """Whether some request has it."""
        return not self._untaken

    @property
    def owner_is_over(self) -> bool:
        """Whether the task, thread or piece of work that waited has finished."""
        return frames.is_over(self.owner)

    def leave_to_parent(self) -> None:
        """In a forked child: what waited before the fork is the parent's to tell, though a request here may take it."""
        self._untold.clear()

    def tell(
        self,
        host: str | None = None,
        role: str | None = None,
        on: Span | None = None,
        late: LateAttributes | None = None,
    ) -> None:
        """Emit it once: as an event on its request's span when it was granted at once, else as a span with its true times."""
        try:
            self._untold.pop()
        except IndexError:
            return
        (_granted if self.action == "acquire" else _refused).pop(id(self), None)
        if self.host is None:
            self.host = host
        if self.role is None:
            self.role = role
        if on is not None and self.action == "acquire" and self.end - self.start < _AT_ONCE:
            emit.tell(sc.RATE_LIMITER_ACQUIRE, self, end=self.end, on=on, late=late)
        else:
            emit.tell(f"rate_limiter.{self.action}", self.facts(), self.start, self.end, parent=self.parent)

    def facts(self) -> dict[str, AttributeValue]:
        """What is known, and does not change once it has been told."""
        return emit.known(
            {
                sc.RATE_LIMITER_NAME: mapping.label_of(self.name),
                sc.RATE_LIMITER_DELAY_MS: milliseconds(self.end - self.start),
                sc.RATE_LIMITER_MAX_DELAY_MS: self.max_delay_ms,
                sc.SERVER_ADDRESS: self.host,
                sc.HTTP_REQUEST_ROLE: self.role,
            }
        )


def report(limiter: object, name: str, granted: bool, start: int, max_delay_ms: int | None) -> None:
    """A limiter was asked for a permit under this name at `start` (ns), and has now granted or refused it."""
    sweep()
    now = time_ns()
    context = get_current()
    frame: Any = context.get(KEY)
    hop, outermost = _around(frame)
    at = hop if hop is not None and hop.is_open else frame
    if at is not None and not at.is_open:
        at = None
    if hop is not None:
        hop.refused = not granted
    owner = frames.owner_ref()
    # Refusals live in the outermost retry frame, since a retry that asks again is polling too; else in this frame.
    holder = outermost or at
    polls = _polls if holder is None else holder.polls
    if polls or not granted:
        key = (_itself(limiter), name, owner)
        poll = polls.get(key)
        if poll is not None and start - poll.end > _POLLING_APART:
            del polls[key]
            poll.tell()
            poll = None
        if not granted:
            if poll is None:
                poll = polls[key] = Wait(name, "block", start, now, max_delay_ms, owner, context)
                poll.host = poll.host or (hop.target.host if hop is not None else None)
                _refused[id(poll)] = poll
            poll.end = now
            return
        if poll is not None:
            del polls[key]
            _refused.pop(id(poll), None)
            start = poll.start
    _leave(Wait(name, "acquire", start, now, max_delay_ms, owner, context), at)


def _itself(limiter: object) -> object:
    """What stands for a limiter, without keeping it: once it is collected, another one may have its id."""
    try:
        return ref(limiter)
    except TypeError:  # a class with slots
        return limiter


def _around(frame: frames.Frame | None) -> tuple[HTTPFrame | None, frames.Frame | None]:
    """The nearest request that a frame is inside of, and the outermost retry."""
    hop: HTTPFrame | None = None
    outermost: frames.Frame | None = None
    while frame is not None:
        kind = frame.kind
        if kind == "retry":
            if frame.is_open:
                outermost = frame
        elif kind == "http" and hop is None:
            hop = frame  # type: ignore[assignment]  # its kind says so
        frame = frame.outer
    return hop, outermost


def _leave(wait: Wait, at: frames.Frame | None) -> None:
    if isinstance(at, HTTPFrame):
        at.waits.append(wait)
        return
    _granted[id(wait)] = wait
    if at is not None:
        left_here = at.waits
        left_here.append(wait)
    else:
        left_here = [w for w in alone.get() if not w.taken]
        left_here.append(wait)
    if len(left_here) > _MOST_LEFT:
        left_here.pop(0).tell()
    if at is None:
        alone.set(tuple(left_here))


def take(hop: HTTPFrame) -> None:
    """Give a request the waits that were left for it: its own task's, the frame opener's, a finished helper's; no live
    sibling's."""
    frame = hop.outer
    while frame is not None and not isinstance(frame, HTTPFrame):
        if frame.waits:
            _take_from(frame, hop)
        frame = frame.outer
    if left_alone := alone.get():
        host, parent, earliest = hop.target.host, hop.parent.span_id, hop.started - _TAKEN_WITHIN
        recent = [wait for wait in left_alone if wait.end > earliest]
        hop.waits += [w for w in recent if w.host in (None, host) and w.parent.span_id == parent and w.take()]
        alone.set(tuple(wait for wait in recent if not wait.taken))


def _take_from(frame: frames.Frame, hop: HTTPFrame) -> None:
    for wait in list(frame.waits):
        if (
            (wait.host is None or wait.host == hop.target.host)
            and (wait.owner is hop.owner or wait.owner in (hop.owner, frame.owner) or wait.owner_is_over)
            and wait.take()
        ):
            hop.waits.append(wait)
            try:
                frame.waits.remove(wait)  # in place: another thread may just leave one
            except ValueError:  # told and gone, since the frame closes just now
                pass


def tell_taken(hop: HTTPFrame, on: Span, late: LateAttributes) -> int:
    """Tell a request's waits: those granted at once as events on its span, as many as a span takes. How long they were, ns."""
    waits, hop.waits = hop.waits, []
    host, delay = hop.target.host, 0
    for number, wait in enumerate(waits):
        wait.tell(host, hop.role, on if number < _MOST_EVENTS else None, late)
        delay += wait.end - wait.start
    return delay


def sweep() -> None:
    """Tell what nobody will take any more. Called by every hook that reports; costs nothing when there is nothing."""
    while left:
        try:
            left.popleft()()
        except Exception as error:
            fault(error)
    if (_granted or _polls) and monotonic_ns() - _swept[0] >= _SWEEPS_APART:
        _expire()


def _expire() -> None:
    _swept[0] = monotonic_ns()
    now = time_ns()
    for wait in list(_granted.values()):
        if now - wait.end > _TAKEN_WITHIN or wait.owner_is_over:
            wait.tell()
    for key, poll in list(_polls.items()):
        if now - poll.end > _POLLING_ALONE or poll.owner_is_over:
            _polls.pop(key, None)
            poll.tell()


def drain(final: bool = False) -> None:
    """Tell every grant that still waits for its request; a forced flush, shutdown, signals and fork call it first.

    A refusal may yet be followed by a grant, so it is told only when nothing can follow: `final`, at the process's end.
    """
    sweep()
    if final:
        for act in at_end:
            try:
                act()
            except Exception as error:
                fault(error)
    _expire()
    for wait in [*_granted.values(), *(_refused.values() if final else ())]:
        wait.tell()


def _leave_to_parent() -> None:
    for wait in (*_granted.values(), *_refused.values()):
        wait.leave_to_parent()
    _granted.clear()
    _refused.clear()
    _polls.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def head_skip(host: str | None, role: str | None = None) -> None:
    """A limiter was deliberately not asked, because the request was a HEAD."""
    emit.tell(
        sc.RATE_LIMITER_HEAD_SKIP, {sc.SERVER_ADDRESS: host, sc.HTTP_REQUEST_ROLE: role, sc.RATE_LIMITER_DELAY_MS: 0}
    )


def current_role() -> str | None:
    """The role that the program gave to what it does now."""
    return role_in(get_current())


def role_in(context: Context) -> str | None:
    """The role that the program gave to what it does in this context."""
    role = context.get(ROLE_KEY)
    return role if isinstance(role, str) and role in sc.ROLES else None
