"""Promises of a followed body: its reader gets what it would get unwatched, from streams that are closed as they would be."""

import contextlib
import copy
from datetime import timedelta
from typing import Any

import pytest

from origin import Answer, Origin
from retrospan_instrumentation import bodies
from retrospan_instrumentation import semconv as sc

from .conftest import Spans
from .scenario import HTTP, call

BIG = b"x" * 200_000
BODY = (sc.HTTP_RESPONSE_BODY_SIZE, sc.HTTP_RESPONSE_BODY_END)


in_both_places = pytest.mark.parametrize("behind", [False, True], ids=["on the wire", "behind a transport"])


def client_of(http: HTTP, behind: bool) -> Any:
    """A client on the wire itself, or one behind a transport."""
    wire = http.wire()

    async def handle(request: Any) -> Any:
        return await call(http.handle(wire, request))

    return http.client(transport=http.through(handle, wire) if behind else wire)


@pytest.mark.parametrize("http", ["httpx2-asyncio", "httpx2-trio"], indirect=True)  # httpx promises no such thing
@in_both_places
def test_a_reader_that_stops_early_closes_every_generator_before_it_goes_on(
    http: HTTP, spans: Spans, origin: Origin, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    stream = http.module._transports.default.AsyncResponseStream
    given, closed = stream.__aiter__, []

    async def told(self: Any) -> Any:
        async with contextlib.aclosing(given(self)) as chunks:
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                closed.append(len(spans.sends(*BODY)))

    monkeypatch.setattr(stream, "__aiter__", told)

    async def scenario() -> None:
        client = client_of(http, behind)
        response = await http.open(client, origin.script("/", Answer(body=BIG)))
        async with contextlib.aclosing(response.aiter_raw()) as chunks:
            async for _ in chunks:
                break
        assert closed == [0]
        await client.aclose()

    http.run(scenario())
    ((size, end),) = spans.sends(*BODY)
    assert (0 < size < len(BIG), end) == (True, "closed")


@in_both_places
def test_a_client_that_makes_more_of_each_body_still_does(
    http: HTTP, spans: Spans, origin: Origin, monkeypatch: pytest.MonkeyPatch, behind: bool
) -> None:
    client = http.module._client

    async def doubled_async(self: Any) -> Any:
        async for chunk in self._stream:
            yield chunk
            yield chunk

    def doubled(self: Any) -> Any:
        for chunk in self._stream:
            yield chunk
            yield chunk

    async def scenario() -> list[bytes]:
        own, read = client_of(http, behind), []
        for change in (False, True):
            if change:
                monkeypatch.setattr(client.BoundAsyncStream, "__aiter__", doubled_async)
                monkeypatch.setattr(client.BoundSyncStream, "__iter__", doubled)
            response = await http.open(own, origin.script("/", Answer(body=b"body", headers={"content-length": "4"})))
            read.append(await http.read(response))
        await call(http.close(own))
        return read

    assert http.run(scenario()) == [b"body", b"bodybody"]


def test_the_client_s_own_stream_is_known_to_make_nothing_more_of_a_body(http: HTTP) -> None:
    own = http.module._client
    assert bodies.passes_on(own.BoundAsyncStream.__aiter__ if http.is_async else own.BoundSyncStream.__iter__)


@in_both_places
def test_what_is_asked_of_a_body_s_stream_the_library_s_own_answers(
    http: HTTP, spans: Spans, origin: Origin, behind: bool
) -> None:
    async def scenario() -> None:
        client = client_of(http, behind)
        response = await http.open(client, origin.script("/", Answer(body=b"body")))
        assert isinstance(response.stream, http.module.AsyncByteStream if http.is_async else http.module.SyncByteStream)
        with pytest.raises(AttributeError):
            _ = response.stream.no_such_attribute
        assert await http.read(response) == b"body"
        assert response.elapsed > timedelta(0)
        await call(http.close(client))
        assert copy.copy(response.stream)._start == response.stream._start

    http.run(scenario())
    assert spans.sends(*BODY) == [(4, None)]
