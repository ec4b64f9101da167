"""Promises about transports that send more than once: a span a send, and one of them the client received."""

from typing import Any

import pytest
from httpx_retries import Retry, RetryTransport

from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc

from .conftest import Spans
from .scenario import HTTP, call

COUNT = (sc.HTTP_REQUEST_RESEND_COUNT, sc.RETRY_SOURCE)


def test_a_retry_inside_the_transport_is_one_span_a_send(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(429), Answer(503), Answer(200))

    async def scenario() -> None:
        client = http.client(transport=http.retrying(http.wire()))
        response = await call(client.get(url))
        assert response.status_code == 200
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, *COUNT, sc.HTTP_REQUEST_HOP_LAST) == [
        (429, 0, None, False),
        (503, 1, "transport", False),
        (200, 2, "transport", True),
    ]
    assert [entry.span_id for entry in origin.log] == [f"{span.context.span_id:016x}" for span in spans.clients()]


def test_a_transport_that_gives_up_leaves_no_send_that_the_client_received(http: HTTP, spans: Spans) -> None:
    async def scenario() -> None:
        client = http.client(transport=http.retrying(http.wire()))
        with pytest.raises(http.module.ConnectError):
            await call(client.get("http://127.0.0.1:9/"))

    http.run(scenario())
    assert spans.sends(sc.ERROR_TYPE, *COUNT, sc.HTTP_REQUEST_HOP_LAST) == [
        ("ConnectError", 0, None, False),
        ("ConnectError", 1, "transport", False),
        ("ConnectError", 2, "transport", False),
    ]


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
def test_httpx_retries_is_one_span_a_send(spans: Spans, origin: Origin, mode: str) -> None:
    http, url = HTTP("httpx", mode), origin.script("/", Answer(503), Answer(503), Answer(200))

    async def scenario() -> None:
        client = http.client(transport=RetryTransport(http.wire(), Retry(total=3, backoff_factor=0)))
        assert (await call(client.get(url))).status_code == 200
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, *COUNT, sc.HTTP_REQUEST_HOP_LAST) == [
        (503, 0, None, False),
        (503, 1, "transport", False),
        (200, 2, "transport", True),
    ]


def test_a_transport_that_gives_back_an_earlier_answer_names_that_one(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(200, body=b"first"), Answer(503))

    async def scenario() -> bytes:
        wire = http.wire()

        async def first_of_two(request: Any) -> Any:
            kept = await call(http.handle(wire, request))
            other = await call(http.handle(wire, request))
            await call(http.close(other))
            return kept

        client = http.client(transport=http.through(first_of_two, wire))
        body: bytes = (await call(client.get(url))).content
        await call(http.close(client))
        return body

    assert http.run(scenario()) == b"first"
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_HOP_LAST) == [(200, True), (503, False)]
