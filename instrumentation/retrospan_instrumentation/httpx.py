"""Record every send of httpx and httpx2 clients.

    from retrospan_instrumentation.httpx import HTTPX2ClientInstrumentor
    HTTPX2ClientInstrumentor().instrument()

Two hooks, the same for both libraries. The client's `_send_single_request`, once a hop on any transport, opens the frame.
The wire transports' `handle_request` makes a send of each request that really goes out, however many the layers between
make of one. What a send is stands in `sends`; nothing here reads a URL, a header's text or a body.
"""

import functools
import inspect
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from time import time_ns
from types import ModuleType
from typing import Any, ClassVar
from weakref import WeakSet, ref

from opentelemetry import propagate, trace
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
    set_value,
)
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import INVALID_SPAN, Tracer, TracerProvider

from . import emit, frames, metrics, program_hooks, resends, sends, waits
from .contexts import attach, get_current
from .frames import KEY, SPAN_KEY, HTTPFrame
from .hooks import Call, LibraryInstrumentor, fault, is_disabled
from .program_hooks import ProgramHooks
from .semconv import ROLES, SCOPE, VERSION
from .sends import Send

_logger = logging.getLogger("retrospan")

# What the standard key for suppressing HTTP instrumentation holds when we set it: true for the official instrumentation,
# wherever it sits, which leaves the request to us; told apart by us, since a transport may make requests of its own.
_OURS = "retrospan"
_NOT_OTHERS = (None, False, _OURS)
_SHUNNED = "retrospan: not this client"
_SUPPRESS_OLD = "suppress_instrumentation"
_SUPPRESSING = frozenset((_SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY, _SUPPRESS_OLD))


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
        library = _Library(module, self.distribution, self._hooks, self._shunned)
        self.wrap(module.Client, "_send_single_request", library.enter_client)
        self.wrap(module.AsyncClient, "_send_single_request", library.enter_client, asynchronous=True)
        for transport, name, asynchronous in _wires(module):
            if library.tells:
                self._place(transport, name, library.telling(transport.__dict__[name]))
            self.wrap(transport, name, library.enter_wire, asynchronous=asynchronous)

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
        library = _Library(module, cls.distribution, hooks, cls._shunned)
        library.tracer = trace.get_tracer(SCOPE, VERSION, tracer_provider) if tracer_provider is not None else None
        alone = cls()
        asynchronous = isinstance(client, module.AsyncClient)
        alone.wrap_object(client, "_send_single_request", library.enter_client, asynchronous=asynchronous)
        name = "handle_async_request" if asynchronous else "handle_request"
        for transport in _transports_of(client, tuple(transport for transport, *_ in _wires(module))):
            told = library.telling(getattr(type(transport), name)) if library.tells else None
            alone.wrap_object(transport, name, library.enter_wire, asynchronous=asynchronous, function=told)

    @classmethod
    def uninstrument_client(cls, client: Any) -> None:
        """Leave this client alone from now on, also where all clients are watched."""
        cls._shunned.add(client)
        wires = tuple(transport for transport, *_ in _wires(sys.modules[cls.distribution]))
        for thing in (client, *_transports_of(client, wires)):
            for name in ("_send_single_request", "handle_request", "handle_async_request"):
                thing.__dict__.pop(name, None)


def _wires(module: ModuleType) -> tuple[tuple[type, str, bool], ...]:
    return (
        (module.HTTPTransport, "handle_request", False),
        (module.AsyncHTTPTransport, "handle_async_request", True),
    )


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


def _excluded(library: str) -> re.Pattern[str] | None:
    """The URLs that the environment leaves out, as OpenTelemetry has it: regular expressions, commas between."""
    own = f"OTEL_PYTHON_{library.upper()}_EXCLUDED_URLS"
    variable = own if own in os.environ else "OTEL_PYTHON_EXCLUDED_URLS"
    patterns = [pattern.strip() for pattern in os.environ.get(variable, "").split(",") if pattern.strip()]
    try:
        return re.compile("|".join(patterns)) if patterns else None
    except re.error:
        _logger.error("%s holds no list of regular expressions: no URL is left out.", variable)
        return None


def _is_suppressed(context: Context) -> bool:
    return not _SUPPRESSING.isdisjoint(context) and (
        context.get(_SUPPRESS_HTTP_INSTRUMENTATION_KEY) not in _NOT_OTHERS
        or bool(context.get(_SUPPRESS_INSTRUMENTATION_KEY))
        or bool(context.get(_SUPPRESS_OLD))
    )


class _Hop(HTTPFrame):
    """One hop of a client: the frame, and what surrounds the call."""

    def __init__(self, library: "_Library", request: Any, context: Context) -> None:
        waits.sweep()
        extensions = request.extensions
        role = extensions.get("role") if extensions and isinstance(extensions, dict) else None
        if role not in ROLES:
            role = waits.role_in(context) if waits.ROLE_KEY in context else None
        parent: Any = context.get(SPAN_KEY, INVALID_SPAN)
        super().__init__(request.method, request.url, role, parent.get_span_context(), context)
        if library.tracer is not None:
            self.tracer = library.tracer
        if self.started > metrics.next_look:
            metrics.look()
        self._library = library
        content = getattr(request, "_content", None)  # absent while the body is a stream: nothing to compare
        if content is not None:
            self.content_key = hash(content)
        if asked := resends.asked_for(request.headers):
            self.asked = asked
        self.request = ref(request)
        waits.take(self)
        # A context is a dict that refuses to be changed; this one is nobody's yet.
        self._before, self.inside = context, Context(context)
        dict.update(self.inside, {KEY: self, _SUPPRESS_HTTP_INSTRUMENTATION_KEY: _OURS})
        attach(self.inside)

    def leave(self) -> None:
        """Make current what was current before."""
        inside, self.inside = self.inside, None
        if get_current() is inside:
            attach(self._before)  # type: ignore[arg-type]  # it has entered
            self._before = None
        else:
            super().leave()

    def returned(self, result: Any) -> Any:
        self.leave()
        carried = getattr(getattr(result.stream, "_stream", result.stream), "retrospan_send", None)
        late = sends.conclude(self, result, None, carried)
        if late is not None:
            self._library.follow(result, late)
        return result

    def raised(self, error: BaseException) -> None:
        self.leave()
        sends.conclude(self, None, error, None)


class _Silence(Call):
    """The call of a client that is to be left alone, down to its wire."""

    def __init__(self) -> None:
        self._before = get_current()
        attach(set_value(_SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SHUNNED, self._before))

    def returned(self, result: Any) -> Any:
        attach(self._before)
        return result

    def raised(self, error: BaseException) -> None:
        attach(self._before)


class _WireSend(Send):
    """One send on the wire, and what surrounds its call."""

    library: "_Library"
    alone: HTTPFrame | None = None

    def returned(self, result: Any) -> Any:
        now = time_ns()
        if self.alone is not None:
            self._leave(self.alone)
        self.headers(result, now)
        self.library.follow(result, self)
        return result

    def raised(self, error: BaseException) -> None:
        if self.alone is not None:
            self._leave(self.alone)
        self.finish(time_ns(), error=type(error).__name__)

    def _leave(self, hop: HTTPFrame) -> None:
        self.alone = None
        hop.leave()
        resends.leave_last(hop)


class _Followed:
    """What both stream classes share: counting, the end, and being dropped."""

    retrospan_send: Send | None = None
    _bytes = 0

    def __init__(self, inner: Any, send: Send) -> None:
        self._inner, self.retrospan_send = inner, send

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # not initialised: without this, a copy would look for itself for ever
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        send = self.retrospan_send
        if send is not None and send.end is None:
            frames.left.append(partial(send.finish, time_ns(), body_end="abandoned", body_bytes=self._bytes))

    def _over(self, error: BaseException | None = None, body_end: str | None = None) -> None:
        # A reader that stops early has not failed, nor has one that is cancelled between two chunks of its own accord.
        send = self.retrospan_send
        if send is None or send.end is not None:
            return
        try:
            send.finish(time_ns(), None if error is None else type(error).__name__, body_end, self._bytes)
        except Exception as own:
            fault(own)


class _Library:
    """One of the two: its hooks, its left-out URLs, and stream classes made from its own base classes, which it checks for."""

    tracer: Tracer | None = None

    def __init__(self, module: ModuleType, name: str, hooks: ProgramHooks, shunned: WeakSet[Any]) -> None:
        self._excluded = _excluded(name)
        self._hooks, self._shunned = hooks, shunned
        self.tells = any(hook is not None for hook in hooks)
        self._synchronous = module.SyncByteStream
        self._wires = (module.HTTPTransport, module.AsyncHTTPTransport)
        self._make_send: type[_WireSend] = type("_WireSend", (_WireSend,), {"library": self})

        class FollowedStream(_Followed, module.SyncByteStream):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Iterator[bytes]:
                try:
                    for chunk in self._inner:
                        self._bytes += len(chunk)
                        yield chunk
                except GeneratorExit:
                    raise
                except BaseException as error:
                    self._over(error)
                    raise
                self._over()

            def close(self) -> None:
                try:
                    self._inner.close()
                finally:
                    send = self.retrospan_send
                    if send is not None and send.end is None:
                        self._over(body_end="closed")

        class FollowedAsyncStream(_Followed, module.AsyncByteStream):  # type: ignore[misc, name-defined]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                try:
                    async for chunk in self._inner:
                        self._bytes += len(chunk)
                        yield chunk
                except GeneratorExit:
                    raise
                except BaseException as error:
                    self._over(error)
                    raise
                self._over()

            async def aclose(self) -> None:
                try:
                    await self._inner.aclose()
                finally:
                    self._over(body_end="closed")

        self._stream, self._async_stream = FollowedStream, FollowedAsyncStream

    def enter_client(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """Before a hop of a client."""
        context = get_current()
        request = args[0] if args else kwargs["request"]
        if _is_suppressed(context) or (self._excluded is not None and self._excluded.search(str(request.url))):
            return None
        if self._shunned.data and client in self._shunned:  # type: ignore[attr-defined]  # quicker than its own truth
            return _Silence()
        hop = _Hop(self, request, context)
        if client._mounts or not isinstance(client._transport, self._wires):
            propagate.inject(request.headers)  # where no wire follows, the trace goes on all the same
        return hop

    def enter_wire(self, transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _WireSend | None:
        """Before a send on the wire."""
        context = get_current()
        request = args[0] if args else kwargs["request"]
        frame: Any = context.get(KEY)
        # Right inside the client's hook nothing can have come between that says otherwise.
        is_inside = frame is not None and frame.kind == "http" and frame.inside is context
        if (not is_inside and _is_suppressed(context)) or (
            self._excluded is not None and self._excluded.search(str(request.url))
        ):
            return None
        hop = frame if is_inside else frames.nearest(HTTPFrame, frame) if frame is not None else None
        if hop is not None and hop.is_open:
            send = sends.begin(request, hop, frame, context, self._make_send)
        else:  # a transport used without a client
            hop = _Hop(self, request, context)
            hop.is_open = False
            context = get_current()
            send = sends.begin(request, hop, hop, context, self._make_send)
            send.alone = hop
        emit.propagate_to(request.headers, send.span, context)
        if self.tells:
            program_hooks.sending.set(send.span)
        return send

    def telling(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        """A wire transport's method, with the program's own hooks around it."""
        around = program_hooks.around_async if inspect.iscoroutinefunction(handle) else program_hooks.around
        return functools.wraps(handle)(around(handle, self._hooks))

    def follow(self, response: Any, send: Send) -> None:
        """See this response's body to its end; a body that is there already has ended with the headers."""
        if response.is_closed:
            send.finish(time_ns())
            return
        stream = response.stream
        inner = getattr(stream, "_stream", None)  # inside the client's own wrapper, which measures `elapsed`
        followed = self._stream if isinstance(stream, self._synchronous) else self._async_stream
        if inner is not None:
            stream._stream = followed(inner, send)
        else:
            response.stream = followed(stream, send)
