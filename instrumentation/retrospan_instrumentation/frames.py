"""Which retry, breaker call, attempt and request the running code is inside of.

A frame is opened by a hook, linked to the frame outside it and carried in the OTel Context, so it follows the code into
tasks, and by `threads` into threads and pools. It keeps strings and numbers, never a Request or Response: nothing stays
alive because a frame does.

    frame = RetryFrame(of=id(retrying))
    frame.enter()
    ...                                  # current() is frame; frame.outer is what was current before
    frame.leave()

The layers nest in any order; whoever needs another layer's fact walks `chain()` outward.
"""

import asyncio
import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from weakref import ref

import wrapt
from opentelemetry.context import Context, create_key
from opentelemetry.trace import INVALID_SPAN, INVALID_SPAN_CONTEXT, Span, SpanContext, Tracer, set_span_in_context

from .contexts import attach, get_current

if TYPE_CHECKING:
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
_local = threading.local()
_trio: Any = None
_put = dict.__setitem__
_get_running_loop, _get_asyncgen_hooks = asyncio._get_running_loop, sys.get_asyncgen_hooks
_DEFAULT_PORTS = {"http": 80, "https": 443}
_F = TypeVar("_F", bound="Frame")
Owner = ref[Any]
Poll = tuple[object, str, Owner]
"""What makes refusals polling: the same limiter, key and task or thread."""


def _trio_is_there(lowlevel: Any) -> None:
    global _trio
    _trio = lowlevel if hasattr(lowlevel, "in_trio_task") else None


# httpcore imports trio wherever it is installed; this package imports neither.
wrapt.register_post_import_hook(_trio_is_there, "trio.lowlevel")


class Work:
    """A piece of work in a pool: its own owner, though its thread serves many."""

    __slots__ = ("__weakref__", "over")

    def __init__(self) -> None:
        self.over = False

    def begin(self) -> Owner:
        """Become what this thread is doing; returns what it was doing."""
        before = _of_thread()
        _local.owner = ref(self)
        return before

    def end(self, before: Owner) -> None:
        """Done: whatever it left may be taken by others now."""
        self.over = True
        _local.owner = before


def owner_ref() -> Owner:
    """Who a wait or a frame belongs to: the task, the piece of work in a pool, or the thread that is running.

    A weak reference: unlike an id, no later task or thread is ever taken for it.
    """
    loop = _get_running_loop()
    if loop is not None and (task := asyncio.current_task(loop)) is not None:
        return ref(task)
    # A loop of trio's hooks the generators of its thread, which is quicker to see than a task.
    if _trio is not None and _get_asyncgen_hooks()[0] is not None and _trio.in_trio_task():
        return ref(_trio.current_task())
    try:
        return _local.owner  # type: ignore[no-any-return]  # a thread's own
    except AttributeError:
        return _of_thread()


def _of_thread() -> Owner:
    try:
        return _local.owner  # type: ignore[no-any-return]  # a thread's own
    except AttributeError:
        _local.owner = mine = ref(threading.current_thread())
        return mine


def is_over(owned_by: Owner) -> bool:
    """Whether an owner has finished, so that nothing more comes from it."""
    who = owned_by()
    if who is None:
        return True
    if isinstance(who, Work):
        return who.over
    if isinstance(who, threading.Thread):
        return not who.is_alive()
    if isinstance(who, asyncio.Future):
        return who.done()
    return getattr(who.coro, "cr_frame", None) is None  # trio's task


class Frame:
    """What every kind has in common: its place in the chain, and the limiter waits left in it.

    What most frames never learn stands in the classes: a frame is made for every request, and each store counts.
    """

    is_open = False
    polls: "dict[Poll, Wait]" = {}  # noqa: RUF012  # nobody's, and never filled: `own_polls` makes a frame's own
    hop: "HTTPFrame | None"
    """The nearest request that it is inside of."""
    _before: Context | None = None

    def __init__(self, context: Context | None = None) -> None:
        outer: Any = (get_current() if context is None else context).get(KEY)
        self.outer: Frame | None = outer
        self.hop = None if outer is None else outer if isinstance(outer, HTTPFrame) else outer.hop
        self.owner = owner_ref()
        self.waits: list[Wait] = []
        self.is_open = True

    def enter(self, span: Span | None = None, before: Context | None = None) -> None:
        """Become the current frame; with a span, that is the current span too. `before` is the current context."""
        if before is None:
            before = get_current()
        self._before = before
        # A context is a dict that refuses to be changed; this one is nobody's yet, and one copy is enough.
        inside = Context(before)
        _put(inside, KEY, self)
        if span is not None:
            _put(inside, SPAN_KEY, span)
        attach(inside)

    def leave(self) -> None:
        """Make current what was current before. A context that has moved on without us (a generator) is left alone."""
        before, self._before = self._before, None
        if before is not None and get_current().get(KEY) is self:
            attach(before)

    def close(self) -> None:
        """The call is over: what nobody took of its waits is told now."""
        self.is_open = False
        if self.waits or self.polls:
            _tell_left(self.waits, self.polls)

    def own_polls(self) -> "dict[Poll, Wait]":
        """Where refusals are left, which grants may yet follow."""
        return self.__dict__.setdefault("polls", {})  # type: ignore[no-any-return]

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

    attempt = 1
    past: "dict[int, Send] | None" = None  # the last send of each request, once there were two
    span: Span | None = None

    def __init__(self, of: int, context: Context | None = None) -> None:
        Frame.__init__(self, context)  # `super()` would cost a third of it
        self.of = of
        self.serial = next(_serials)
        self.unkeyed: list[Send] = []  # those not yet told apart: a call that sends once never needs to

    def begin_attempt(self, number: int) -> None:
        """The attempt of this number begins; waits that the one before left belong to no request any more."""
        self.attempt = number
        if number > 1:
            self.tell_waits()


class BreakerFrame(Frame):
    """One call through a breaker. It holds back at most one send, whose outcome it decides when it closes."""

    outcome: str | None = None
    target: "Target | None" = None  # of the last request inside

    def __init__(self, of: int, state: str, context: Context | None = None) -> None:
        Frame.__init__(self, context)
        self.of, self.state = of, state
        self.held: list[Send] = []

    @property
    def host(self) -> str | None:
        """The host of the last request inside."""
        return None if self.target is None else self.target.host

    def hold(self, send: "Send") -> None:
        """Keep this send's span open until the breaker has decided; the one before is let go, undecided."""
        send.hold(self)
        self.held.append(send)
        while len(self.held) > 1:
            self._let_go()
        if not self.is_open:  # it closed meanwhile, in another thread
            self._let_go()

    def close(self) -> None:
        Frame.close(self)
        while self.held:
            self._let_go(self.outcome)

    def _let_go(self, outcome: str | None = None) -> None:
        try:
            send = self.held.pop(0)
        except IndexError:  # another thread was faster
            return
        if send.is_open:  # the process's end may have ended it
            send.breaker_recorded = outcome or "none"
            send.release()


class ResolutionFrame(Frame):
    """The resolution of one artifact."""

    def __init__(self, artifact_id: str | None, work_id: str | None) -> None:
        super().__init__()
        self.artifact_id, self.work_id = artifact_id, work_id


class AttemptFrame(Frame):
    """One attempt to get an artifact from one source; it hears of the responses and the downloads inside."""

    last_host: str | None = None
    last_status: int | None = None
    stored = False

    def __init__(self, source: str | None) -> None:
        super().__init__()
        self.source = source


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


class Asked(Target):
    """What a client asks for in one hop: the request, when, and by whom. It knows no frame: later sends remember it."""

    parent: SpanContext = INVALID_SPAN_CONTEXT
    """The span that was current."""
    role: str | None = None
    tracer: Tracer | None = None  # of a client that has its own
    resends = 0  # what a header of the request says about them
    content_key: int | None = None  # hash of the body, None when it cannot be compared
    request: ref[Any] | None = None

    def __init__(self, method: str, url: Any) -> None:
        self.method, self.url = method, url
        self.owner = owner_ref()
        self.start = time_ns()
        self.waits: list[Wait] = []  # those that were for it


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

    def __init__(self, asked: Asked, outer: Frame | None) -> None:
        self.outer = outer
        self.hop = None if outer is None else hop_of(outer)
        self.asked, self.owner, self.waits = asked, asked.owner, asked.waits
        self.is_open = True
        self.sends: list[Send] = []  # those that may yet turn out to be the one whose response the client gets

    def close(self) -> None:
        self.is_open = False
        _tell_left(self.waits, self.polls, self.asked)


class CacheAnswer(NamedTuple):
    """What a cache said of the response it gave: its own, confirmed by the server, past its lifetime (None: unknown)."""

    hit: bool
    revalidated: bool
    stale: bool | None


def hop_of(frame: Frame) -> HTTPFrame | None:
    """The request that this frame is, or is inside of."""
    return frame if isinstance(frame, HTTPFrame) else frame.hop


def current_hop() -> HTTPFrame | None:
    """The request that the running code is inside of."""
    frame = current()
    return None if frame is None else hop_of(frame)


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
