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
from .hooks import Call, LibraryInstrumentor, fault
from .semconv import ROLES
from .sends import Send

_logger = logging.getLogger("retrospan")

# What the standard key for suppressing HTTP instrumentation holds when we set it: true for the official instrumentation,
# wherever it sits, which leaves the request to us; told apart by us, since a transport may make requests of its own.
_OURS = "retrospan"
_NOT_OTHERS = (None, False, _OURS)
_SUPPRESSING = {_SUPPRESS_HTTP_INSTRUMENTATION_KEY: _OURS}
_SUPPRESS = (_SUPPRESS_INSTRUMENTATION_KEY, "suppress_instrumentation")


class _HTTPInstrumentor(LibraryInstrumentor):
    layer = "http"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {self.distribution: self._hook}

    def _hook(self, module: ModuleType) -> None:
        streams = _Streams(module, _excluded(self.distribution))
        client, wire = partial(_enter_client, streams), partial(_enter_wire, streams)
        self.wrap(module.Client, "_send_single_request", client)
        self.wrap(module.AsyncClient, "_send_single_request", client, asynchronous=True)
        self.wrap(module.HTTPTransport, "handle_request", wire)
        self.wrap(module.AsyncHTTPTransport, "handle_async_request", wire, asynchronous=True)


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


def _request(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["request"]


def _is_suppressed(context: Context) -> bool:
    if context.get(_SUPPRESS_HTTP_INSTRUMENTATION_KEY) not in _NOT_OTHERS:
        return True
    return bool(context.get(_SUPPRESS[0]) or context.get(_SUPPRESS[1]))


def _open(request: Any, context: Context) -> HTTPFrame:
    waits.sweep()
    extensions = request.extensions
    role = extensions.get("role") if isinstance(extensions, dict) else None
    if role not in ROLES:
        role = waits.role_in(context)
    parent: Any = context.get(SPAN_KEY, INVALID_SPAN)
    hop = HTTPFrame(request.method, request.url, role, parent.get_span_context(), context)
    content = request.__dict__.get("_content")  # absent while the body is a stream: nothing to compare
    hop.content_key = None if content is None else hash(content)
    hop.asked = resends.asked_for(request.headers)
    hop.request = ref(request)
    hop.waits += waits.taken_by(hop)
    hop.enter(values=_SUPPRESSING)
    return hop


class _ClientCall(Call):
    """One hop of a client."""

    def __init__(self, streams: "_Streams", client: Any, request: Any, context: Context) -> None:
        self._streams = streams
        self._hop = _open(request, context)
        if client._mounts or not isinstance(client._transport, streams.wires):
            propagate.inject(request.headers)  # where no wire follows, the trace goes on all the same

    def returned(self, result: Any) -> Any:
        self._hop.leave()
        carried = getattr(getattr(result.stream, "_stream", result.stream), "retrospan_send", None)
        late = sends.conclude(self._hop, result, None, carried)
        if late is not None:
            self._streams.follow(result, late)
        return result

    def raised(self, error: BaseException) -> None:
        self._hop.leave()
        sends.conclude(self._hop, None, error, None)


def _enter_client(streams: "_Streams", instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    context, request = get_current(), _request(args, kwargs)
    if _is_suppressed(context) or streams.leave_out(request):
        return None
    return _ClientCall(streams, instance, request, context)


class _WireCall(Call):
    """One send on the wire."""

    def __init__(self, streams: "_Streams", request: Any, hop: HTTPFrame | None, context: Context) -> None:
        self._streams = streams
        self._alone: HTTPFrame | None = None
        if hop is None:  # a transport used without a client
            self._alone = hop = _open(request, context)
            hop.is_open = False
            context = get_current()
        self._send = send = sends.begin(request, hop, context)
        emit.propagate_to(request.headers, send.span, context)

    def returned(self, result: Any) -> Any:
        now = time_ns()
        self._leave()
        self._send.headers(result, now)
        self._streams.follow(result, self._send)
        return result

    def raised(self, error: BaseException) -> None:
        self._leave()
        self._send.finish(time_ns(), error=type(error).__name__)

    def _leave(self) -> None:
        if self._alone is not None:
            self._alone.leave()
            resends.leave_last(self._alone)


def _enter_wire(streams: "_Streams", instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    context, request = get_current(), _request(args, kwargs)
    if _is_suppressed(context) or streams.leave_out(request):
        return None
    frame = frames.current_in(context)
    hop = frames.nearest(HTTPFrame, frame) if frame is not None else None
    return _WireCall(streams, request, hop if hop is not None and hop.is_open else None, context)


class _Followed:
    """What both stream classes share: counting, the end, and being dropped."""

    def __init__(self, inner: Any, send: Send) -> None:
        self._inner, self.retrospan_send, self._bytes = inner, send, 0

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":  # not initialised: without this, a copy would look for itself for ever
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        send = self.__dict__.get("retrospan_send")
        if send is not None and send.end is None:
            frames.left.append(partial(send.finish, time_ns(), body_end="abandoned", body_bytes=self._bytes))

    def _over(self, error: BaseException | None = None, body_end: str | None = None) -> None:
        # A reader that stops early has not failed, nor has one that is cancelled between two chunks of its own accord.
        try:
            self.retrospan_send.finish(
                time_ns(), None if error is None else type(error).__name__, body_end=body_end, body_bytes=self._bytes
            )
        except Exception as own:
            fault(own)


class _Streams:
    """The stream classes of one library, made from its own base classes, since it checks for them; and its left-out URLs."""

    def __init__(self, module: ModuleType, excluded: re.Pattern[str] | None) -> None:
        self._excluded = excluded
        self._synchronous = module.SyncByteStream
        self.wires = (module.HTTPTransport, module.AsyncHTTPTransport)

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

    def leave_out(self, request: Any) -> bool:
        """Whether the environment says that this request is nobody's business."""
        return self._excluded is not None and self._excluded.search(str(request.url)) is not None

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
