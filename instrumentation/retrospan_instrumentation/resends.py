"""How often a request was sent before, and how that is known.

Best source first: earlier sends inside the outermost retry frame; resends inside one client hop; the same Request object
sent again; a header that SDKs set; else inferred from an equal request right after a failure in the same task.
"""

from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from .frames import HTTPFrame, RetryFrame

_MOST_REMEMBERED = 1024  # a program-wide retry must not remember every URL
_UNAUTHORIZED = (401, 407)
_HEADERS = frozenset((b"x-stainless-retry-count", b"x-retry-count", b"retry-attempt"))
_LENGTHS = frozenset(map(len, _HEADERS))

Path = tuple[tuple[int, int], ...]
"""The retry frames around a send, outermost first, each with its attempt."""


class Past:
    """What a later send asks of an earlier one: how often it had been sent, in which attempts, and how it ended."""

    status: int | None = None
    end: int | None = None
    failed = False  # by a 429, a 5xx or an exception: what a client retries

    def __init__(self, count: int, base: int, path: Path, hop: HTTPFrame) -> None:
        self.count, self.base, self.path = count, base, path  # base: what the first one in this attempt had
        self.target, self.content_key, self.request = hop.target, hop.content_key, hop.request
        self.owner, self.parent = hop.owner, hop.parent

    def fail(self) -> None:
        """It ended in what a client retries."""
        self.failed = True
        if self.request is not None and (request := self.request()) is not None:
            _of_request[request] = self
            _has_failed[0] = True


_last: ContextVar[Past | None] = ContextVar("retrospan-last-send", default=None)
"""The last send of a task, for inference."""
_of_request: WeakKeyDictionary[Any, Past] = WeakKeyDictionary()
"""The last send of a Request, once one of it has failed."""
_has_failed = [False]  # whether one ever has: quicker than to ask the dictionary


def asked_for(headers: Any) -> int:
    """The resend count that an SDK wrote into the request's headers; 0 when none did."""
    raw = headers.raw
    if _LENGTHS.isdisjoint(map(len, dict(raw))):  # as for most requests: a look-up by name would cost more
        return 0
    for name, value in raw:
        if name.lower() in _HEADERS and value.isdigit() and len(value) < 6 and (count := int(value)):
            return count
    return 0


def count(hop: HTTPFrame, retries: list[RetryFrame], is_send: bool) -> tuple[int, str | None, Past | None, Past]:
    """The resend count of the send that now begins in `hop`, inside these open retry frames, outermost first.

    Returns the count, its source (None when 0), the send before (None when unknown) and what later sends will ask.
    With `is_send` false nothing was sent (a limiter or breaker refused) and nothing is remembered.
    """
    last = _last.get()
    path: Path = ()
    earlier, base, is_first = None, 0, True
    if retries:
        path = tuple([(frame.serial, frame.attempt) for frame in retries])
        if retries[0].past or retries[0].unkeyed:
            is_first = False
            earlier = _remembered(retries[0]).get(_key(hop))
            base = _count_of_attempt(earlier, path)
    if is_first and not (hop.sent or hop.asked or _has_failed[0] or (last is not None and last.failed)):
        past = Past(0, 0, path, hop)  # as most are: nothing has gone before
        if not is_send:
            past.request = None
        else:
            hop.sent, hop.previous = 1, past
            if retries:
                retries[0].unkeyed.append(past)
        return 0, None, None, past
    number, source, before = _known(hop, earlier, base, path)
    if last is not None and last.failed and (not number or before is None) and _follows(hop, last):
        if number:
            before = last  # a header says how often, the last send to that URL says when
        elif hop.content_key is not None and last.content_key == hop.content_key:
            number, source, before = last.count + 1, "inferred", last
    past = Past(number, base, path, hop)
    if is_send:
        _remember(hop, retries, past)
    else:
        past.request = None
    return number, source, before, past


def _remembered(frame: RetryFrame) -> dict[int, Past]:
    """The last send of each request in this frame."""
    remembered, unkeyed = frame.past, frame.unkeyed
    while unkeyed:
        past = unkeyed.pop(0)
        key = _key(past)
        remembered.pop(key, None)  # the last one stands last, the oldest first
        remembered[key] = past
        if len(remembered) > _MOST_REMEMBERED:
            remembered.pop(next(iter(remembered)), None)
    return remembered


def _count_of_attempt(earlier: Past | None, path: Path) -> int:
    """What every equal request in this attempt has, since the attempt before had one: gathered siblings alike."""
    if earlier is None:
        return 0
    if _is_later(path, earlier.path):
        return earlier.count + 1
    return earlier.base if path == earlier.path else 0


def _known(hop: HTTPFrame, earlier: Past | None, base: int, path: Path) -> tuple[int, str | None, Past | None]:
    if earlier is not None:
        if earlier.failed or _is_later(path, earlier.path):
            return earlier.count + 1, "frame", earlier
        if earlier.status in _UNAUTHORIZED and earlier.count:  # the auth flow's second round, in the same attempt
            return earlier.count, "frame", earlier
    if hop.sent:
        return hop.resends + hop.sent, "transport", hop.previous
    if base:
        return base, "frame", None
    if _has_failed[0] and hop.request is not None and (request := hop.request()) is not None:
        past = _of_request.get(request)
        if past is not None and past.failed:
            return past.count + 1, "request", past
    if hop.asked:
        return hop.asked, "header", None
    return 0, None, None


def _follows(hop: HTTPFrame, last: Past) -> bool:
    """Whether the send right before, which failed, went to the same place and was this task's, under the same parent."""
    if last.owner != hop.owner or last.parent.span_id != hop.parent.span_id:
        return False
    here, there = hop.target, last.target
    return here.method == there.method and here.address == there.address


def _remember(hop: HTTPFrame, retries: list[RetryFrame], past: Past) -> None:
    if retries:
        retries[0].unkeyed.append(past)
    if not hop.sent:
        hop.resends = past.count
    hop.sent += 1
    hop.previous = past
    if (
        _has_failed[0]
        and past.request is not None
        and (request := past.request()) is not None
        and request in _of_request
    ):
        _of_request[request] = past


def leave_last(hop: HTTPFrame) -> None:
    """The hop is over: what its last send was, for an equal one right after it."""
    if hop.previous is not None:  # else it was refused before any send, and whatever was sent last still is
        _last.set(hop.previous)


def _key(of: HTTPFrame | Past) -> int:
    return hash((of.target.method, of.target.address, of.content_key))


def _is_later(path: Path, earlier: Path) -> bool:
    """Whether a send happened in a later attempt of a retry frame that both are in. Gathered siblings' sends did not."""
    for here, there in zip(path, earlier, strict=False):
        if here != there:
            return here[0] == there[0] and here[1] > there[1]
    return False
