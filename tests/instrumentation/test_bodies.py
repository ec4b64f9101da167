"""Promises of a followed body: its reader gets what it would get unwatched, from streams that are closed as they would be."""

import contextlib
import copy
from datetime import timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
import wrapt

import retrospan_instrumentation
from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation import surround, waits

from .conftest import Spans
from .scenario import HTTP, call

BODY = (sc.HTTP_RESPONSE_BODY_SIZE, sc.HTTP_RESPONSE_BODY_END)
in_both_places = pytest.mark.parametrize("behind", [False, True], ids=["on the wire", "behind a transport"])


def client_of(http: HTTP, behind: bool) -> Any:
    """A client on the wire itself, or one behind a transport."""
    wire = http.wire()

    async def handle(request: Any) -> Any:
        return await call(http.handle(wire, request))

    return http.client(transport=http.through(handle, wire) if behind else wire)


# -- what its reader gets, beside what it gets unwatched


class Stream:
    """A stream of the test's own, which notes what happens to it. Its base is added for each library."""

    def __init__(self, kind: str, log: list[str]) -> None:
        self.kind, self.log = kind, log

    def chunks(self) -> Any:
        try:
            yield b"one"
            if self.kind == "fails":
                raise ConnectionError("in the body")
            yield b"two"
        finally:
            self.log.append("the generator is closed")
            if self.kind == "fails to close":
                raise ValueError("in the generator's end")

    async def chunks_async(self) -> Any:
        with contextlib.closing(self.chunks()) as chunks:
            for chunk in chunks:
                yield chunk

    def __iter__(self) -> Any:
        return STEPS[self.kind](self) if self.kind in STEPS else self.chunks()

    def __aiter__(self) -> Any:
        return STEPS[self.kind](self) if self.kind in STEPS else self.chunks_async()

    def close(self) -> None:
        self.log.append("the stream is closed")

    async def aclose(self) -> None:
        self.close()


class Steps:
    """An iterator that is no iterable."""

    def __init__(self, stream: Stream) -> None:
        self.log, self.steps = stream.log, iter([b"one", b"two"])

    def __next__(self) -> bytes:
        return next(self.steps)

    async def __anext__(self) -> bytes:
        for chunk in self.steps:
            return chunk
        raise StopAsyncIteration


class LikeAGenerator(Steps):
    """What can be closed, and passes for a generator."""

    def __iter__(self) -> Any:
        return self

    def __aiter__(self) -> Any:
        return self

    def close(self) -> None:
        self.log.append("the iterator is closed")

    async def aclose(self) -> None:
        self.close()

    async def asend(self, value: Any) -> Any:
        raise NotImplementedError

    athrow = asend


STEPS: dict[str, type[Steps]] = {"steps": Steps, "like a generator": LikeAGenerator}


def client_that_gets(http: HTTP, stream: Stream, behind: bool) -> Any:
    """A client that gets this body, from a transport or from below the wire."""
    bases = (type(stream), http.module.AsyncByteStream if http.is_async else http.module.SyncByteStream)
    body = type("Body", bases, {})(stream.kind, stream.log)

    async def handle(request: Any) -> Any:
        core = http.module if behind else import_module("httpcore2" if http.library == "httpx2" else "httpcore")
        return core.Response(200, **{"stream" if behind else "content": body})

    if behind:
        return http.client(transport=http.through(handle))
    wire = http.wire()
    answers = http.function(handle)
    wire._pool = SimpleNamespace(
        handle_request=answers, handle_async_request=answers, close=list, aclose=http.function(_nothing)
    )
    return http.client(transport=wire)


async def _nothing() -> None:
    pass


async def read(http: HTTP, response: Any, log: list[str]) -> None:
    log.append(repr(await http.read(response)))


async def stop_early(http: HTTP, response: Any, log: list[str]) -> None:
    await stop(http, response.aiter_raw() if http.is_async else response.iter_raw(), log)


async def go_past_the_response(http: HTTP, response: Any, log: list[str]) -> None:
    await stop(http, response.stream.__aiter__() if http.is_async else iter(response.stream), log)


async def stop(http: HTTP, chunks: Any, log: list[str]) -> None:
    if http.is_async:
        async with contextlib.aclosing(chunks):
            log.append(repr(await anext(chunks)))
    else:
        with contextlib.closing(chunks):
            log.append(repr(next(chunks)))


async def close_within(http: HTTP, response: Any, log: list[str]) -> None:
    chunks = response.aiter_raw() if http.is_async else response.iter_raw()
    log.append(repr(await anext(chunks) if http.is_async else next(chunks)))
    await call(http.close(response))
    log.append("the response is closed")
    log.append(repr(await anext(chunks, b"") if http.is_async else next(chunks, b"")))


def what_happens(http: HTTP, kind: str, way: Any, behind: bool) -> list[str]:
    log: list[str] = []

    async def scenario() -> None:
        client = client_that_gets(http, Stream(kind, log), behind)
        response = await http.open(client, "http://a.example/")
        try:
            await way(http, response, log)
        except Exception as error:
            log.append(repr(error))
        log.append("the reader goes on")
        await call(http.close(response))
        await call(http.close(client))

    http.run(scenario())
    return log


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a generator that fails to close
@in_both_places
@pytest.mark.parametrize("way", [read, stop_early, go_past_the_response, close_within])
@pytest.mark.parametrize("kind", ["plain", "fails", "fails to close", *STEPS])
def test_a_reader_gets_what_it_would_get_unwatched_and_in_the_same_order(
    http: HTTP, spans: Spans, kind: str, way: Any, behind: bool
) -> None:
    watched = what_happens(http, kind, way, behind)
    retrospan_instrumentation.uninstrument_all()
    assert watched == what_happens(http, kind, way, behind)
    assert "the reader goes on" in watched
    assert len(spans.clients()) == 1


# -- what else is done with its stream


def doubled(wrapped: Any, stream: Any, args: Any, kwargs: Any) -> Any:
    for chunk in wrapped(*args, **kwargs):
        yield chunk + chunk


async def doubled_async(wrapped: Any, stream: Any, args: Any, kwargs: Any) -> Any:
    async for chunk in wrapped(*args, **kwargs):
        yield chunk + chunk


def plain(own: Any) -> Any:
    for chunk in own._stream:
        yield chunk + chunk


async def plain_async(own: Any) -> Any:
    async for chunk in own._stream:
        yield chunk + chunk


def patched(http: HTTP, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Have the client's own streams make more of each body."""
    client = http.module._client
    for kind, name, function, wrapper in (
        ("BoundSyncStream", "__iter__", plain, doubled),
        ("BoundAsyncStream", "__aiter__", plain_async, doubled_async),
    ):
        own = getattr(client, kind)
        if by == "class":
            monkeypatch.setattr(client, kind, type(kind, (own,), {name: function}))
        else:
            given = wrapt.FunctionWrapper(own.__dict__[name], wrapper) if by == "wrapt" else function
            monkeypatch.setattr(own, name, given)


@in_both_places
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("by", ["function", "wrapt", "class"])
def test_a_client_that_makes_more_of_each_body_still_does(
    http: HTTP, spans: Spans, origin: Origin, monkeypatch: pytest.MonkeyPatch, behind: bool, when: str, by: str
) -> None:
    if when == "before":
        retrospan_instrumentation.uninstrument_all()
        patched(http, monkeypatch, by)
        retrospan_instrumentation.instrument_all(tracer_provider=spans.provider)
    else:
        patched(http, monkeypatch, by)

    async def scenario() -> bytes:
        client = client_of(http, behind)
        got = await http.read(await http.open(client, origin.script("/", Answer(body=b"body"))))
        await call(http.close(client))
        return got

    assert http.run(scenario()) == b"bodybody"
    assert spans.sends(*BODY) == [(4, None)]
    retrospan_instrumentation.uninstrument_all()


def test_the_client_s_own_stream_is_known_to_make_nothing_more_of_a_body(http: HTTP, spans: Spans) -> None:
    own = http.module._client
    hooked = own.BoundAsyncStream.__aiter__ if http.is_async else own.BoundSyncStream.__iter__
    assert hasattr(hooked, surround.MARK)


@in_both_places
def test_what_is_asked_of_a_body_s_stream_the_library_s_own_answers(
    http: HTTP, spans: Spans, origin: Origin, behind: bool
) -> None:
    async def scenario() -> None:
        client = client_of(http, behind)
        response = await http.open(client, origin.script("/", Answer(body=b"body")))
        own = http.module._client
        assert type(response.stream) is (own.BoundAsyncStream if http.is_async else own.BoundSyncStream)
        assert hasattr(response.stream._stream, "_httpcore_stream")
        assert not hasattr(response.stream._stream, "no_such_attribute")
        for stream in (response.stream, response.stream._stream):
            copy.copy(stream)  # and dropped
        waits.drain()  # which does what finalisers have left
        assert await http.read(response) == b"body"
        assert response.elapsed > timedelta(0)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BODY) == [(4, None)]


def test_a_class_of_the_program_s_own_that_inherits_the_client_s_keeps_no_client_unwatched(
    http: HTTP, spans: Spans, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    retrospan_instrumentation.uninstrument_all()
    client = http.module._client
    for kind in ("BoundSyncStream", "BoundAsyncStream"):
        monkeypatch.setattr(client, kind, type(kind, (getattr(client, kind),), {"__module__": "of no file"}))
    retrospan_instrumentation.instrument_all(tracer_provider=spans.provider)

    async def scenario() -> None:
        own = http.client()
        assert await http.read(await http.open(own, origin.script("/", Answer(body=b"body")))) == b"body"
        await call(http.close(own))

    http.run(scenario())
    assert spans.sends(*BODY) == [(4, None)]


def test_a_body_that_is_read_in_two_goes_counts_the_bytes_of_both(http: HTTP, spans: Spans) -> None:
    class Own(LikeAGenerator):
        def __init__(self) -> None:
            super().__init__(Stream("", []))

    async def answer(request: Any) -> Any:
        base = http.module.AsyncByteStream if http.is_async else http.module.SyncByteStream
        return http.module.Response(200, stream=type("Own", (Own, base), {})())

    async def scenario() -> None:
        client = http.client(transport=http.through(answer))
        response = await http.open(client, "http://a.example/")
        for _ in range(2):
            if http.is_async:
                async for _chunk in response.stream:
                    break
            else:
                for _chunk in response.stream:
                    break
        await call(http.close(response))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BODY) == [(6, "closed")]
