"""What the tests' own code sees of each call of each layer, by its own clock: a tree, from which `expected` tells the rows.

    with calling("breaker", state="closed") as seen:
        ...                                     # what is called in here becomes one of `seen.inner`

No hook is asked, and nothing here is instrumented: the tree is the truth that a record is held against.
"""

import asyncio
import itertools
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from functools import cache
from time import time_ns
from typing import Any

import trio
from instrumentation.scenario import HTTP, call, drive


@dataclass(eq=False)
class Seen:
    """One call of a layer: fetch, retry, attempt, breaker, limiter, client, hop, cache, wire. Times are ns since 1970."""

    layer: str
    who: str  # the task, or the piece of work of a thread
    began: int
    ended: int = 0
    raised: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    inner: list["Seen"] = field(default_factory=list)

    def abandoned(self, began: int) -> None:
        """Bodies in here that are not over were dropped at this time, and collected some time later.

        When is not known here: what another thread collects is gone before its finalisers have run.
        """
        if self.layer == "wire" and "status" in self.facts:
            self.facts.setdefault("over", ["abandoned", began, None])
        for inner in self.inner:
            inner.abandoned(began)

    def as_dict(self) -> dict[str, Any]:
        """For another process; `of` makes it again."""
        return asdict(self)

    @classmethod
    def of(cls, told: dict[str, Any]) -> "Seen":
        return cls(**{**told, "inner": [cls.of(inner) for inner in told["inner"]]})


here: ContextVar[Seen | None] = ContextVar("here", default=None)
_work: ContextVar[int] = ContextVar("work", default=0)
_works = itertools.count(1)


def _who() -> str:
    task = ""
    if asyncio._get_running_loop() is not None and (current := asyncio.current_task()) is not None:
        task = current.get_name()
    elif trio.lowlevel.in_trio_task():
        task = f"trio {id(trio.lowlevel.current_task())}"
    return f"{os.getpid()}/{threading.get_ident()}/{_work.get()}/{task}"


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as a piece of work for another thread, which sees where its caller is now."""
    outer, number = here.get(), next(_works)

    def work(*args: Any) -> Any:
        token, before = _work.set(number), here.set(outer)
        try:
            return function(*args)
        finally:
            _work.reset(token)
            here.reset(before)

    return work


@contextmanager
def calling(layer: str, **facts: Any) -> Iterator[Seen]:
    """See a call of this layer, and what is called inside it."""
    seen = Seen(layer, _who(), time_ns(), facts=facts)
    if (outer := here.get()) is not None:
        outer.inner.append(seen)
    token = here.set(seen)
    try:
        yield seen
    except BaseException as error:
        seen.raised = type(error).__name__
        raise
    finally:
        seen.ended = time_ns()
        here.reset(token)


def wire(http: HTTP, is_hop: bool) -> Any:
    """The library's own transport, each of whose sends is seen; `is_hop`: it is all of a client's transport."""

    async def send(request: Any, own: Callable[[Any], Any]) -> Any:
        with calling("wire", method=request.method, url=str(request.url)) as seen:
            try:
                response = await call(own(request))
            finally:
                seen.facts["traceparent"] = request.headers.get("traceparent", "")
            _note(http, seen, response)
        return response

    async def handle(request: Any, own: Callable[[Any], Any]) -> Any:
        if not is_hop:
            return await send(request, own)
        return await hop(http, request, lambda request: send(request, own))

    return _wire_class(http.module, http.is_async)(handle)


async def hop(http: HTTP, request: Any, go: Callable[[Any], Any]) -> Any:
    """One hop of a client: whatever its transport does."""
    with calling("hop") as seen:
        response = await call(go(request))
        _note(http, seen, response)
    return response


def _note(http: HTTP, seen: Seen, response: Any) -> None:
    """What an answer says, and, when its body is over, how long that was and how it ended."""
    seen.facts |= {
        "status": response.status_code,
        "media_type": response.headers.get("content-type"),
        "retry_after": response.headers.get("retry-after"),
        "bytes": 0,
    }
    response.stream = _stream_class(http.module, http.is_async)(response.stream, seen)


@cache
def _wire_class(module: Any, is_async: bool) -> Any:
    """A subclass of the library's transport, as programs have them: a client sees one of the library's own."""
    if is_async:

        class AsyncWire(module.AsyncHTTPTransport):  # type: ignore[misc]
            def __init__(self, handle: Callable[..., Awaitable[Any]]) -> None:
                super().__init__(verify=False)
                self._handle = handle

            async def handle_async_request(self, request: Any) -> Any:
                return await self._handle(request, super().handle_async_request)

        return AsyncWire

    class Wire(module.HTTPTransport):  # type: ignore[misc]
        def __init__(self, handle: Callable[..., Coroutine[Any, Any, Any]]) -> None:
            super().__init__(verify=False)
            self._handle = handle

        def handle_request(self, request: Any) -> Any:
            return drive(self._handle(request, super().handle_request))

    return Wire


class _Watched:
    """A body that counts its bytes, and keeps between which times it was over, and how: read, closed, or broken."""

    def __init__(self, inner: Any, seen: Seen) -> None:
        self._inner, self._seen = inner, seen

    def __getattr__(self, name: str) -> Any:
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def _asks(self) -> None:
        self._asked = time_ns()

    def _got(self, chunk: bytes) -> bytes:
        self._seen.facts["bytes"] += len(chunk)
        return chunk

    def _over(self, how: str) -> None:
        self._seen.facts.setdefault("over", [how, self._asked, time_ns()])


@cache
def _stream_class(module: Any, is_async: bool) -> Any:
    if is_async:

        class AsyncWatched(_Watched, module.AsyncByteStream):  # type: ignore[misc]
            async def __aiter__(self) -> AsyncIterator[bytes]:
                self._asks()
                try:
                    async for chunk in self._inner:
                        yield self._got(chunk)
                        self._asks()
                except Exception as error:
                    self._over(type(error).__name__)
                    raise
                self._over("read")

            async def aclose(self) -> None:
                self._asks()
                await self._inner.aclose()
                self._over("closed")

        return AsyncWatched

    class Watched(_Watched, module.SyncByteStream):  # type: ignore[misc]
        def __iter__(self) -> Iterator[bytes]:
            self._asks()
            try:
                for chunk in self._inner:
                    yield self._got(chunk)
                    self._asks()
            except Exception as error:
                self._over(type(error).__name__)
                raise
            self._over("read")

        def close(self) -> None:
            self._asks()
            self._inner.close()
            self._over("closed")

    return Watched
