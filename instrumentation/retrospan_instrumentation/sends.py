"""One send of one request: its span, its facts, its body, and who still holds it.

The wire hook makes a `Send` when a request goes out; the client hook makes one after the fact for an answer, or an error,
that no wire gave. A span ends when its body is over and nobody holds it: the hop until it knows which send's response the
client got, and the breaker outside until it has decided. It then ends with its true end time.

Nothing here takes a lock: what only one thread may do is claimed by popping a list, which is atomic.
"""

import os
from time import time_ns
from typing import Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from . import emit, mapping, metrics, resends, waits
from . import semconv as sc
from .contexts import get_current
from .frames import AttemptFrame, BreakerFrame, CacheAnswer, Frame, HTTPFrame, RetryFrame, Target, at_end
from .late import LateAttributes
from .retry_after import retry_after
from .urls import url_hash

_METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY"))
_OK = 200
_NOT_MODIFIED = 304
_BODILESS = (204, _NOT_MODIFIED)
_CONFIRMED = CacheAnswer(hit=True, revalidated=True, stale=False)
_ERROR = Status(StatusCode.ERROR)
_NO_RETRIES: list[RetryFrame] = []


def is_retryable(status: int) -> bool:
    """The statuses after which clients send again: 429 and 5xx."""
    return status == 429 or status >= 500


_S = TypeVar("_S", bound="Send")
# Those whose span has not ended: at the process's end some never would.
_open: set["Send"] = set()


class Send(LateAttributes):
    """One send, and its span's attributes. `wire`: True on the wire, False answered by a cache without, None unknown."""

    # What most sends never learn stands here: a send is made for every request, and each store counts.
    end: int | None = None
    status: int | None = None
    ttfb: int | None = None
    delay: int | None = None
    retry_wait: int | None = None
    retry_after: float | None = None
    error: str | None = None
    body_bytes: int | None = None
    body_end: str | None = None
    protocol: bytes | None = None
    attempt: AttemptFrame | None = None
    resend_count = 0
    retry_source: str | None = None
    breaker_state: str | None = None
    breaker_recorded: str | None = None
    cache: CacheAnswer | None = None  # on the wire that goes without saying: no cache answered
    hop_last = False

    def __init__(
        self,
        hop: HTTPFrame,
        frame: Frame,
        start: int,
        wire: bool | None,
        context: Context,
        target: Target,
        is_send: bool,
    ) -> None:
        self.hop: HTTPFrame | None = hop
        self.target = target
        self.start, self.wire, self.role = start, wire, hop.role
        self.holds: list[object] = []
        self._unended = [True]
        if frame is hop and hop.outer is None:
            retries, breaker, decides = _NO_RETRIES, None, False
        else:
            retries, breaker, attempt, decides = _around(frame if frame is not hop else hop.outer)
            if attempt is not None:
                self.attempt = attempt
        count, source, before, self.past = resends.count(hop, retries, is_send)
        if count:
            self.resend_count, self.retry_source = count, source
            if before is not None and before.end is not None:
                self.retry_wait = max(0, start - before.end)
        self.span: Span = (hop.tracer or emit.tracer()).start_span(
            target.method if target.method in _METHODS else "HTTP",
            context,
            SpanKind.CLIENT,
            self,
            start_time=start,
        )
        if hop.waits:
            self.delay = waits.tell_taken(hop, self.span, self)
        if breaker is not None or (hop.breaker is not None and not wire):
            self._hear_breaker(hop, breaker, decides)
        _open.add(self)

    def _hear_breaker(self, hop: HTTPFrame, breaker: BreakerFrame | None, decides: bool) -> None:
        """The nearest breaker gives the state; it decides the outcome too, unless a retry frame lies between."""
        if not self.wire and hop.breaker is not None:
            self.breaker_state, self.breaker_recorded = hop.breaker
        elif breaker is not None:
            self.breaker_state, self.breaker_recorded = breaker.state, "none"
            breaker.host = self.target.host
            if decides and breaker.is_open:
                breaker.hold(self)

    def headers(self, response: Any, now: int) -> None:
        """The response's headers are in, at `now` (ns)."""
        past = self.past
        self.status = past.status = status = response.status_code
        self.ttfb, past.end = now - self.start, now
        past.failed = False
        if status != _OK:
            if is_retryable(status):
                past.fail()
            self.retry_after = retry_after(response.headers, status)
        self.protocol = response.extensions.get("http_version")
        attempt = self.attempt
        if attempt is not None:
            attempt.last_status, attempt.last_host = status, self.target.host

    def received(self, response: Any, cache: CacheAnswer | None) -> None:
        """The client received this send's response, from this cache if from one."""
        self.hop_last = True
        if cache is None and self.status == _NOT_MODIFIED and response.status_code != _NOT_MODIFIED:
            cache = _CONFIRMED  # by a cache that no hook knows: what it kept, the server has just confirmed
        if cache is not None and metrics.live is not None:
            self._measure_cache(metrics.live, cache)
        if cache is not None and (cache.hit or not self.wire):
            self.cache = cache
        if self.role is None and 200 <= response.status_code < 300:
            self.role = mapping.role_of_media_type(response.headers.get("content-type"))

    def finish(
        self, now: int, error: str | None = None, body_end: str | None = None, body_bytes: int | None = None
    ) -> None:
        """The send is over, body and all, at `now` (ns); only the first call counts."""
        if self.end is not None:
            return
        self.end = self.past.end = now
        self.body_bytes = body_bytes
        if error is not None:
            self.error = error
            self.past.fail()
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
    def is_open(self) -> bool:
        """Whether its span has not ended yet."""
        return bool(self._unended)

    @property
    def is_settled(self) -> bool:
        """Whether its response or its error is known."""
        return self.status is not None or self.end is not None

    def leave_to_parent(self) -> None:
        """In a forked child: the span is the parent's to end."""
        self._unended.clear()

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
            self._unended.pop()
        except IndexError:
            return
        span = self.span
        if self.was_read and span.is_recording():
            span.set_attributes(self._attributes())
        if (self.error is not None or (self.status is not None and self.status >= 400)) and span.is_recording():
            span.set_status(_ERROR)
        span.end(self.end)
        # The span may keep this until it is exported: nothing of the call stays alive by it, nor the span by itself.
        self.hop = None
        if self.attempt is not None:
            self.attempt = None
        self.span = INVALID_SPAN
        _open.discard(self)
        if metrics.live is not None and self.wire:
            self._measure(metrics.live)

    def _measure(self, live: metrics.Instruments) -> None:
        taken = self.ttfb if self.ttfb is not None else (self.end or self.start) - self.start
        live.told(sc.HTTP_REQUEST, self._identity() | self._outcome(), taken / 1e9)

    def _measure_cache(self, live: metrics.Instruments, cache: CacheAnswer) -> None:
        said = "stale" if cache.stale else "revalidated" if cache.revalidated else "hit" if cache.hit else "miss"
        facts = {sc.SERVER_ADDRESS: self.target.host, sc.HTTP_REQUEST_ROLE: self.role, sc.HTTP_CACHE_RESULT: said}
        live.told(sc.HTTP_CACHE, facts)

    def facts(self) -> dict[str, AttributeValue]:
        """What is known: until the span ends, that with which it starts."""
        facts = self._identity()
        if self._unended:
            self.was_read = True
        else:
            facts |= self._attributes()
        return facts

    def _identity(self) -> dict[str, AttributeValue]:
        """What a sampler may decide by: the conventions ask for it at the span's start."""
        target = self.target
        return {
            sc.HTTP_REQUEST_METHOD: target.method if target.method in _METHODS else "_OTHER",
            sc.SERVER_ADDRESS: target.host,
            sc.SERVER_PORT: target.port,
            sc.URL_SCHEME: target.scheme,
        }

    def _outcome(self) -> dict[str, AttributeValue]:
        facts: dict[str, AttributeValue] = {}
        status = self.status
        if status is not None:
            facts[sc.HTTP_RESPONSE_STATUS_CODE] = status
            if status >= 400:
                facts[sc.ERROR_TYPE] = str(status)
        if self.error is not None:
            facts[sc.ERROR_TYPE] = self.error
        return facts

    def _attributes(self) -> dict[str, AttributeValue]:
        """What is known. Written out by cases, since this runs for every request, and most are answered plainly."""
        facts = self._outcome()
        facts[sc.URL_HASH] = url_hash(self.target.address)
        facts[sc.HTTP_REQUEST_HOP_LAST] = self.hop_last
        facts[sc.HTTP_REQUEST_RESEND_COUNT] = self.resend_count
        if self.wire is not None:
            facts[sc.HTTP_REQUEST_WIRE] = self.wire
        if self.role is not None:
            facts[sc.HTTP_REQUEST_ROLE] = self.role
        if self.body_bytes is not None:
            facts[sc.HTTP_RESPONSE_BODY_SIZE] = self.body_bytes
        if self.protocol:
            facts[sc.NETWORK_PROTOCOL_VERSION] = self.protocol[5:].decode("ascii", "replace")  # of b"HTTP/1.1"
        if self.ttfb is not None:
            facts[sc.HTTP_RESPONSE_TTFB_MS] = waits.milliseconds(self.ttfb)
        if self.delay is not None:
            facts[sc.RATE_LIMITER_DELAY_MS] = waits.milliseconds(self.delay)
        if self.breaker_state is not None:
            facts[sc.CIRCUIT_BREAKER_STATE] = self.breaker_state
            facts[sc.CIRCUIT_BREAKER_RECORDED] = self.breaker_recorded or "none"
        if self.resend_count or self.cache is not None or self.body_end is not None or self.retry_after is not None:
            facts |= emit.known(self._rarer_facts())
        return facts

    def _rarer_facts(self) -> emit.Facts:
        cache, retry_wait = self.cache, self.retry_wait
        return {
            sc.RETRY_SOURCE: self.retry_source,
            sc.RETRY_WAIT_MS: None if retry_wait is None else waits.milliseconds(retry_wait),
            sc.HTTP_RESPONSE_RETRY_AFTER: self.retry_after,
            sc.HTTP_RESPONSE_BODY_END: self.body_end,
            sc.HTTP_CACHE_HIT: None if cache is None else cache.hit,
            sc.HTTP_CACHE_REVALIDATED: None if cache is None else cache.revalidated,
            sc.HTTP_CACHE_STALE: None if cache is None else cache.stale,
        }


def _around(frame: Frame | None) -> tuple[list[RetryFrame], BreakerFrame | None, AttemptFrame | None, bool]:
    """What a send is inside of: open retry frames (outermost first), the nearest breaker and attempt, and whether that
    breaker decides: no retry frame lies between."""
    retries: list[RetryFrame] = []
    breaker: BreakerFrame | None = None
    attempt: AttemptFrame | None = None
    decides = True
    while frame is not None:
        kind = frame.kind
        if kind == "retry":
            if frame.is_open:
                retries.insert(0, frame)  # type: ignore[arg-type]  # its kind says so
            decides = decides and breaker is not None
        elif kind == "breaker" and breaker is None:
            breaker = frame  # type: ignore[assignment]
        elif kind == "attempt" and attempt is None:
            attempt = frame  # type: ignore[assignment]
        frame = frame.outer
    return retries, breaker, attempt, decides


def begin(request: Any, hop: HTTPFrame, frame: Frame, context: Context, make: type[_S]) -> _S:
    """The wire hook's part: a request goes out now, in this innermost frame. Whatever went before in this hop is not what
    its client gets."""
    if hop.sends and hop.is_open:
        settle(hop)
    method, url, target = request.method, request.url, hop.target
    if (url is not target.url and url != target.url) or method != target.method:
        target = Target(method, url)  # a transport between sends elsewhere: the row is of where it went
    send = make(hop, frame, time_ns(), True, context, target, True)
    if hop.is_open:
        send.holds.append(hop)
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
        if winner is not None and winner._unended:
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
    start = (hop.cache_started or hop.started) if response is not None else hop.started
    wire = False if cache is not None else None
    context = emit.below(hop.parent, get_current())
    send = Send(hop, hop, start, wire, context, hop.target, response is not None or not hop.refused)
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
        send.holds.clear()
        if send.is_settled:
            send.finish(now, body_end="abandoned")
            send.release()


def _leave_to_parent() -> None:
    for send in _open:
        send.leave_to_parent()
    _open.clear()


at_end.append(_end_open)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
