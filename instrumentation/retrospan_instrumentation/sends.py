"""One send of one request: its span, its facts, its body, and who still holds it.

The wire hook makes a `Send` when a request goes out; the client hook makes one after the fact for an answer, or an error,
that no wire gave. A span ends when its body is over and nobody holds it: the hop until it knows which send's response the
client got, and the breaker outside until it has decided. It then ends with its true end time.

Nothing here takes a lock: what only one thread may do is claimed by taking it out of a list or a set, which is atomic.
"""

import os
from time import time_ns
from typing import Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    INVALID_SPAN_CONTEXT,
    Span,
    SpanKind,
    Status,
    StatusCode,
    set_span_in_context,
)

from . import emit, metrics, resends, waits
from . import semconv as sc
from .asked import Asked
from .contexts import get_current
from .frames import (
    SPAN_KEY,
    AttemptFrame,
    BreakerFrame,
    CacheAnswer,
    Frame,
    HTTPFrame,
    RetryFrame,
    Target,
    at_end,
)
from .headers import listed
from .retry_after import retry_after
from .send_facts import METHODS, SendFacts

_OK = 200
_NOT_MODIFIED = 304
_BODILESS = (204, _NOT_MODIFIED)
_CONFIRMED = CacheAnswer(hit=True, revalidated=True, stale=False)
_CLIENT = SpanKind.CLIENT
_ERROR = Status(StatusCode.ERROR)

Around = tuple[RetryFrame | None, resends.Path, BreakerFrame | None, AttemptFrame | None, bool]
"""What a send is inside of: the outermost open retry frame and the way from it inward, the nearest breaker, the nearest
attempt, and whether that breaker decides: no retry frame lies between."""
_NOTHING: Around = (None, (), None, None, False)


def is_retryable(status: int) -> bool:
    """The statuses after which clients send again: 429 and 5xx."""
    return status == 429 or status >= 500


_S = TypeVar("_S", bound="Send")
# Those whose span has not ended: at the process's end some never would.
_open: set["Send"] = set()


class Send(SendFacts):
    """One send: when it begins, its answer, its end, and who holds it until then."""

    # What a later send asks of it: what the client asked for, the attempts that it was made in, what the first one in its
    # attempt had, whether it was sent at all, and failed by a 429, a 5xx or an exception: what a client retries.
    asked: Asked
    path: resends.Path
    base = 0
    was_sent = True
    has_failed = False
    hop: HTTPFrame | None  # while it may turn out to be, or not to be, the one whose response the client gets

    def __init__(
        self,
        asked: Asked,
        target: Target,
        start: int,
        wire: bool | None,
        outer: Frame | None,
        context: Context,
        hop: HTTPFrame | None = None,
        is_send: bool = True,
    ) -> None:
        """A send begins, inside these frames; `hop` is its hop's, where that may have several sends."""
        self.asked, self.target, self.role = asked, target, asked.role
        self.start, self.wire = start, wire
        # What is asked of every send is set here: to find a class's default costs more than that.
        self.end = self.error = self.hop = None
        self.was_read = self.has_failed = False
        self.holds: Any = ()  # a list, once there is one
        outermost, self.path, breaker, self.attempt, decides = (
            _NOTHING if outer is None else around(outer, asked if hop is None else None)
        )
        resends.count(self, hop, outermost, is_send)
        # Where no span is current, a retrying call's requests hang on the first of those.
        together = outermost if outermost is not None and SPAN_KEY not in context else None
        if together is not None and together.first is not None:
            context = set_span_in_context(together.first, context)
        self.span: Span = (asked.tracer or emit.tracer).start_span(
            target.method if target.method in METHODS else "HTTP", context, _CLIENT, self, start_time=start
        )
        if together is not None and together.first is None:
            together.first = self.span
        if asked.waits:
            self.delay = waits.tell_taken(asked, self, self.span)
        if hop is not None and hop.breaker is not None and not wire:
            self.breaker_state, self.breaker_recorded = hop.breaker
        elif breaker is not None:  # the nearest gives the state; it decides the outcome too, if no retry lies between
            self.breaker_state = breaker.state
            breaker.target = target
            if decides and breaker.is_open:
                breaker.hold(self)
        _open.add(self)

    def hold(self, by: object) -> None:
        """Not to end before this one lets go, too. Called by the thread that begins it alone."""
        if self.holds:
            self.holds.append(by)
        else:
            self.holds = [by]

    def headers(self, response: Any, now: int) -> None:
        """The response's headers are in, at `now` (ns)."""
        self.status = status = response.status_code
        self.ttfb = now - self.start
        if status != _OK:
            if is_retryable(status):
                resends.fail(self)
            self.retry_after = retry_after(response.headers, status)
        self.protocol = response.extensions.get("http_version")
        attempt = self.attempt
        if attempt is not None:
            attempt.last_status, attempt.last_host = status, self.target.host

    def received(self, response: Any, cache: CacheAnswer | None) -> None:
        """The client received this send's response, from this cache if from one."""
        if cache is None and self.status == _NOT_MODIFIED and response.status_code != _NOT_MODIFIED:
            cache = _CONFIRMED  # by a cache that no hook knows: what it kept, the server has just confirmed
        if cache is not None:
            if metrics.live is not None:
                self._measure_cache(metrics.live, cache)
            if cache.hit or not self.wire:
                self.cache = cache
        self.answers(response)

    def answers(self, response: Any) -> None:
        """This is the response that the client received."""
        self.hop_last = True
        if self.role is None and 200 <= response.status_code < 300:
            self.answer = tuple(listed(response.headers))

    def finish(
        self, now: int, error: str | None = None, body_end: str | None = None, body_bytes: int | None = None
    ) -> None:
        """The send is over, body and all, at `now` (ns); only the first call counts."""
        if self.end is not None:
            return
        self.end = now
        self.body_bytes = body_bytes
        if error is not None:
            self.error = error
            resends.fail(self)
        if body_end is not None:
            if not self._has_no_body():
                self.body_end = body_end
            hop = self.hop
            if body_end == "closed" and hop is not None and hop.is_open and self.status != _NOT_MODIFIED:
                # Closed unread inside the transport: the client cannot get it any more. (A cache closes the 304 that
                # confirmed it.)
                self.let_go(hop)
        if not self.holds:
            self._end()

    def _has_no_body(self) -> bool:
        """Whether there is nothing that could have been read to its end."""
        return self.status in _BODILESS or self.target.method == "HEAD"

    @property
    def is_settled(self) -> bool:
        """Whether its response or its error is known."""
        return self.status is not None or self.end is not None

    def let_go(self, hop: HTTPFrame) -> None:
        """The hop knows that this send is not, or is, the one whose response the client gets."""
        try:
            hop.sends.remove(self)
        except ValueError:
            return
        self.release()

    def release(self) -> None:
        """One of those who held it lets go."""
        holds = self.holds
        if holds:
            holds.pop()
        if self.end is not None and not holds:
            self._end()

    def _end(self) -> None:
        """It is over, and nobody holds it: end its span, once."""
        try:
            _open.remove(self)
        except KeyError:  # another thread was faster, or this is a fork's child: it is the parent's to end
            return
        self.is_open = False
        span, status = self.span, self.status
        if self.was_read and span.is_recording():
            span.set_attributes(self._attributes())
        if (self.error is not None or (status is not None and status >= 400)) and span.is_recording():
            span.set_status(_ERROR)
        span.end(self.end)
        # The span may keep this until it is exported: nothing of the call stays alive by it, nor the span by itself.
        self.hop = self.attempt = None
        self.span = INVALID_SPAN
        if metrics.live is not None and self.wire:
            self._measure(metrics.live)

    def _measure(self, live: metrics.Instruments) -> None:
        taken = self.ttfb if self.ttfb is not None else (self.end or self.start) - self.start
        live.told(sc.HTTP_REQUEST, self._identity() | self._outcome(), taken / 1e9)

    def _measure_cache(self, live: metrics.Instruments, cache: CacheAnswer) -> None:
        said = "stale" if cache.stale else "revalidated" if cache.revalidated else "hit" if cache.hit else "miss"
        facts = {
            sc.SERVER_ADDRESS: self.target.host,
            sc.HTTP_REQUEST_ROLE: self.role_said(),
            sc.HTTP_CACHE_RESULT: said,
        }
        live.told(sc.HTTP_CACHE, facts)


def around(frame: Frame | None, asked: Asked | None) -> Around:
    """What a send is inside of, as seen from this frame outward; on the way a request gets the waits that were left for it."""
    outermost: RetryFrame | None = None
    path: resends.Path = ()
    breaker: BreakerFrame | None = None
    attempt: AttemptFrame | None = None
    decides = True
    while frame is not None:
        if isinstance(frame, RetryFrame):
            if frame.is_open:
                outermost, path = frame, ((frame.serial, frame.attempt), *path)
            if breaker is None:
                decides = False
        elif isinstance(frame, BreakerFrame):
            if breaker is None:
                breaker = frame
        elif isinstance(frame, AttemptFrame):
            if attempt is None:
                attempt = frame
        elif isinstance(frame, HTTPFrame):
            asked = None  # what is left in there is that request's
        if asked is not None and frame.waits:
            waits.take(asked, frame)
        frame = frame.outer
    return outermost, path, breaker, attempt, decides


def begin(request: Any, hop: HTTPFrame, frame: Frame, context: Context, make: type[_S]) -> _S:
    """The wire hook's part: a request goes out now, in this innermost frame. Whatever went before in this hop is not what
    its client gets."""
    if hop.sends and hop.is_open:
        settle(hop)
    method, url = request.method, request.url
    target: Target = hop.asked
    if (url is not target.url and url != target.url) or method != target.method:
        target = Target(method, url)  # a transport between sends elsewhere: the row is of where it went
    outer = frame if frame is not hop else hop.outer
    send = make(hop.asked, target, time_ns(), True, outer, context, hop)
    send.hop = hop
    if hop.is_open:
        send.hold(hop)
        hop.sends.append(send)
        if not hop.is_open:  # it was concluded meanwhile, in another thread
            send.let_go(hop)
    return send


def settle(hop: HTTPFrame) -> None:
    """The hop goes on after these answers: let go of the sends that have theirs."""
    for send in list(hop.sends):
        if send.is_settled:
            send.let_go(hop)


def conclude(hop: HTTPFrame, response: Any, error: BaseException | None, carried: Send | None) -> Send | None:
    """The client hook's part: the hop is over. Which send did the client get, and was it a cache's answer?

    `carried` is the send whose body the response carries, if that can be seen. Returns a send made after the fact, whose
    body is still to be followed, or None.
    """
    hop.is_open = False
    cache = hop.cache if response is not None else None
    answered_alone = cache is not None and cache.hit and not cache.revalidated
    late: Send | None = None
    if answered_alone or not hop.sent:
        late = _after_the_fact(hop, response, error, cache if answered_alone else None)
    elif response is not None:
        winner = carried if carried is not None else hop.sends[-1] if hop.sends else None
        if winner is not None and winner.is_open:
            winner.received(response, cache)
    while hop.sends:
        try:
            send = hop.sends.pop()
        except IndexError:  # another thread was faster
            break
        send.release()
    resends.leave_last(hop)
    if hop.waits or hop.polls:
        hop.close()
    return late


def _after_the_fact(
    hop: HTTPFrame, response: Any, error: BaseException | None, cache: CacheAnswer | None
) -> Send | None:
    now = time_ns()
    asked = hop.asked
    start = (hop.cache_started or asked.start) if response is not None else asked.start
    wire = False if cache is not None else None
    context = get_current()
    if asked.parent is not INVALID_SPAN_CONTEXT:
        context = emit.below(asked.parent, context)
    is_send = response is not None or not hop.refused
    send = Send(asked, asked, start, wire, hop.outer, context, hop, is_send)
    if response is None:
        send.finish(now, error=type(error).__name__)
        return None
    send.received(response, cache)
    send.headers(response, now)
    return send


def _end_open() -> None:
    """The process ends: a body that was not read to its end is abandoned, and no breaker decides any more."""
    now = time_ns()
    for send in list(_open):
        send.holds = ()
        if send.is_settled:
            send.finish(now, body_end="abandoned")
            send.release()


at_end.append(_end_open)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)
