"""Promises about one send: the body belongs to it, its times are its own, role and Retry-After are read, never guessed."""

import asyncio
import gc
import gzip
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pybreaker
import pytest
from opentelemetry.context import Context, get_current

from origin import Answer, Origin
from retrospan_instrumentation import frames, sends, waits
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.api import role
from retrospan_instrumentation.asked import Asked

from .conftest import Spans
from .halting import Halting
from .scenario import HTTP, call

BODY = (sc.HTTP_RESPONSE_STATUS_CODE, sc.ERROR_TYPE, sc.HTTP_RESPONSE_BODY_SIZE, sc.HTTP_RESPONSE_BODY_END)
BIG = b"0123456789" * 100_000


def get(http: HTTP, url: str, **options: Any) -> None:
    async def scenario() -> None:
        client = http.client()
        await call(client.get(url, **options))
        await call(http.close(client))

    http.run(scenario())


# -- the body


def test_a_body_that_is_read_to_its_end_counts_its_bytes(http: HTTP, spans: Spans, origin: Origin) -> None:
    get(http, origin.script("/", Answer(body=BIG)))
    assert spans.sends(*BODY) == [(200, None, len(BIG), None)]


def test_bytes_are_counted_as_they_came_not_as_they_unpack(http: HTTP, spans: Spans, origin: Origin) -> None:
    packed = gzip.compress(BIG)
    get(http, origin.script("/", Answer(body=packed, headers={"content-encoding": "gzip"})))
    assert spans.sends(sc.HTTP_RESPONSE_BODY_SIZE) == [len(packed)]


def test_a_truncated_body_is_an_error_of_its_own_send(http: HTTP, spans: Spans, origin: Origin) -> None:
    with pytest.raises(http.module.RemoteProtocolError):
        get(http, origin.script("/", Answer(body=BIG, cut=50)))
    assert spans.sends(*BODY) == [(200, "RemoteProtocolError", 50, None)]


def test_a_body_that_is_reset_is_an_error_of_its_own_send(http: HTTP, spans: Spans, origin: Origin) -> None:
    with pytest.raises((http.module.ReadError, http.module.RemoteProtocolError)) as raised:
        get(http, origin.script("/", Answer(body=BIG, cut=1000, reset=True)))
    ((status, error, size, end),) = spans.sends(*BODY)
    assert (status, error, end) == (200, raised.type.__name__, None)
    assert 0 <= size <= 1000


def test_a_timeout_in_the_body_is_an_error_of_its_own_send(http: HTTP, spans: Spans) -> None:
    with Halting(b"ab", b"cd") as server, pytest.raises(http.module.ReadTimeout):
        get(http, server.url, timeout=0.2)
    assert spans.sends(*BODY) == [(200, "ReadTimeout", 2, None)]


def test_a_stream_that_its_reader_closes_early_has_not_failed(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(body=BIG))

    async def scenario() -> int:
        client = http.client()
        response = await http.open(client, url)
        taken = 0
        async for chunk in http.chunks(response):
            taken = len(chunk)
            break
        await call(http.close(response))
        await call(http.close(client))
        return taken

    taken = http.run(scenario())
    assert 0 < taken < len(BIG)
    assert spans.sends(*BODY) == [(200, None, taken, "closed")]


def test_a_response_closed_unread_has_not_failed(http: HTTP, spans: Spans, origin: Origin) -> None:
    async def scenario() -> None:
        client = http.client()
        await call(http.close(await http.open(client, origin.script("/", Answer(429, body=BIG)))))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BODY) == [(429, "429", 0, "closed")]


def test_a_response_dropped_unread_ends_when_it_is_collected(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(body=BIG))

    async def scenario() -> None:
        client = http.client()
        response = await http.open(client, url)
        assert response.status_code == 200
        del response
        gc.collect()
        waits.sweep(time.time_ns())
        assert spans.sends(*BODY) == [(200, None, 0, "abandoned")]
        await call(http.close(client))

    http.run(scenario())


def test_a_span_ends_with_its_body_not_with_its_headers(http: HTTP, spans: Spans) -> None:
    async def scenario(server: Halting) -> tuple[int, int]:
        client = http.client()
        response = await http.open(client, server.url)
        headers_are_in = time.time_ns()
        threading.Timer(0.1, server.go_on.set).start()
        await http.read(response)
        await call(http.close(client))
        return headers_are_in, time.time_ns()

    with Halting(b"ab", b"cd") as halting:
        headers_are_in, over = http.run(scenario(halting))
    (span,) = spans.clients()
    assert span.start_time is not None
    assert span.end_time is not None
    assert headers_are_in + 90_000_000 < span.end_time <= over
    (ttfb,) = spans.sends(sc.HTTP_RESPONSE_TTFB_MS)
    assert ttfb * 1_000_000 <= headers_are_in - span.start_time + 500_000


def test_a_body_may_be_read_in_another_thread(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "sync")
    with http.client() as client:
        response = client.send(client.build_request("GET", origin.script("/", Answer(body=BIG))), stream=True)
        reader = threading.Thread(target=response.read)
        reader.start()
        reader.join()
    assert spans.sends(*BODY) == [(200, None, len(BIG), None)]


def test_an_async_reader_that_is_cancelled_is_an_error(spans: Spans) -> None:
    async def scenario(url: str) -> None:
        async with HTTP("httpx2", "asyncio").client() as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.get(url)

    with Halting(b"ab", b"cd") as server:
        asyncio.run(scenario(server.url))
    assert spans.sends(*BODY) == [(200, "CancelledError", 2, None)]


class ClosingAtTheLastMoment(list[Any]):
    """Another thread closes the frame between the look at whether it is open and the entry in its list."""

    def __init__(self, frame: frames.HTTPFrame | frames.BreakerFrame) -> None:
        self._frame = frame

    def append(self, send: Any) -> None:
        if isinstance(self._frame, frames.BreakerFrame):
            self._frame.close()
        else:
            self._frame.is_open = False
        super().append(send)


@pytest.mark.parametrize("kind", ["hop", "breaker"])
def test_a_send_that_begins_just_as_what_would_hold_it_closes_is_not_held(spans: Spans, kind: str) -> None:
    request = httpx2.Request("GET", "http://a.example/")
    breaker = frames.BreakerFrame(1, "closed", get_current())
    hop = frames.HTTPFrame(Asked(request, Context(), None), breaker)
    if kind == "hop":
        hop.sends = ClosingAtTheLastMoment(hop)
    else:
        breaker.held = ClosingAtTheLastMoment(breaker)
        hop.is_open = False
    hop.enter()
    send = sends.begin(request, hop, hop, get_current(), sends.Send)
    hop.leave()
    breaker.leave()
    breaker.close()
    send.finish(time.time_ns())
    assert len(spans.clients()) == 1


# -- times


def test_elapsed_is_the_sends_own_without_back_off_inside_the_transport(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        wire = http.wire()
        client = http.client(transport=http.retrying(wire, pause=lambda: time.sleep(0.3)))
        await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())
    first, second = spans.clients()
    assert first.end_time is not None
    assert second.start_time is not None
    assert second.start_time - first.end_time >= 290_000_000
    (wait,) = [wait for wait in spans.sends(sc.RETRY_WAIT_MS) if wait is not None]
    assert wait == waits.milliseconds(second.start_time - first.end_time)


def test_a_send_inside_the_transport_ends_before_the_back_off(http: HTTP, spans: Spans, origin: Origin) -> None:
    ended: list[Any] = []
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        client = http.client(
            transport=http.retrying(http.wire(), pause=lambda: ended.extend(spans.sends(sc.HTTP_RESPONSE_STATUS_CODE)))
        )
        await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())
    assert ended == [503]


# -- Retry-After


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"retry-after": "7"}, 7.0),
        (503, {"Retry-After": " 1.5 "}, 1.5),
        (200, {"retry-after": "0"}, 0.0),
        (429, {"retry-after-ms": "250"}, 0.25),
        (429, {"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        (429, {"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        (429, {"ratelimit": '"api";r=0;t=55'}, 55.0),
        (429, {"ratelimit": '"pages";r=9;t=3, "api";r=0;t=55'}, 55.0),
        (429, {"ratelimit": '"api";r=0;t=55, "day";r=0;t=900, "pages";r=9;t=3'}, 900.0),
        (200, {"ratelimit": '"api";r=0;t=55'}, None),
        (429, {"ratelimit": '"api";r=3;t=55'}, None),
        (429, {"ratelimit": "limit=10, remaining=0, reset=50"}, None),
        (429, {"ratelimit": '"api";r=0'}, None),
        (429, {}, None),
        (429, {"retry-after": ""}, None),
        (429, {"retry-after": "soon"}, None),
        (429, {"retry-after": "-1"}, None),
        (429, {"retry-after": "nan"}, None),
        (429, {"retry-after": "inf"}, None),
        (429, {"retry-after": "1e30"}, None),
        (429, {"retry-after": "Fri, 99 Foo 2026 99:99:99 GMT"}, None),
        (429, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_what_the_server_asked_for_in_seconds(
    status: int, headers: dict[str, str], wait: float | None
) -> None:
    found = sends.retry_after(httpx2.Headers(headers), status)
    assert found == wait
    assert found is None or type(found) is float


def test_retry_after_as_a_date_is_the_time_until_then() -> None:
    then = datetime.now(UTC) + timedelta(seconds=120)
    found = sends.retry_after({"retry-after": format_datetime(then, usegmt=True)}, 503)
    assert found is not None
    assert 118 < found <= 120


def test_retry_after_stands_on_the_row_that_asked(http: HTTP, spans: Spans, origin: Origin) -> None:
    get(http, origin.script("/", Answer(429, headers={"retry-after": "7"})))
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_RESPONSE_RETRY_AFTER) == [(429, 7.0)]


# -- role


@pytest.mark.parametrize(
    ("status", "media_type", "found"),
    [
        (200, "application/pdf", "artifact"),
        (206, "application/octet-stream", "artifact"),
        (200, "text/html; charset=utf-8", "landing"),
        (200, "Application/JSON", "metadata"),
        (200, "application/vnd.api+json", "metadata"),
        (200, "text/plain", None),
        (404, "text/html", None),
        (503, "application/json", None),
    ],
)
def test_role_follows_from_the_media_type_of_a_good_answer_only(
    spans: Spans, origin: Origin, status: int, media_type: str, found: str | None
) -> None:
    get(HTTP("httpx2", "sync"), origin.script("/", Answer(status, headers={"content-type": media_type})))
    assert spans.sends(sc.HTTP_REQUEST_ROLE) == [found]


def test_what_the_program_says_wins_over_the_media_type(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(headers={"content-type": "application/json"}))
    with role("artifact"):
        get(http, url)
        get(http, url, extensions={"role": "landing"})
    assert spans.sends(sc.HTTP_REQUEST_ROLE) == ["artifact", "landing"]


def test_a_role_that_is_none_of_the_known_ones_is_not_recorded(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(headers={"content-type": "application/pdf"}))
    get(http, url, extensions={"role": "https://secret.example"})
    with role("anything"):
        get(http, url)
    assert spans.sends(sc.HTTP_REQUEST_ROLE) == ["artifact", "artifact"]


def test_the_role_is_inferred_for_the_send_that_the_client_received_alone(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    json = {"content-type": "application/json"}
    url = origin.script("/", Answer(503, headers=json), Answer(200, headers=json))

    async def scenario() -> None:
        client = http.client(transport=http.retrying(http.wire()))
        await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(sc.HTTP_REQUEST_ROLE) == [None, "metadata"]


def test_a_body_that_is_still_open_when_the_process_ends_is_abandoned_then(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    async def scenario() -> None:
        client = http.client()
        response = await http.open(client, origin.script("/", Answer(body=b"x" * 200_000)))
        waits.drain()
        assert spans.sends(*BODY) == []
        waits.drain(final=True)
        assert spans.sends(*BODY) == [(200, None, None, "abandoned")]
        await call(http.close(response))
        await call(http.close(client))

    http.run(scenario())
    assert len(spans.clients()) == 1


def test_a_send_that_a_breaker_holds_when_the_process_ends_is_told_undecided(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    async def scenario() -> None:
        client = http.client()
        with pybreaker.CircuitBreaker(name="a.example").calling():
            await call(client.get(origin.url("/")))
            assert spans.clients() == []
            waits.drain(final=True)
            assert spans.sends(sc.CIRCUIT_BREAKER_RECORDED) == ["none"]
        await call(http.close(client))

    http.run(scenario())
    assert len(spans.clients()) == 1
