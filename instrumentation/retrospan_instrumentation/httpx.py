"""Record every send of httpx and httpx2 clients.

    from retrospan_instrumentation.httpx import HTTPX2ClientInstrumentor
    HTTPX2ClientInstrumentor().instrument()

Two hooks, the same for both libraries. The client's `_send_single_request`, once a hop on any transport, opens the frame.
The wire transports' `handle_request` makes a send of each request that really goes out, however many the layers between
make of one. What a send is stands in `sends`; nothing here reads a URL, a header's text or a body.
"""

import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from time import time_ns
from types import ModuleType
from typing import Any
from weakref import ref

from opentelemetry import propagate
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
    get_current,
)
from opentelemetry.trace import INVALID_SPAN

from . import emit, frames, resends, sends, waits
from .frames import SPAN_KEY, HTTPFrame
from .hooks import LibraryInstrumentor, fault
from .semconv import ROLES
from .sends import Send

_logger = logging.getLogger("retrospan")

# What the standard key for suppressing HTTP instrumentation holds when we set it: true for the official instrumentation,
# wherever it sits, which leaves the request to us; told apart by us, since a transport may make requests of its own.
_OURS = "retrospan"
_NOT_OTHERS = (None, False, _OURS)
_SUPPRESSING = {_SUPPRESS_HTTP_INSTRUMENTATION_KEY: _OURS}
_SUPPRESS_OLD = "suppress_instrumentation"


class _HTTPInstrumentor(LibraryInstrumentor):
    layer = "http"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {self.distribution: self._hook}

    def _hook(self, module: ModuleType) -> None:
        library = _Library(module, _excluded(self.distribution))
        self.wrap(module.Client, "_send_single_request", library.enter_client)
        self.wrap(module.AsyncClient, "_send_single_request", library.enter_client, asynchronous=True)
        self.wrap(module.HTTPTransport, "handle_request", library.enter_wire)
        self.wrap(module.AsyncHTTPTransport, "handle_async_request", library.enter_wire, asynchronous=True)


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
    return (
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
            role = waits.role_in(context)
        parent: Any = context.get(SPAN_KEY, INVALID_SPAN)
        super().__init__(request.method, request.url, role, parent.get_span_context(), context)
        self._library = library
        content = request.__dict__.get("_content")  # absent while the body is a stream: nothing to compare
        if content is not None:
            self.content_key = hash(content)
        self.asked = resends.asked_for(request.headers)
        self.request = ref(request)
        waits.take(self)
        self.enter(values=_SUPPRESSING)

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

    def __init__(self, module: ModuleType, excluded: re.Pattern[str] | None) -> None:
        self._excluded = excluded
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

    def enter_client(self, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Hop | None:
        """Before a hop of a client."""
        context = get_current()
        request = args[0] if args else kwargs["request"]
        if _is_suppressed(context) or (self._excluded is not None and self._excluded.search(str(request.url))):
            return None
        hop = _Hop(self, request, context)
        if client._mounts or not isinstance(client._transport, self._wires):
            propagate.inject(request.headers)  # where no wire follows, the trace goes on all the same
        return hop

    def enter_wire(self, transport: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _WireSend | None:
        """Before a send on the wire."""
        context = get_current()
        request = args[0] if args else kwargs["request"]
        if _is_suppressed(context) or (self._excluded is not None and self._excluded.search(str(request.url))):
            return None
        frame = frames.current_in(context)
        hop = frames.nearest(HTTPFrame, frame) if frame is not None else None
        alone: HTTPFrame | None = None
        if hop is None or not hop.is_open:  # a transport used without a client
            alone = hop = _Hop(self, request, context)
            hop.is_open = False
            context = get_current()
        send = sends.begin(request, hop, context, self._make_send)
        send.alone = alone
        emit.propagate_to(request.headers, send.span, context)
        return send

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
