"""A response's body, followed to its end: how many bytes were read, and whether it broke, was closed early or was dropped.

    stream = sync_streams(httpx.SyncByteStream)()
    stream.retrospan_inner, stream.retrospan_send = response.stream, send
    response.stream = stream

The library checks for its own base classes, so the classes are made from those of each.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterator
from functools import cache, lru_cache, partial
from time import time_ns
from typing import Any

from . import frames
from .sends import Send
from .surround import fault

_PASSING_ON = frozenset(("_stream", "__aiter__", "aclose", "isinstance", "AsyncGenerator"))


class Followed:
    """What both kinds of stream share: the end, being dropped, and passing for the stream in whose place it stands."""

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


class _Sample:
    """A stream around itself, of chunks that nothing can be made of."""

    def __init__(self) -> None:
        self._stream, self.chunks = self, [object(), object()]

    def __iter__(self) -> Iterator[object]:
        return iter(self.chunks)

    async def __aiter__(self) -> AsyncIterator[object]:
        for chunk in self.chunks:
            yield chunk


async def _collected(chunks: Any) -> list[object]:
    return [chunk async for chunk in chunks] if hasattr(chunks, "__anext__") else list(chunks)


@lru_cache(16)
def passes_on(iterate: Any) -> bool:
    """Whether this method of a stream gives what its `_stream` gives, and does nothing else. So does that of the clients' own
    stream, which measures `elapsed` when it is closed; to go past it spares each body a generator."""
    code = getattr(iterate, "__code__", None)
    if code is None or code.co_freevars or not _PASSING_ON.issuperset(code.co_names):
        return False
    sample = _Sample()
    try:
        _collected(iterate(sample)).send(None)
    except StopIteration as collected:
        return collected.value == sample.chunks  # type: ignore[no-any-return]  # a list
    except Exception:
        pass
    return False


def _over(send: Send, bytes_: int, error: BaseException | None = None, body_end: str | None = None) -> None:
    # A reader that stops early has not failed, nor has one that is cancelled between two chunks of its own accord.
    if send.end is None:
        try:
            send.finish(time_ns(), None if error is None else type(error).__name__, body_end, bytes_)
        except Exception as own:
            fault(own)


@cache
def sync_streams(base: type) -> type[Followed]:
    """Followed streams that pass for the library's synchronous ones."""

    class FollowedStream(Followed, base):  # type: ignore[misc]  # known when it is called
        def __iter__(self) -> Iterator[bytes]:
            send, inner, total = self.retrospan_send, self.retrospan_inner, 0
            try:
                for chunk in inner._stream if passes_on(type(inner).__iter__) else inner:
                    self._bytes = total = total + len(chunk)
                    yield chunk
            except GeneratorExit:
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
def async_streams(base: type) -> type[Followed]:
    """The same of its asynchronous ones: nothing differs but the `await`, and that generators are closed in order."""

    class FollowedAsyncStream(Followed, base):  # type: ignore[misc]  # known when it is called
        async def __aiter__(self) -> AsyncIterator[bytes]:
            send, inner, total = self.retrospan_send, self.retrospan_inner, 0
            chunks = (inner._stream if passes_on(type(inner).__aiter__) else inner).__aiter__()
            try:
                async for chunk in chunks:
                    self._bytes = total = total + len(chunk)
                    yield chunk
            except BaseException as error:
                if not isinstance(error, GeneratorExit):
                    _over(send, total, error)
                if isinstance(chunks, AsyncGenerator):  # one that has come to its end needs no closing
                    await chunks.aclose()
                raise
            _over(send, total)

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
