"""Which retry, breaker call, attempt and request the running code is inside of.

A frame is opened by a hook, linked to the frame outside it and carried in the OTel Context, so it follows the code into
tasks, and by `threads` into threads and pools. It keeps strings and numbers, never a Request or Response: nothing stays
alive because a frame does.

    frame = RetryFrame(retrying)
    ...                                  # current() is frame; frame.outer is what was current before
    frame.close()

The layers nest in any order; whoever needs another layer's fact walks `chain()` outward.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from opentelemetry.context import Context, create_key
from opentelemetry.trace import INVALID_SPAN, Span, set_span_in_context

from .contexts import attach, get_current
from .owners import Owner, owner_ref

if TYPE_CHECKING:
    from .asked import Asked
    from .sends import Send
    from .waits import Wait

KEY = create_key("retrospan-frame")
# The key under which the API keeps the current span, taken from what it makes: there is no public name for it.
SPAN_KEY = next(iter(set_span_in_context(INVALID_SPAN, Context())))
left: deque[Callable[[], None]] = deque()
"""What finalisers leave to be done: all that one may do is append here."""

at_end: list[Callable[[], None]] = []
"""What is done when the process ends, for what would not end by itself."""

_serials = itertools.count(1)
_DEFAULT_PORTS = {"http": 80, "https": 443}
_F = TypeVar("_F", bound="Frame")
Poll = tuple[object, str, Owner]
"""What makes refusals polling: the same limiter, key and task or thread."""
_NO_POLLS: "dict[Poll, Wait]" = {}  # nobody's, and never filled: `own_polls` makes a frame's own


def _copy(function: FunctionType) -> FunctionType:
    """The same function, with code of its own."""
    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__doc__, copy.__qualname__ = function.__doc__, function.__qualname__
    return copy


class Frame:
    """What every kind has in common: its place in the chain, and the limiter waits left in it.

    Python finds an attribute of one's own quickly where code meets one class only, and a default in a class slowly. So each
    kind has a copy of the code that is run for every request, and what that reads is set when a frame begins.
    """

    hop: "HTTPFrame | None"
    """The request that code right inside of it is part of."""
    _before: Context
    """What was current before, once it has become the current one."""

    def __init_subclass__(cls) -> None:
        for name in ("begin", "leave", "close"):
            if name not in cls.__dict__:
                setattr(cls, name, _copy(getattr(cls, name)))

    def begin(self, context: Context, span: Span | None = None) -> None:
        """Become the current frame, inside of what is current in this context, which is the current one."""
        outer: Any = context.get(KEY)
        self.outer: Frame | None = outer
        self.hop = None if outer is None else outer.hop
        self.owner = owner_ref()
        self.waits: list[Wait] = []
        self.polls = _NO_POLLS
        self.is_open = True
        self._before = context
        # As `enter`, a call less.
        inside = context.copy()
        inside[KEY] = self
        if span is not None:
            inside[SPAN_KEY] = span
        attach(Context(inside))

    def enter(self, span: Span | None = None) -> None:
        """Become the current frame again; with a span, that is the current span too."""
        self._before = before = get_current()
        inside = before.copy()
        inside[KEY] = self
        if span is not None:
            inside[SPAN_KEY] = span
        attach(Context(inside))

    def leave(self) -> None:
        """Make current what was current before. A context that has moved on without us (a generator) is left alone."""
        if get_current().get(KEY) is self:
            attach(self._before)

    def close(self) -> None:
        """The call is over: leave, if that is still to be done; what nobody took of its waits is told now."""
        if get_current().get(KEY) is self:
            attach(self._before)
        self.is_open = False
        if self.waits or self.polls:
            _tell_left(self.waits, self.polls)

    def own_polls(self) -> "dict[Poll, Wait]":
        """Where refusals are left, which grants may yet follow."""
        # Two threads may come at once; one of them makes it.
        self.polls = polls = self.__dict__.setdefault("_own_polls", {})
        return polls  # type: ignore[no-any-return]

    def tell_waits(self) -> None:
        """Tell the waits that no request took; none of them is for a later one."""
        _tell_left(self.waits, {})

    def chain(self) -> Iterator["Frame"]:
        """This frame and those outside it, inside out."""
        frame: Frame | None = self
        while frame is not None:
            yield frame
            frame = frame.outer


def _tell_left(waits: "list[Wait]", polls: "dict[Poll, Wait]", of: "Asked | None" = None) -> None:
    while waits or polls:
        try:
            wait = waits.pop() if waits else polls.popitem()[1]
        except LookupError:  # another thread has taken the last one
            continue
        wait.tell(of)


class RetryFrame(Frame):
    """One retrying call. `of` identifies the object that retries; the outermost frame remembers the sends inside."""

    def __init__(self, of: object, *called: object) -> None:
        """A call of this object begins; with what it is called, which a hook passes on, is not looked at."""
        self.of = id(of)
        self.serial, self.attempt = next(_serials), 1
        self.unkeyed: list[Send] = []  # those not yet told apart: a call that sends once never needs to
        self.past: dict[int, Send] | None = None  # the last send of each request, once there were two
        self.first: Span | None = None  # of its first request outside every span, on which the others there hang
        self.span: Span | None = None  # its own, if it needs one
        self.begin(get_current())

    def close(self, at: int | None = None) -> None:
        """As every frame's. `at` (ns) says when it was over, from a finaliser: what is current there is not its to change."""
        if at is None and get_current().get(KEY) is self:
            attach(self._before)
        self.is_open = False
        if self.waits or self.polls:
            _tell_left(self.waits, self.polls)
        span = self.span
        if span is not None:
            self.span = None
            span.end(at)

    def begin_attempt(self, number: int) -> None:
        """The attempt of this number begins; waits that the one before left belong to no request any more."""
        self.attempt = number
        if number > 1:
            self.tell_waits()


class BreakerFrame(Frame):
    """One call through a breaker. It holds back at most one send, whose outcome it decides when it closes."""

    target: "Target | None" = None  # of the last request inside

    def __init__(self, of: int, state: str, context: Context) -> None:
        self.of, self.state = of, state
        self.outcome: str | None = None
        self.held: list[Send] = []
        self.begin(context)

    @property
    def host(self) -> str | None:
        """The host of the last request inside."""
        return None if self.target is None else self.target.host

    def hold(self, send: "Send") -> None:
        """Keep the span of a send that just begins open until the breaker has decided; the one before is let go, undecided."""
        send.holds = [self]
        held = self.held
        held.append(send)
        while len(held) > 1 or (held and not self.is_open):  # it may close meanwhile, in another thread
            self._let_go(None)

    def close(self) -> None:
        """As every frame's, and the send that it holds is decided."""
        if get_current().get(KEY) is self:
            attach(self._before)
        self.is_open = False
        if self.waits or self.polls:
            _tell_left(self.waits, self.polls)
        while self.held:
            self._let_go(self.outcome)

    def _let_go(self, outcome: str | None) -> None:
        try:
            send = self.held.pop(0)
        except IndexError:  # another thread was faster
            return
        if send.is_open:  # the process's end may have ended it
            send.breaker_recorded = outcome
            send.release()


class ResolutionFrame(Frame):
    """The resolution of one artifact."""

    def __init__(self, artifact_id: str | None, work_id: str | None, span: Span) -> None:
        self.artifact_id, self.work_id = artifact_id, work_id
        self.begin(get_current(), span)


class AttemptFrame(Frame):
    """One attempt to get an artifact from one source; it hears of the responses and the downloads inside."""

    last_host: str | None = None
    last_status: int | None = None
    stored = False

    def __init__(self, source: str | None, span: Span) -> None:
        self.source = source
        self.begin(get_current(), span)


class Target:
    """Where a request goes. The URL, which nobody can change, is read when somebody asks: mostly in the export thread."""

    _address = ""

    def __init__(self, method: str, url: Any) -> None:
        self.method, self.url = method, url

    @property
    def scheme(self) -> str:
        """`http` or `https`."""
        return self.url.scheme  # type: ignore[no-any-return]  # a URL of either library

    @property
    def host(self) -> str:
        """Lower-case, without a port."""
        return self.url.host  # type: ignore[no-any-return]

    @property
    def port(self) -> int:
        """The URL's, else its scheme's; 0 for none."""
        return self.url.port or _DEFAULT_PORTS.get(self.scheme, 0)

    @property
    def address(self) -> str:
        """The URL as text, made when it is first asked for. It is hashed, and never written."""
        address = self._address
        if not address:
            self._address = address = str(self.url)
        return address


class HTTPFrame(Frame):
    """One hop of a client: a request, until its response's headers are in. The layers inside write into it."""

    sent = 0  # how many sends there were in all
    resends = 0  # resend count of the first of them
    previous: "Send | None" = None
    cache: "CacheAnswer | None" = None
    cache_started: int | None = None
    breaker: tuple[str, str] | None = None  # state and outcome of a breaker inside the transport
    refused = False  # a limiter or breaker inside refused: no send happened, nothing later is its retry
    inside: Context | None = None  # the context that it has made

    def __init__(self, asked: "Asked", outer: Frame | None) -> None:
        self.outer = outer
        self.asked, self.owner = asked, asked.owner
        self.waits, self.polls = asked.waits, _NO_POLLS
        self.is_open = True
        self.sends: list[Send] = []  # those that may yet turn out to be the one whose response the client gets

    @property
    def hop(self) -> "HTTPFrame":  # type: ignore[override]  # to keep it would keep it for ever
        """Itself."""
        return self

    def close(self) -> None:
        self.is_open = False
        _tell_left(self.waits, self.polls, self.asked)


class CacheAnswer(NamedTuple):
    """What a cache said of the response it gave: its own, confirmed by the server, past its lifetime (None: unknown)."""

    hit: bool
    revalidated: bool
    stale: bool | None


def outermost_retry(frame: Frame | None) -> RetryFrame | None:
    """The outermost retry that goes on, from this frame outward."""
    outermost: RetryFrame | None = None
    while frame is not None:
        if isinstance(frame, RetryFrame) and frame.is_open:
            outermost = frame
        frame = frame.outer
    return outermost


def current_hop() -> HTTPFrame | None:
    """The request that the running code is inside of."""
    frame = current()
    return None if frame is None else frame.hop


def current() -> Frame | None:
    """The innermost frame that the running code is inside of."""
    return get_current().get(KEY)  # type: ignore[return-value]  # nobody else has the key


def nearest(kind: type[_F], frame: Frame | None = None) -> _F | None:
    """The nearest frame of this kind, from the given frame (default: the current one) outward."""
    frame = frame or current()
    while frame is not None:
        if isinstance(frame, kind):
            return frame
        frame = frame.outer
    return None
