"""How often a request was sent before, and how that is known.

Best source first: earlier sends inside the outermost retry frame; resends inside one client hop; the same Request object
sent again; a header that SDKs set; else inferred from an equal request right after a failure in the same task.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .frames import HTTPFrame, RetryFrame
from .headers import listed

if TYPE_CHECKING:
    from .asked import Asked
    from .sends import Send

_MOST_REMEMBERED = 1024  # a program-wide retry must not remember every URL
_UNAUTHORIZED = (401, 407)
HEADERS = frozenset((b"x-stainless-retry-count", b"x-retry-count", b"retry-attempt"))
"""Where SDKs write how often they sent a request before."""

Path = tuple[tuple[int, int], ...]
"""The retry frames around a send, outermost first, each with its attempt."""


last: ContextVar["Send | None"] = ContextVar("retrospan-last-send", default=None)
"""The last send of a task, for inference."""
_of_request: WeakKeyDictionary[Any, "Send"] = WeakKeyDictionary()
"""The last send of a Request, once one of it has failed."""
_has_failed = False  # whether any send ever has: until then there is little to compare


def fail(send: "Send") -> None:
    """It ended in what a client retries."""
    global _has_failed
    send.has_failed = _has_failed = True
    of = send.asked.request
    if send.was_sent and of is not None and (request := of()) is not None:
        _of_request[request] = send


def asked_for(headers: Any) -> int:
    """The resend count that an SDK wrote into the request's headers; 0 when none did."""
    for _, name, value in listed(headers):
        if name in HEADERS and value.isdigit() and len(value) < 6 and (count := int(value)):
            return count
    return 0


def count(send: "Send", hop: HTTPFrame | None, outermost: RetryFrame | None, is_send: bool) -> None:
    """Find out how often the request was sent before this send, which begins in this hop (None: it is all of it), inside this
    open retry frame.

    With `is_send` false nothing was sent (a limiter or breaker refused) and nothing is remembered.
    """
    is_first = outermost is None or not (outermost.unkeyed or outermost.past)
    if not is_first or send.asked.resends or _has_failed or (hop is not None and hop.sent):
        earlier = None
        if outermost is not None and not is_first:
            earlier = _remembered(outermost).get(_key(send))
        _compare(send, hop, earlier, last.get())
    if not is_send:
        send.was_sent = False
        return
    if outermost is not None:
        outermost.unkeyed.append(send)
    if hop is not None:
        if not hop.sent:
            hop.resends = send.resend_count
        hop.sent += 1
        hop.previous = send
    if _has_failed:
        _remember(send)


def _compare(send: "Send", hop: HTTPFrame | None, earlier: "Send | None", previous: "Send | None") -> None:
    """With the last equal send in its retry frame, and the last send of its task."""
    send.base = _count_of_attempt(earlier, send.path)
    number, source, before = _known(send, hop, earlier)
    asked = send.asked
    if (
        previous is not None
        and previous.has_failed
        and (not number or before is None)
        and _follows(asked, previous.asked)
    ):
        if number:
            before = previous  # a header says how often, the last send to that URL says when
        elif asked.content_key is not None and previous.asked.content_key == asked.content_key:
            number, source, before = previous.resend_count + 1, "inferred", previous
    if number:
        send.resend_count, send.retry_source = number, source
        if before is not None and (over := _over(before)) is not None:
            send.retry_wait = max(0, send.start - over)


def _over(send: "Send") -> int | None:
    """When its body was read, or its headers at least."""
    if send.end is None and send.ttfb is not None:
        return send.start + send.ttfb
    return send.end


def _remembered(frame: RetryFrame) -> dict[int, "Send"]:
    """The last send of each request in this frame."""
    remembered, unkeyed = frame.past, frame.unkeyed
    if remembered is None:
        remembered = frame.past = {}
    while unkeyed:
        send = unkeyed.pop(0)
        key = _key(send)
        remembered.pop(key, None)  # the last one stands last, the oldest first
        remembered[key] = send
        if len(remembered) > _MOST_REMEMBERED:
            remembered.pop(next(iter(remembered)), None)
    return remembered


def _count_of_attempt(earlier: "Send | None", path: Path) -> int:
    """What every equal request in this attempt has, since the attempt before had one: gathered siblings alike."""
    if earlier is None:
        return 0
    if _is_later(path, earlier.path):
        return earlier.resend_count + 1
    return earlier.base if path == earlier.path else 0


def _known(send: "Send", hop: HTTPFrame | None, earlier: "Send | None") -> tuple[int, str | None, "Send | None"]:
    if earlier is not None:
        if earlier.has_failed or _is_later(send.path, earlier.path):
            return earlier.resend_count + 1, "frame", earlier
        # The auth flow's second round, in the same attempt.
        if earlier.status in _UNAUTHORIZED and earlier.resend_count:
            return earlier.resend_count, "frame", earlier
    if hop is not None and hop.sent:
        return hop.resends + hop.sent, "transport", hop.previous
    if send.base:
        return send.base, "frame", None
    of = send.asked.request
    if _has_failed and of is not None and (request := of()) is not None:
        past = _of_request.get(request)
        if past is not None and past.has_failed:
            return past.resend_count + 1, "request", past
    if send.asked.resends:
        return send.asked.resends, "header", None
    return 0, None, None


def _follows(asked: "Asked", last: "Asked") -> bool:
    """Whether the request right before, which failed, went to the same place and was this task's, under the same parent."""
    return (
        last.owner == asked.owner
        and last.parent.span_id == asked.parent.span_id
        and last.method == asked.method
        and last.address == asked.address
    )


def _remember(send: "Send") -> None:
    """For the next send of the same Request, one of which has failed."""
    of = send.asked.request
    if of is not None and (request := of()) is not None and request in _of_request:
        _of_request[request] = send


def leave_last(hop: HTTPFrame) -> None:
    """The hop is over: what its last send was, for an equal one right after it."""
    if hop.previous is not None:  # else it was refused before any send, and whatever was sent last still is
        last.set(hop.previous)


def _key(send: "Send") -> int:
    asked = send.asked
    return hash((asked.method, asked.address, asked.content_key))


def _is_later(path: Path, earlier: Path) -> bool:
    """Whether a send happened in a later attempt of a retry frame that both are in. Gathered siblings' sends did not."""
    for here, there in zip(path, earlier, strict=False):
        if here != there:
            return here[0] == there[0] and here[1] > there[1]
    return False
