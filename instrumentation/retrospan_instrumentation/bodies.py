"""A response's body, followed to its end: how many bytes were read, and whether it broke, was closed early or was dropped.

    followed, forwarding = sync_streams(httpx.SyncByteStream)
    stream = forwarding()
    stream.retrospan_inner, stream.retrospan_send = response.stream, send
    response.stream = stream

The library checks for its own base classes, so the classes are made from those of each.
"""

from collections.abc import AsyncIterator, Awaitable, Iterator
from functools import cache, partial
from time import time_ns
from typing import Any

from . import frames
from .sends import Send
from .surround import fault

_END: Any = object()


class Followed:
    """What both kinds of stream share: the end, and being dropped."""

    retrospan_send: Any = None  # the send; of a copy that nobody has set up, nothing
    retrospan_inner: Any
    _bytes = 0

    def __del__(self) -> None:
        send = self.retrospan_send
        if send is not None and send.end is None:
            frames.left.append(partial(send.finish, time_ns(), body_end="abandoned", body_bytes=self._bytes))


class _Forwarding:
    """For a stream in whose place others see this one: what else they ask of it, they get."""

    def __getattr__(self, name: str) -> Any:
        if name == "retrospan_inner":  # not initialised: without this, a copy would look for itself for ever
            raise AttributeError(name)
        return getattr(self.retrospan_inner, name)


def _over(send: Send, bytes_: int, error: BaseException | None = None, body_end: str | None = None) -> None:
    # A reader that stops early has not failed, nor has one that is cancelled between two chunks of its own accord.
    if send.end is None:
        try:
            send.finish(time_ns(), None if error is None else type(error).__name__, body_end, bytes_)
        except Exception as own:
            fault(own)


@cache
def sync_streams(base: type) -> tuple[type[Followed], type[Followed]]:
    """Followed streams that pass for the library's synchronous ones; the second forwards what it does not know."""

    class FollowedStream(Followed, base):  # type: ignore[misc]  # known when it is called
        def __iter__(self) -> Iterator[bytes]:
            send, total = self.retrospan_send, 0
            try:
                for chunk in self.retrospan_inner:
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

    class ForwardingStream(_Forwarding, FollowedStream):
        pass

    return FollowedStream, ForwardingStream


@cache
def async_streams(base: type) -> tuple[type[Followed], type[Followed]]:
    """The same of its asynchronous ones. No generator: an event loop keeps a list of those, which costs more than this."""

    class FollowedAsyncStream(Followed, base):  # type: ignore[misc]  # known when it is called
        def __aiter__(self) -> AsyncIterator[bytes]:
            self._chunks = self.retrospan_inner.__aiter__()
            return self

        async def __anext__(self) -> bytes:
            try:
                chunk: bytes = await anext(self._chunks, _END)
            except BaseException as error:
                _over(self.retrospan_send, self._bytes, error)
                raise
            if chunk is _END:  # not by an exception: one that crosses a coroutine costs as much as all of this
                _over(self.retrospan_send, self._bytes)
                raise StopAsyncIteration
            self._bytes += len(chunk)
            return chunk

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

    class ForwardingAsyncStream(_Forwarding, FollowedAsyncStream):
        pass

    return FollowedAsyncStream, ForwardingAsyncStream
