"""A program's own hooks around each send, as the official httpx instrumentation has them.

    def request_hook(span, request): span.set_attribute("tenant", request.extensions["tenant"])
    HTTPXClientInstrumentor().instrument(request_hook=request_hook)

They stand between our hook and the library's wire transport, and only where a program gave any. What they raise is logged
once, by its class, and goes no further.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NamedTuple

from opentelemetry.trace import Span

from .surround import fault


class RequestInfo(NamedTuple):
    """A request as its hook sees it; the official instrumentation's fields."""

    method: bytes
    url: Any
    headers: Any
    stream: Any
    extensions: Any


class ResponseInfo(NamedTuple):
    """A response as its hook sees it; the official instrumentation's fields."""

    status_code: int
    headers: Any
    stream: Any
    extensions: Any


RequestHook = Callable[[Span, RequestInfo], Any]
ResponseHook = Callable[[Span, RequestInfo, ResponseInfo], Any]


class ProgramHooks(NamedTuple):
    """Those of one library or client: plain functions for a `Client`, coroutine functions for an `AsyncClient`."""

    request: RequestHook | None = None
    response: ResponseHook | None = None
    async_request: Callable[[Span, RequestInfo], Awaitable[Any]] | None = None
    async_response: Callable[[Span, RequestInfo, ResponseInfo], Awaitable[Any]] | None = None


sending: ContextVar[Span | None] = ContextVar("retrospan-sending", default=None)
"""The span of the send that begins now, where a program's hooks ask for it."""


def around(handle: Callable[..., Any], hooks: ProgramHooks) -> Callable[..., Any]:
    """`handle_request(transport, request)` with the hooks around it."""

    def told(transport: Any, request: Any) -> Any:
        span, info = sending.get(), _of_request(request)
        sending.set(None)
        _call(hooks.request, span, info)
        response = handle(transport, request)
        _call(hooks.response, span, info, response)
        return response

    return told


def around_async(handle: Callable[..., Any], hooks: ProgramHooks) -> Callable[..., Any]:
    """The same of `handle_async_request`."""

    async def told(transport: Any, request: Any) -> Any:
        span, info = sending.get(), _of_request(request)
        sending.set(None)
        await _call_async(hooks.async_request, span, info)
        response = await handle(transport, request)
        await _call_async(hooks.async_response, span, info, response)
        return response

    return told


def _call(hook: Callable[..., Any] | None, span: Span | None, info: RequestInfo, *response: Any) -> None:
    if hook is not None and span is not None:
        try:
            hook(span, info, *map(_of_response, response))
        except Exception as error:
            fault(error)


async def _call_async(hook: Callable[..., Any] | None, span: Span | None, info: RequestInfo, *response: Any) -> None:
    if hook is not None and span is not None:
        try:
            await hook(span, info, *map(_of_response, response))
        except Exception as error:
            fault(error)


def _of_request(request: Any) -> RequestInfo:
    return RequestInfo(request.method.encode(), request.url, request.headers, request.stream, request.extensions)


def _of_response(response: Any) -> ResponseInfo:
    return ResponseInfo(response.status_code, response.headers, response.stream, response.extensions)
