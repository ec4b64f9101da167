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
from time import time_ns
from typing import TYPE_CHECKING, Any
from weakref import ref

from opentelemetry.context import Context, create_key
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext
from opentelemetry.util.types import AttributeValue

from . import emit, frames, mapping, metrics, owners
from . import semconv as sc
from .contexts import get_current
from .frames import KEY, SPAN_KEY, HTTPFrame, at_end, left
from .late import LateAttributes
from .surround import fault

if TYPE_CHECKING:
    from .asked import Asked
    from .send_facts import SendFacts

ROLE_KEY = create_key("retrospan-role")
_SECOND = 1_000_000_000
_AT_ONCE = _SECOND // 2000  # a grant within half a millisecond is 0 ms: an event will do
_POLLING_APART = 10 * _SECOND
_POLLING_ALONE = 1 * _SECOND  # how long a refusal outside every frame waits for a grant to follow
_TAKEN_WITHIN = 60 * _SECOND
_MOST_EVENTS = 32
SWEEPS_APART = _SECOND // 4
_NOBODY = INVALID_SPAN_CONTEXT
_MOST_LEFT = 64  # a limiter that guards no requests leaves a wait a call: the oldest of so many are for none

alone: ContextVar[tuple["Wait", ...]] = ContextVar("retrospan-waits", default=())
"""What was left outside every frame, in this task or thread."""
# What drain() tells, oldest first: grants that no request has taken, refusals that a grant may yet follow.
_granted: dict["Wait", None] = {}
_refused: dict["Wait", None] = {}
_TOLD = object()
_polls: dict[frames.Poll, "Wait"] = {}
swept = 0
"""When `sweep` was last called. Whoever reports asks this first: to call would cost twice as much."""


def milliseconds(nanoseconds: int) -> int:
    """Whole milliseconds, half up."""
    return (nanoseconds + 500_000) // 1_000_000


class Wait(LateAttributes):
    """One acquire, or one final refusal, and the attributes of what tells of it."""

    role: str | None = None  # what the program said at the time; the name comes first
    asked: "Asked | None" = None
    """The request that it was for."""
    untaken: list[bool]
    """Empty once a request has it; there when it was left outside every frame."""

    # Set by `report`, which makes it: a constructor would cost as much again.
    name: str
    action: str
    start: int
    end: int
    max_delay_ms: int | None
    owner: owners.Owner
    host: str | None
    span: Any

    @property
    def parent(self) -> SpanContext:
        """The span that was current when the limiter was asked."""
        return _NOBODY if self.span is None else self.span.get_span_context()

    def take(self) -> bool:
        """True for the first caller only: it has this wait, which was left outside every frame. (Popping a list is atomic: no
        lock on the caller's path. One that was left in a frame is whose who removes it there.)"""
        try:
            return self.untaken.pop()
        except IndexError:
            return False

    @property
    def owner_is_over(self) -> bool:
        """Whether the task, thread or piece of work that waited has finished."""
        return owners.is_over(self.owner)

    def tell(self, asked: "Asked | None" = None) -> None:
        """Emit it once, as a span with its true times; it was for this request."""
        if (_granted if self.action == "acquire" else _refused).pop(self, _TOLD) is not _TOLD:
            self.asked = asked
            emit.tell(f"rate_limiter.{self.action}", self.facts(), self.start, self.end, parent=self.parent)

    def facts(self) -> dict[str, AttributeValue]:
        """What is known, and does not change once it has been told."""
        host, role, asked = self.host, mapping.role_of(self.name) or self.role, self.asked
        if asked is not None:
            host, role = host or asked.host, role or asked.role
        facts: dict[str, AttributeValue] = {sc.RATE_LIMITER_DELAY_MS: milliseconds(self.end - self.start)}
        if (name := mapping.label_of(self.name)) is not None:
            facts[sc.RATE_LIMITER_NAME] = name
        if self.max_delay_ms is not None:
            facts[sc.RATE_LIMITER_MAX_DELAY_MS] = self.max_delay_ms
        if host is not None:
            facts[sc.SERVER_ADDRESS] = host
        if role is not None:
            facts[sc.HTTP_REQUEST_ROLE] = role
        return facts


def report(limiter: object, name: str, granted: bool, start: int, max_delay_ms: int | None) -> None:
    """A limiter was asked for a permit under this name at `start` (ns), and has now granted or refused it."""
    now = time_ns()
    if left or abs(now - swept) >= SWEEPS_APART:
        sweep(now)
    context = get_current()
    frame: Any = context.get(KEY)
    at, hop = frame, None
    if frame is not None:
        hop = frame.hop
        if hop is not None:
            hop.refused = not granted
            if hop.is_open:
                at = hop
        if not at.is_open:
            at = None
    wait = Wait()
    wait.name, wait.action, wait.max_delay_ms = name, "acquire" if granted else "block", max_delay_ms
    wait.start, wait.end, wait.owner = start, now, owners.owner_ref()
    wait.host, wait.span = mapping.host_of(name), context.get(SPAN_KEY)
    if ROLE_KEY in context:
        wait.role = role_in(context)
    if (_refused or not granted) and not _polled(wait, limiter, frames.outermost_retry(frame) or at, hop):
        return
    _granted[wait] = None
    if at is None:
        _leave_alone(wait)
    else:
        left_there = at.waits
        left_there.append(wait)
        if len(left_there) > _MOST_LEFT and at is not hop:
            left_there.pop(0).tell()


def _polled(wait: Wait, limiter: object, holder: frames.Frame | None, hop: "HTTPFrame | None") -> bool:
    """Whether this is a grant; it began with the first of the refusals before it. A refusal waits for a grant to follow.

    Refusals live in the outermost retry frame, since a retry that asks again is polling too; else in the frame that it is in.
    """
    polls = _polls if holder is None else holder.own_polls()
    key = (_itself(limiter), wait.name, wait.owner)
    poll = polls.get(key)
    if poll is not None and wait.start - poll.end > _POLLING_APART:
        del polls[key]
        poll.tell()
        poll = None
    if wait.action == "acquire":
        if poll is not None:
            del polls[key]
            _refused.pop(poll, None)
            wait.start = poll.start
        return True
    if poll is None:
        polls[key] = wait
        if wait.span is None and isinstance(holder, frames.RetryFrame):
            wait.span = holder.first
        wait.host = wait.host or (hop.asked.host if hop is not None else None)
        _refused[wait] = None
    else:
        poll.end = wait.end
    return False


def _itself(limiter: object) -> object:
    """What stands for a limiter, without keeping it: once it is collected, another one may have its id."""
    try:
        return ref(limiter)
    except TypeError:  # a class with slots
        return limiter


def _leave_alone(wait: Wait) -> None:
    wait.untaken = [True]
    left_here = [w for w in alone.get() if w.untaken]
    left_here.append(wait)
    if len(left_here) > _MOST_LEFT:
        left_here.pop(0).tell()
    alone.set(tuple(left_here))


def take(asked: "Asked", frame: frames.Frame) -> None:
    """Give a request the waits that were left for it in this frame: its own task's, the frame opener's, a finished helper's; no
    live sibling's."""
    left_here = frame.waits
    for wait in tuple(left_here):  # a copy: another thread may just leave one
        owner = wait.owner
        if owner is not asked.owner and owner not in (asked.owner, frame.owner) and not wait.owner_is_over:
            continue
        if wait.host is not None and wait.host != asked.url.host:
            continue
        try:
            left_here.remove(wait)
        except ValueError:  # another request was faster, or it was told, since the frame closes just now
            continue
        asked.waits.append(wait)


def take_alone(asked: "Asked") -> None:
    """Give a request the waits that its task left for it outside every frame, under the same span."""
    host, parent, earliest = asked.host, asked.parent.span_id, asked.start - _TAKEN_WITHIN
    recent = [wait for wait in alone.get() if wait.end > earliest]
    asked.waits += [w for w in recent if w.host in (None, host) and w.parent.span_id == parent and w.take()]
    alone.set(tuple(wait for wait in recent if wait.untaken))


def tell_taken(asked: "Asked", send: "SendFacts", span: Span) -> int:
    """Tell a request's waits: those granted at once by its span, as many as one takes. How long all were, ns."""
    waits, delay = asked.waits, 0
    granted: list[Wait] = []
    while waits:
        try:
            wait = waits.pop(0)
        except IndexError:  # another send of the same hop, in another thread, was faster
            break
        lasted = wait.end - wait.start
        delay += lasted
        if lasted >= _AT_ONCE or len(granted) == _MOST_EVENTS:
            if wait.span is None:
                wait.span = span  # nothing else holds the two together
            wait.tell(asked)
        elif _granted.pop(wait, _TOLD) is not _TOLD:
            # Its event is on the request's own span: whose it would be else need not live as long.
            wait.span, wait.asked = None, asked
            granted.append(wait)
    if send.was_read:
        for wait in granted:
            emit.tell(sc.RATE_LIMITER_ACQUIRE, wait, end=wait.end, on=span)
        return delay
    send.granted = granted  # whoever reads it later finds them there
    if metrics.live is not None:
        for wait in granted:
            metrics.live.told(sc.RATE_LIMITER_ACQUIRE, wait)
    return delay


def sweep(now: int) -> None:
    """Tell what nobody will take any more, and see whether a metrics reader listens. Called at `now` (ns) by every hook that
    reports, if the last time is `SWEEPS_APART` ago or something is `left` to be done; a clock may be set back."""
    global swept
    swept = now
    while left:
        try:
            left.popleft()()
        except Exception as error:
            fault(error)
    if now > metrics.next_look:
        metrics.look()
    if _granted or _polls:
        _expire(now)


def _expire(now: int) -> None:
    for wait in list(_granted):
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
    now = time_ns()
    sweep(now)
    if final:
        for act in at_end:
            try:
                act()
            except Exception as error:
                fault(error)
    _expire(now)
    for wait in [*_granted, *(_refused if final else ())]:
        wait.tell()


def _leave_to_parent() -> None:
    """In a forked child: what waited before the fork is the parent's to tell, though a request here may take it."""
    for waiting in (_granted, _refused, _polls):
        waiting.clear()


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
