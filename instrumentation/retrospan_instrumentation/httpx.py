"""Record every send of httpx and httpx2 clients.

    from retrospan_instrumentation.httpx import HTTPX2ClientInstrumentor
    HTTPX2ClientInstrumentor().instrument()

Two hooks, the same for both libraries. The client's `_send_single_request`, once a hop on any transport, opens the frame.
The wire transports' `handle_request` makes a send of each request that really goes out, however many the layers between
make of one. What a send is stands in `sends`; nothing here reads a URL, a header's text or a body.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from time import time_ns
from types import FunctionType, MethodType, ModuleType
from typing import Any, ClassVar
from weakref import WeakSet

from opentelemetry import trace
from opentelemetry.context import Context, set_value
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Tracer, TracerProvider

from . import bodies, emit, metrics, program_hooks, resends, sends
from .asked import Asked
from .contexts import attach, get_current
from .frames import KEY, Frame, HTTPFrame
from .headers import learn
from .hooks import LibraryInstrumentor, is_disabled
from .left_out import OURS, SHUNNED, SUPPRESS_HTTP, SUPPRESSING, excluded_urls, is_suppressed
from .program_hooks import ProgramHooks
from .semconv import SCOPE, VERSION
from .sends import Send
from .surround import Call


class _HTTPInstrumentor(LibraryInstrumentor):
    """`instrument()` takes the official instrumentation's arguments, a program's own hooks among them (`program_hooks`)."""

    layer = "http"
    _hooks = ProgramHooks()
    _shunned: ClassVar[WeakSet[Any]] = WeakSet()  # clients that were told to be left alone

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {self.distribution: self._hook}

    def _instrument(self, **kwargs: Any) -> None:
        request, response = kwargs.get("request_hook"), kwargs.get("response_hook")
        self._hooks = ProgramHooks(
            request, response, kwargs.get("async_request_hook"), kwargs.get("async_response_hook")
        )
        super()._instrument(**kwargs)

    def _hook(self, module: ModuleType) -> None:
        for asynchronous in (False, True):
            side = _Side(module, self.distribution, self._hooks, self._shunned, asynchronous)
            if side.tells:
                self._place(side.wire, side.handle, side.telling(side.wire.__dict__[side.handle]))
            self.wrap(side.client, "_send_single_request", side.enter_client, asynchronous=asynchronous)
            if side.tells or type(side.wire.__dict__[side.handle]) is not FunctionType:
                self.wrap(side.wire, side.handle, side.enter_wire, asynchronous=asynchronous)
            else:
                self.wrap(side.wire, side.handle, side.enter_wire, asynchronous=asynchronous, choose=_past_plain)
                side.placed = side.wire.__dict__[side.handle]
            if (past := bodies.past(side.own_stream)) is not None:
                self._place(side.own_stream, past.__name__, past)

    @classmethod
    def instrument_client(
        cls,
        client: Any,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        request_hook: Callable[..., Any] | None = None,
        response_hook: Callable[..., Any] | None = None,
    ) -> None:
        """Watch this `Client` or `AsyncClient` alone, with these hooks, which are coroutine functions for the latter.

        Wherever all clients are watched it changes nothing, but for one that `uninstrument_client` had left out. Its own
        wire transports are seen, under a cache or a retrying transport too; those are found among their attributes.
        """
        cls._shunned.discard(client)
        if is_disabled():
            return
        module = sys.modules[cls.distribution]
        if meter_provider is not None:
            metrics.use(meter_provider)
        hooks = ProgramHooks(request_hook, response_hook, request_hook, response_hook)
        side = _Side(module, cls.distribution, hooks, cls._shunned, isinstance(client, module.AsyncClient))
        side.tracer = trace.get_tracer(SCOPE, VERSION, tracer_provider) if tracer_provider is not None else None
        alone = cls()
        alone.wrap_object(client, "_send_single_request", side.enter_client, asynchronous=side.asynchronous)
        for transport in _transports_of(client, _wires(module)):
            told = side.telling(getattr(type(transport), side.handle)) if side.tells else None
            alone.wrap_object(transport, side.handle, side.enter_wire, asynchronous=side.asynchronous, function=told)

    @classmethod
    def uninstrument_client(cls, client: Any) -> None:
        """Leave this client alone from now on, also where all clients are watched."""
        cls._shunned.add(client)
        for thing in (client, *_transports_of(client, _wires(sys.modules[cls.distribution]))):
            for name in ("_send_single_request", "handle_request", "handle_async_request"):
                thing.__dict__.pop(name, None)


def _wires(module: ModuleType) -> tuple[type, ...]:
    return module.HTTPTransport, module.AsyncHTTPTransport


def _transports_of(client: Any, wires: tuple[type, ...], depth: int = 4) -> list[Any]:
    """The wire transports that a client reaches: its own, its mounts', and those inside theirs."""
    found: dict[int, Any] = {}
    seen: list[Any] = [client._transport, *client._mounts.values()]
    for _ in range(depth):
        for thing in seen:
            if isinstance(thing, wires):
                found[id(thing)] = thing
        seen = [
            part
            for thing in seen
            if not isinstance(thing, wires)
            for part in getattr(thing, "__dict__", {}).values()
            if hasattr(part, "handle_request") or hasattr(part, "handle_async_request")
        ]
    return list(found.values())


class HTTPXClientInstrumentor(_HTTPInstrumentor):
    """Hooks httpx."""

    distribution, versions = "httpx", ">=0.27,<1"


class HTTPX2ClientInstrumentor(_HTTPInstrumentor):
    """Hooks httpx2, under whatever name it is imported."""

    distribution, versions = "httpx2", ">=2,<3"


class _Hop(HTTPFrame):
    """One hop of a client: the frame, and what surrounds the call."""

    def __init__(self, asked: Asked, outer: Frame | None, side: "_Side", context: Context) -> None:
        HTTPFrame.__init__(self, asked, outer)
        sends.around(outer, asked)  # for the waits on the way; each of its sends looks around for itself
        self._side = side
        self._before, self.inside = context, Context({**context, KEY: self, SUPPRESS_HTTP: OURS})
        attach(self.inside)

    def leave(self) -> None:
        """Make current what was current before."""
        inside, self.inside = self.inside, None
        if get_current() is inside:
            attach(self._before)
        else:
            HTTPFrame.leave(self)

    def returned(self, result: Any) -> Any:
        self.leave()
        carried = getattr(getattr(result.stream, "_stream", result.stream), "retrospan_send", None)
        late = sends.conclude(self, result, None, carried)
        if late is not None:
            self._side.follow(result, late)
        return result

    def raised(self, error: BaseException) -> None:
        self.leave()
        sends.conclude(self, None, error, None)


class _Silence(Call):
    """The call of a client that is to be left alone, down to its wire."""

    def __init__(self) -> None:
        self._before = get_current()
        attach(set_value(SUPPRESS_HTTP, SHUNNED, self._before))

    def returned(self, result: Any) -> Any:
        attach(self._before)
        return result

    def raised(self, error: BaseException) -> None:
        attach(self._before)


class _WireSend(Send):
    """One send on the wire, and what surrounds its call."""

    side: "_Side"
    alone: HTTPFrame | None = None

    def returned(self, result: Any) -> Any:
        now = time_ns()
        if self.alone is not None:
            self._leave(self.alone)
        self.headers(result, now)
        self.side.follow(result, self)
        return result

    def raised(self, error: BaseException) -> None:
        if self.alone is not None:
            self._leave(self.alone)
        self.finish(time_ns(), error=type(error).__name__)

    def _leave(self, hop: HTTPFrame) -> None:
        self.alone = None
        hop.leave()
        resends.leave_last(hop)


class _PlainSend(Send):
    """A hop that is one send, its client's transport being the wire itself: nothing comes between that could see a frame."""

    side: "_Side"

    def returned(self, result: Any) -> Any:
        self.headers(result, time_ns())
        self.answers(result)
        self.side.follow(result, self)
        return result

    def raised(self, error: BaseException) -> None:
        self.finish(time_ns(), error=type(error).__name__)


def _past_plain(handle: Callable[..., Any], hook: Callable[..., Any]) -> Callable[..., Any]:
    """The wire's hook, but for plain sends: all that is to be seen of one here is that it has come.

    Synchronous or not: of an asynchronous transport both give a coroutine, and one more around it would cost as much again.
    """

    def handle_request(transport: Any, request: Any) -> Any:
        send: Any = resends.last.get()
        if type(send) is _PlainSend and send.wire is None and send.end is None:
            of = send.asked.request
            if of() is request:
                send.wire = True
                return handle(transport, request)
        return hook(transport, request)

    return handle_request


class _Side:
    """The synchronous or the asynchronous half of one of the two libraries: its hooks, and its left-out URLs."""

    def __init__(
        self, module: ModuleType, name: str, hooks: ProgramHooks, shunned: WeakSet[Any], asynchronous: bool
    ) -> None:
        learn(module.Headers)
        self.tracer: Tracer | None = None
        self._excluded = excluded_urls(name)
        self._hooks, self._shunned = hooks, shunned
        self.tells = any(hook is not None for hook in hooks)
        self.asynchronous = asynchronous
        self.client = module.AsyncClient if asynchronous else module.Client
        self.wire = module.AsyncHTTPTransport if asynchronous else module.HTTPTransport
        self.handle = "handle_async_request" if asynchronous else "handle_request"
        self.placed: Any = None  # our hook on the wire transport's class, where it is the only one
        # The stream that a client puts around each body, to measure `elapsed`.
        own = "BoundAsyncStream" if asynchronous else "BoundSyncStream"
        self.own_stream: Any = getattr(getattr(module, "_client", None), own, None)
        streams, base = (
            (bodies.async_streams, module.AsyncByteStream)
            if asynchronous
            else (bodies.sync_streams, module.SyncByteStream)
        )
        self._followed = streams(base, bodies.is_closing(self.own_stream))

    def enter_client(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """Before a hop of a client."""
        context = get_current()
        request = args[0] if args else kwargs["request"]
        if (not SUPPRESSING.isdisjoint(context) and is_suppressed(context)) or (
            self._excluded is not None and self._excluded.search(str(request.url))
        ):
            return None
        if self._shunned.data and client in self._shunned:  # type: ignore[attr-defined]  # quicker than its own truth
            return _Silence()
        outer: Any = context.get(KEY)
        asked = Asked(request, context, self.tracer)
        transport = client._transport
        handle = getattr(transport, self.handle)
        if client._mounts or not isinstance(transport, self.wire):
            # Where no wire follows, the trace goes on all the same.
            together = emit.held_together(context, outer)
            emit.propagate_to(request.headers, trace.get_current_span(together), together)
        elif type(handle) is MethodType and handle.__func__ is self.placed:  # and nobody's wrapper of it
            send = _PlainSend(asked, asked, asked.start, None, outer, context)
            send.side = self
            emit.propagate_to(request.headers, send.span, context)
            resends.last.set(send)  # where the wire's hook, which comes next, finds it
            return send
        return _Hop(asked, outer, self, context)

    def enter_wire(self, transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _WireSend | None:
        """Before a send on the wire."""
        request = args[0] if args else kwargs["request"]
        context = get_current()
        frame: Any = context.get(KEY)
        # Right inside the client's hook nothing can have come between that says otherwise.
        is_inside = isinstance(frame, HTTPFrame) and frame.inside is context
        if (not is_inside and is_suppressed(context)) or (
            self._excluded is not None and self._excluded.search(str(request.url))
        ):
            return None
        hop = frame.hop if frame is not None else None
        if hop is not None and hop.is_open:
            send = sends.begin(request, hop, frame, context, _WireSend)
        else:  # a transport used without a client
            hop = _Hop(Asked(request, context, self.tracer), frame, self, context)
            hop.is_open = False
            context = get_current()
            send = sends.begin(request, hop, hop, context, _WireSend)
            send.alone = hop
        send.side = self
        emit.propagate_to(request.headers, send.span, context)
        if self.tells:
            program_hooks.sending.set(send.span)
        return send

    def telling(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        """A wire transport's method, with the program's own hooks around it."""
        around = program_hooks.around_async if self.asynchronous else program_hooks.around
        return functools.wraps(handle)(around(handle, self._hooks))

    def follow(self, response: Any, send: Send) -> None:
        """See this response's body to its end; a body that is there already has ended with the headers."""
        if response.is_closed:
            send.finish(time_ns())
            return
        stream = response.stream
        inner = getattr(stream, "_stream", None)  # inside the client's own stream
        followed: Any = self._followed()
        followed.retrospan_send = send
        if inner is not None:
            followed.retrospan_inner, stream._stream = inner, followed
        else:
            followed.retrospan_inner, response.stream = stream, followed
