"""A response's body, followed to its end: how many bytes were read, and whether it broke, was closed early or was dropped.

    followed = sync_streams(httpx.SyncByteStream, closes)()
    followed.retrospan_inner, followed.retrospan_send = response.stream, send
    response.stream = followed

The library checks for its own base classes, so the classes are made from those of each.

A client puts a stream of its own around each body, to measure `elapsed`. What is followed is inside of that, and `past` spares
each body the generator in between.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from functools import cache, partial, wraps
from inspect import unwrap
from time import time_ns
from types import FunctionType, GeneratorType
from typing import Any

from . import frames
from .sends import Send
from .surround import fault, marked

_END = object()


class Followed:
    """What both kinds of stream share: the end, being dropped, and that others get what else they ask of the stream inside."""

    retrospan_send: Any = None  # until it is set up
    retrospan_inner: Any
    _bytes = 0

    def __getattr__(self, name: str) -> Any:
        if name == "retrospan_inner":  # before it is set up: without this, it would look for itself for ever
            raise AttributeError(name)
        return getattr(self.retrospan_inner, name)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A copy is one of what is inside: this one alone says what becomes of the send."""
        return self.retrospan_inner.__reduce_ex__(protocol)

    def __del__(self) -> None:
        send = self.retrospan_send
        if send is not None and send.end is None:
            frames.left.append(partial(send.finish, time_ns(), body_end="abandoned", body_bytes=self._bytes))


# -- the client's own stream: the ways in which it may pass on what is inside, to be told by their code


def _one_by_one(own: Any) -> Iterator[bytes]:
    for chunk in own._stream:  # noqa: UP028  # it is another way
        yield chunk


def _all_at_once(own: Any) -> Iterator[bytes]:
    yield from own._stream


async def _one_by_one_async(own: Any) -> AsyncIterator[bytes]:
    async for chunk in own._stream:
        yield chunk


async def _closing_async(own: Any) -> AsyncIterator[bytes]:
    chunks = own._stream.__aiter__()
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _way(function: Any) -> object:
    code = getattr(function, "__code__", None)
    return code and (code.co_code, code.co_names, code.co_exceptiontable, code.co_freevars)


# Whether each of them closes the generator that it goes through when its reader stops.
_CLOSES = {
    _way(_one_by_one): False,
    _way(_all_at_once): True,
    _way(_one_by_one_async): False,
    _way(_closing_async): True,
}


def _method(own: Any) -> Any:
    """The method of a client's own stream that gives the chunks."""
    return getattr(own, "__aiter__", None) or getattr(own, "__iter__", None)


def is_closing(own: Any) -> bool:
    """Whether a client's own stream closes the generator that it goes through, whoever has wrapped its method."""
    return _CLOSES.get(_way(unwrap(_method(own))), False)


def past(own: Any) -> Callable[[Any], Any] | None:
    """The method of a client's own stream, which goes past it where a followed one is inside.

    None where it does, or may do, more than to pass on what is inside: another release's, or one that a program has patched.
    """
    method = _method(own)
    if type(method) is not FunctionType or _way(method) not in _CLOSES or method.__name__ not in vars(own):
        return None
    begin: Callable[[Any], Any] = aiter if method.__name__ == "__aiter__" else iter

    @wraps(method)
    def hooked(stream: Any) -> Any:
        inner = stream._stream
        return begin(inner) if isinstance(inner, Followed) else method(stream)

    return marked(hooked)


# -- the streams that follow


def _over(send: Send, bytes_: int, error: BaseException | None = None, body_end: str | None = None) -> None:
    # A reader that stops early has not failed, nor has one that is cancelled between two chunks of its own accord.
    if send.end is None:
        try:
            send.finish(time_ns(), None if error is None else type(error).__name__, body_end, bytes_)
        except Exception as own:
            fault(own)


@cache
def sync_streams(base: type, closes: bool) -> type[Followed]:
    """Followed streams that pass for the library's synchronous ones. Where it `closes` the generators that it goes through, so
    do these."""

    class FollowedStream(Followed, base):  # type: ignore[misc]  # known when it is called
        def __iter__(self) -> Iterator[bytes]:
            send, total = self.retrospan_send, self._bytes
            chunks: Any = None
            try:
                chunks = iter(self.retrospan_inner)
                # An iterator need not be an iterable.
                for chunk in chunks if type(chunks) is GeneratorType else iter(chunks.__next__, _END):
                    self._bytes = total = total + len(chunk)
                    yield chunk
            except GeneratorExit:
                if closes and hasattr(chunks, "close"):
                    chunks.close()
                raise
            except BaseException as error:
                _over(send, total, error)
                raise
            _over(send, total)

        def close(self) -> None:
            try:
                self.retrospan_inner.close()
            finally:
                send = self.retrospan_send
                if send.end is None:
                    _over(send, self._bytes, body_end="closed")

    return FollowedStream


@cache
def async_streams(base: type, closes: bool) -> type[Followed]:
    """The same of its asynchronous ones, by a generator as the client's own, whose place it takes."""

    class FollowedAsyncStream(Followed, base):  # type: ignore[misc]  # known when it is called
        async def __aiter__(self) -> AsyncIterator[bytes]:
            send, chunks, total = self.retrospan_send, self.retrospan_inner, self._bytes
            try:
                if closes:
                    chunks = chunks.__aiter__()
                async for chunk in chunks:
                    self._bytes = total = total + len(chunk)
                    yield chunk
            except GeneratorExit:
                raise
            except BaseException as error:
                _over(send, total, error)
                raise
            else:
                _over(send, total)
            finally:
                # A generator that has come to its end has no frame any more, and nothing to be closed.
                if closes and getattr(chunks, "ag_frame", chunks) is not None and isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()

        def aclose(self) -> Awaitable[None]:
            # Mostly it has come to its end: a coroutine more would have nothing to tell.
            is_over = self.retrospan_send.end is not None
            return self.retrospan_inner.aclose() if is_over else self._retrospan_close()

        async def _retrospan_close(self) -> None:
            try:
                await self.retrospan_inner.aclose()
            finally:
                send = self.retrospan_send
                if send.end is None:
                    _over(send, self._bytes, body_end="closed")

    return FollowedAsyncStream
