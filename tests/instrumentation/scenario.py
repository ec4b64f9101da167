"""One test body for both libraries and both modes.

    async def scenario():
        response = await call(client.get(url))

    http.run(scenario())

A scenario awaits only what is awaitable. So the same body drives a synchronous client, with no event loop at all, and an
asynchronous one under `asyncio.run`.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import copy_context
from importlib import import_module
from typing import Any

import tenacity
import trio

Handle = Callable[[Any], Coroutine[Any, Any, Any]]


async def call(result: Any) -> Any:
    """The result, awaited if it must be."""
    return await result if inspect.isawaitable(result) else result


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never really awaits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("a synchronous scenario had to wait")


def _run_in_trio(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def main() -> Any:
        return await coroutine

    return trio.run(main)


_RUN: dict[str, Callable[[Coroutine[Any, Any, Any]], Any]] = {
    "sync": drive,
    "asyncio": asyncio.run,
    "trio": _run_in_trio,
}


class HTTP:
    """A client library in one of its modes."""

    def __init__(self, library: str, mode: str) -> None:
        self.library, self.module, self.mode, self.is_async = library, import_module(library), mode, mode != "sync"

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a scenario in a context of its own; returns its result."""
        return copy_context().run(_RUN[self.mode], coroutine)

    def function(self, body: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        """The body as what this mode calls: a coroutine function, or a function."""
        if not self.is_async:
            return lambda *args, **kwargs: drive(body(*args, **kwargs))

        async def function(*args: Any, **kwargs: Any) -> Any:
            return await body(*args, **kwargs)

        return function

    def retrying_call(self, **policy: Any) -> Any:
        """A tenacity policy of this mode: three attempts with nothing between, the last error raised, unless told."""
        make = tenacity.AsyncRetrying if self.is_async else tenacity.Retrying
        return make(**{"stop": tenacity.stop_after_attempt(3), "reraise": True, **policy})

    async def retry(self, body: Callable[[], Coroutine[Any, Any, Any]], **policy: Any) -> Any:
        return await call(self.retrying_call(**policy)(self.function(body)))

    def client(self, **options: Any) -> Any:
        # Nothing here speaks TLS, and to load what verifies it takes 20 ms a client.
        return (self.module.AsyncClient if self.is_async else self.module.Client)(**{"verify": False, **options})

    def wire(self) -> Any:
        """A transport that really sends."""
        return (self.module.AsyncHTTPTransport if self.is_async else self.module.HTTPTransport)(verify=False)

    def handle(self, transport: Any, request: Any) -> Awaitable[Any] | Any:
        return transport.handle_async_request(request) if self.is_async else transport.handle_request(request)

    def close(self, thing: Any) -> Awaitable[None] | None:
        """Close a client, a transport or a response."""
        closed: Awaitable[None] | None = thing.aclose() if self.is_async else thing.close()
        return closed

    async def chunks(self, response: Any) -> AsyncIterator[bytes]:
        if self.is_async:
            async for chunk in response.aiter_bytes():
                yield chunk
        else:
            for chunk in response.iter_bytes():
                yield chunk

    async def open(self, client: Any, url: str, method: str = "GET") -> Any:
        """A response whose body is not read yet."""
        return await call(client.send(client.build_request(method, url), stream=True))

    async def read(self, response: Any) -> bytes:
        body: bytes = await call(response.aread() if self.is_async else response.read())
        return body

    def mock(self, answer: Callable[[Any], Any]) -> Any:
        return self.module.MockTransport(answer)

    def through(self, handle: Handle, inner: Any = None) -> Any:
        """A transport of the test's own: what `handle(request)` returns, it answers."""
        if self.is_async:

            class AsyncOwn(self.module.AsyncBaseTransport):
                async def handle_async_request(self, request: Any) -> Any:
                    return await handle(request)

                async def aclose(self) -> None:
                    if inner is not None:
                        await inner.aclose()

            return AsyncOwn()

        class Own(self.module.BaseTransport):
            def handle_request(self, request: Any) -> Any:
                return drive(handle(request))

            def close(self) -> None:
                if inner is not None:
                    inner.close()

        return Own()

    def retrying(self, inner: Any, times: int = 3, pause: Callable[[], Any] = lambda: None) -> Any:
        """A transport that sends again after a 429, a 5xx or an exception."""

        async def handle(request: Any) -> Any:
            for _ in range(times - 1):
                try:
                    response = await call(self.handle(inner, request))
                except self.module.TransportError:
                    pass
                else:
                    if response.status_code != 429 and response.status_code < 500:
                        return response
                    await call(self.close(response))
                await call(pause())
            return await call(self.handle(inner, request))

        return self.through(handle, inner)
