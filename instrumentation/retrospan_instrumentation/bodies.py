"""A response's body, followed to its end: how many bytes were read, and whether it broke, was closed early or was dropped.

    stream = sync_streams(httpx.SyncByteStream)()
    stream.retrospan_inner, stream.retrospan_send = response.stream, send
    response.stream = stream

The library checks for its own base classes, so the classes are made from those of each.
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

# What the method of a client's own stream names where it passes chunks on, and does nothing else; the second closes generators.
_PASSING_ON = {("_stream",), ("_stream", "__aiter__", "isinstance", "AsyncGenerator", "aclose")}
_CLIENTS = ("httpx._client", "httpx2._client")
_END = object()


class Followed:
    """What both kinds of stream share: the end, being dropped, and that others get what else they ask of the stream inside."""

    retrospan_send: Any = None  # the send; of a copy that nobody has set up, nothing
    retrospan_inner: Any
    _bytes = 0

    def __getattr__(self, name: str) -> Any:
        if name == "retrospan_inner":  # not initialised: without this, a copy would look for itself for ever
            raise AttributeError(name)
        return getattr(self.retrospan_inner, name)

    def __del__(self) -> None:
        send = self.retrospan_send
        if send is not None and send.end is None:
            frames.left.append(partial(send.finish, time_ns(), body_end="abandoned", body_bytes=self._bytes))


def _iteration(own: Any) -> Any:
    """How a client's own stream gives its chunks."""
    return getattr(own, "__aiter__", None) or getattr(own, "__iter__", None)


def closes(own: Any) -> bool:
    """Whether a client's own stream, whatever others have put around its method, closes the generator that it goes through when
    its reader stops: by name, or by `yield from`, which needs no name for a chunk."""
    code = getattr(unwrap(_iteration(own)), "__code__", None)
    return code is not None and ("aclose" in code.co_names or code.co_nlocals == 1)


def past(own: Any) -> Callable[[Any], Any] | None:
    """The method of a client's own stream, which goes past it where a followed one is inside: each body has a generator less.

    None where the method is not the library's own any more, or is not known to pass chunks on and do nothing else.
    """
    iterate = _iteration(own)
    if type(iterate) is not FunctionType or iterate.__code__.co_names not in _PASSING_ON:
        return None
    if not own.__module__ == iterate.__module__ in _CLIENTS:  # a class, or a method, of the program's own
        return None
    begin: Callable[[Any], Any] = aiter if iterate.__name__ == "__aiter__" else iter

    @wraps(iterate)
    def hooked(stream: Any) -> Any:
        inner = stream._stream
        return begin(inner) if isinstance(inner, Followed) else iterate(stream)

    return marked(hooked)


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
            send, chunks, total = self.retrospan_send, self.retrospan_inner, self._bytes
            try:
                if closes:
                    chunks = iter(chunks)
                    if type(chunks) is not GeneratorType:
                        chunks = iter(chunks.__next__, _END)  # an iterator need not be an iterable
                for chunk in chunks:
                    self._bytes = total = total + len(chunk)
                    yield chunk
            except BaseException as error:
                if not isinstance(error, GeneratorExit):
                    _over(send, total, error)
                if type(chunks) is GeneratorType:
                    chunks.close()
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
    """The same of its asynchronous ones."""

    class FollowedAsyncStream(Followed, base):  # type: ignore[misc]  # known when it is called
        async def __aiter__(self) -> AsyncIterator[bytes]:
            send, chunks, total = self.retrospan_send, self.retrospan_inner, self._bytes
            try:
                if closes:
                    chunks = chunks.__aiter__()
                async for chunk in chunks:
                    self._bytes = total = total + len(chunk)
                    yield chunk
            except BaseException as error:
                if not isinstance(error, GeneratorExit):
                    _over(send, total, error)
                if closes and isinstance(chunks, AsyncGenerator):
                    await chunks.aclose()
                raise
            _over(send, total)  # without a close: a generator that has come to its end has nothing left to be closed

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
