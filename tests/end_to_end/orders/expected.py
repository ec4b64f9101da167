"""The rows that there must be, told from what was seen and logged: the rules of the record, without any code of it.

    for row in expected(seen, arrivals):
        row.exact["status"], row.between["elapsed_ms"]      # 429, (1, 3)

A value that depends on how fast the machine is has bounds, from the tests' own clock just outside and just inside of what the
record measures; all else is exact.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from time import time_ns
from typing import Any
from urllib.parse import urlsplit

from .seen import Seen

ROLE_OF = {"application/json": "metadata", "text/html": "landing", "application/pdf": "artifact"}
OURS = ("Refused", "CircuitBreakerError")
Bounds = tuple[int, int]  # ns


def milliseconds(nanoseconds: int) -> int:
    return (max(0, nanoseconds) + 500_000) // 1_000_000


@dataclass(eq=False)
class Send:
    """One send, or one answer or error that no wire gave, and what it was inside of, outermost first."""

    hop: Seen
    path: tuple[Seen, ...]
    wire: Seen | None
    began: Bounds
    headers: int  # when the response's headers were in, at the latest
    over: Bounds
    count: int = 0
    source: str | None = None
    before: "Send | None" = None
    waits: list[Bounds] = field(default_factory=list)

    @property
    def seen(self) -> Seen:
        return self.wire or self.hop

    @property
    def client(self) -> Seen:
        return next(seen for seen in self.path if seen.layer == "client")

    @property
    def status(self) -> int | None:
        return self.seen.facts.get("status")

    @property
    def body(self) -> str:
        """How the body ended: read, closed, abandoned, or the class of what broke it."""
        over: list[Any] = self.seen.facts.get("over", ["read"])
        return str(over[0])

    @property
    def error(self) -> str | None:
        return self.seen.raised or (None if self.body in ("read", "closed", "abandoned") else self.body)

    @property
    def is_send(self) -> bool:
        return self.wire is not None or self.status is not None

    @property
    def has_failed(self) -> bool:
        return self.error is not None or self.status == 429 or (self.status or 0) >= 500

    @property
    def is_received(self) -> bool:
        """Whether the client received this one's response."""
        if self.status is None or self.hop.raised is not None:
            return False
        return self.wire is None or self.wire is wires(self.hop)[-1]


def walk(seen: Seen, path: tuple[Seen, ...] = ()) -> Iterator[tuple[Seen, tuple[Seen, ...]]]:
    """Every call, with those around it, as they began."""
    yield seen, path
    for inner in seen.inner:
        yield from walk(inner, (*path, seen))


def of(layer: str, seen: Seen) -> list[Seen]:
    return [inner for inner, _ in walk(seen) if inner.layer == layer]


def wires(hop: Seen) -> list[Seen]:
    return of("wire", hop)


def span_of(wire: Seen) -> str:
    """The id of a send's span, as it stood in the request that went out."""
    return str(wire.facts["traceparent"]).split("-")[2]


def sends(root: Seen, arrivals: Mapping[str, int]) -> list[Send]:
    """What must be rows, in the order in which they began. `arrivals`: when the server had a span's request."""
    found = []
    for hop, path in walk(root):
        if hop.layer != "hop":
            continue
        sent = [(wire, around) for wire, around in walk(hop, path) if wire.layer == "wire"]
        for wire, around in sent:
            began = wire.began, arrivals.get(span_of(wire), wire.ended)
            found.append(Send(hop, around, wire, began, wire.ended, _over(wire)))
        if not sent:
            caches = of("cache", hop)
            start = caches[0].began if caches and hop.raised is None else path[-1].began
            over = (hop.ended, root.ended) if hop.raised is None else (hop.ended, path[-1].ended)
            found.append(Send(hop, (*path, hop), None, (start, hop.ended), path[-1].ended, over))
    for number, send in enumerate(found):
        _count(send, found[:number])
    _give_waits(root, found)
    return found


def _over(wire: Seen) -> Bounds:
    if "over" not in wire.facts:
        return wire.began, wire.ended
    _, asked, over = wire.facts["over"]
    return asked, over or time_ns()


# -- retry_count, retry_source, retry_wait_ms


def _retries(path: tuple[Seen, ...]) -> list[Seen]:
    """The retrying calls around that can be known: a loop written by hand cannot."""
    return [seen for seen in path if seen.layer == "retry" and seen.facts["is_known"]]


def _key(send: Send) -> tuple[str, str]:
    facts = send.seen.facts
    return facts.get("method", ""), facts.get("url", "")


def _count(send: Send, earlier: list[Send]) -> None:
    """How often the same was sent before, by the best of five sources."""
    if send.wire is None:
        return  # nothing that a cache answers, or that is refused, was sent before in these fetches
    same = [other for other in earlier if other.is_send and _key(other) == _key(send)]
    last = same[-1] if same else None
    retries, in_hop = _retries(send.path), [other for other in same if other.hop is send.hop]
    if retries and last is not None and retries[0] in last.path:
        is_counted = last.has_failed or _attempt(last, retries[0]) is not _attempt(send, retries[0])
        found = last.count + is_counted, "frame", last  # a 401 in the same attempt is answered, not retried
    elif in_hop:
        found = in_hop[0].count + len(in_hop), "transport", in_hop[-1]
    elif last is not None and last.has_failed and last.client.facts["request"] == send.client.facts["request"]:
        found = last.count + 1, "request", last
    else:
        said = int(send.client.facts["said"])
        is_right_before = [other for other in earlier if other.is_send][-1:] == [last]
        is_inferred = last is not None and is_right_before and last.has_failed and last.hop.who == send.hop.who
        before = last if is_inferred else None
        found = (said, "header", before) if said else (last.count + 1 if before and last else 0, "inferred", before)
    if found[0]:
        send.count, send.source, send.before = found


def _attempt(send: Send, retry: Seen) -> Seen:
    return send.path[send.path.index(retry) + 1]


# -- rate_delay_ms


def _give_waits(root: Seen, found: list[Send]) -> None:
    """Each grant is for the first send after it; asking in vain before is part of the same wait."""
    refused: dict[tuple[int, str], list[Any]] = {}
    for limiter, path in walk(root):
        if limiter.layer != "limiter":
            continue
        for ask in limiter.facts["asks"]:
            is_granted, called, first_put, last_put, returned = ask
            place = id(_where_polls_live(path)), limiter.who
            if not is_granted:
                refused.setdefault(place, ask)
                continue
            _, called, first_put, *_ = refused.pop(place, ask)
            send = next((send for send in found if _is_for(send, limiter, path)), None)
            if send is not None:
                send.waits.append((last_put - first_put, returned - called))


def _where_polls_live(path: tuple[Seen, ...]) -> Seen:
    """Asking again in a retry goes on; else it ends with the hop or the breaker's call."""
    inmost = [seen for seen in path if seen.layer in ("hop", "breaker")]
    hops = [seen for seen in inmost if seen.layer == "hop"]
    return (_retries(path) or hops or inmost[::-1] or [path[0]])[0]


def _is_for(send: Send, limiter: Seen, path: tuple[Seen, ...]) -> bool:
    return limiter in send.path or (send.wire is None and send.hop in path)


# -- breaker_state, breaker_recorded


def _judged_by(send: Send) -> tuple[Seen | None, bool]:
    """The nearest breaker's call, and whether it decides: no retry lies between."""
    if send.wire is None and (inside := of("breaker", send.hop)):
        return inside[-1], True
    for number, seen in reversed(list(enumerate(send.path))):
        if seen.layer == "breaker":
            return seen, not _retries(send.path[number:])
    return None, False


def _recorded(send: Send, found: list[Send]) -> str | None:
    """What the breaker took the call for, on the last send that it decides; `none` on all others."""
    breaker, decides = _judged_by(send)
    if breaker is None:
        return None
    decided = [other for other in found if _judged_by(other) == (breaker, True)]
    return (breaker.facts["decided"] or "none") if decides and send is decided[-1] else "none"


# -- rows


@dataclass
class Row:
    """What a row must say; `span` is None when no server can have seen it."""

    span: str | None
    exact: dict[str, Any]
    between: dict[str, Bounds]


def expected(root: Seen, arrivals: Mapping[str, int], run_id: str, url: str) -> list[Row]:
    """The rows of a fetch of this URL, in the order in which they began."""
    found = sends(root, arrivals)
    return [_row(send, root, found, run_id, url) for send in found]


def _row(send: Send, root: Seen, found: list[Send], run_id: str, url: str) -> Row:
    wire, breaker = send.wire, _judged_by(send)[0]
    facts, is_bodiless = send.seen.facts, send.status in (204, 304) or root.facts["method"] == "HEAD"
    target = facts.get("url") or url
    retry_after = facts.get("retry_after")
    exact = {
        "run_id": run_id,
        "trace_id": bytes.fromhex(root.facts["trace"]),
        "parent_span_id": bytes.fromhex(root.facts["span"]),
        "process_id": int(root.who.partition("/")[0]),
        "host": urlsplit(target).hostname,
        "method": root.facts["method"],
        "url_hash": hashlib.sha256(target.encode()).hexdigest()[:16],
        "role": root.facts["role"] or _role(send),
        "status": send.status,
        "error": send.error,
        "retry_count": send.count,
        "retry_source": send.source,
        "retry_after_s": float(retry_after) if retry_after else None,
        "breaker_state": breaker.facts["state"] if breaker is not None else None,
        "breaker_recorded": _recorded(send, found),
        "body_bytes": facts.get("bytes"),
        "body_end": send.body if send.body in ("closed", "abandoned") and not is_bodiless else None,
        "hop_last": int(send.is_received),
        **_cache(send, root),
    }
    between: dict[str, Bounds] = {
        "elapsed_ms": (send.over[0] - send.began[1], send.over[1] - send.began[0]),
    }
    optional: dict[str, Bounds | None] = {
        "ttfb_ms": None if send.status is None else (0, send.headers - send.began[0]),
        "rate_delay_ms": (sum(w[0] for w in send.waits), sum(w[1] for w in send.waits)) if send.waits else None,
        "retry_wait_ms": None
        if send.before is None
        else (send.began[0] - send.before.over[1], send.began[1] - send.before.over[0]),
    }
    exact |= dict.fromkeys(name for name, bounds in optional.items() if bounds is None)
    between |= {name: bounds for name, bounds in optional.items() if bounds is not None}
    in_ms = {name: (milliseconds(least), milliseconds(most)) for name, (least, most) in between.items()}
    return Row(None if wire is None else span_of(wire), exact, in_ms | {"ts": send.over, "start": send.began})


def _role(send: Send) -> str | None:
    """By the Content-Type of the 2xx answer that the client received."""
    facts = send.hop.facts
    if not send.is_received or not 200 <= facts["status"] < 300:
        return None
    return ROLE_OF.get((facts["media_type"] or "").partition(";")[0])


def _cache(send: Send, root: Seen) -> dict[str, int | None]:
    if send.wire is not None:
        is_confirmed = int(send.status == 304)
        return {"wire": 1, "from_cache": is_confirmed, "revalidated": is_confirmed, "stale": 0}
    if send.status is None:
        return dict.fromkeys(("wire", "from_cache", "revalidated", "stale"))
    return {"wire": 0, "from_cache": 1, "revalidated": 0, "stale": int(root.facts["is_stale"])}
