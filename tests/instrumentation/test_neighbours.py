"""Promises about the neighbours: stamina (through tenacity, counted once), aiolimiter and httpx-retries."""

import asyncio
from typing import Any

import aiolimiter
import httpx
import httpx2
import httpx_retries
import pytest
import stamina
from opentelemetry import trace

import retrospan_instrumentation.semconv as sc
from origin import Answer, Origin
from retrospan_instrumentation import waits

from .conftest import Spans
from .scenario import HTTP, call

RESENDS = (sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_RESEND_COUNT, sc.RETRY_SOURCE, sc.HTTP_REQUEST_HOP_LAST)


def test_what_stamina_retries_is_counted_once(spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(429), Answer(200))

    @stamina.retry(on=httpx2.HTTPStatusError, attempts=3, wait_initial=0.001, wait_jitter=0)
    def fetch(client: httpx2.Client) -> None:
        client.get(url).raise_for_status()

    with spans.provider.get_tracer("test").start_as_current_span("program"), httpx2.Client() as client:
        fetch(client)
    assert spans.sends(*RESENDS) == [(503, 0, None, True), (429, 1, "frame", True), (200, 2, "frame", True)]
    assert [facts[sc.RETRY_ATTEMPT] for _, facts in spans.events(sc.RETRY_SCHEDULED)] == [1, 2]


def test_what_aiolimiter_delays_is_the_requests_delay(spans: Spans, origin: Origin) -> None:
    async def scenario() -> None:
        limiter = aiolimiter.AsyncLimiter(1, 0.3)
        async with httpx2.AsyncClient() as client:
            for _ in range(2):
                async with limiter:
                    await client.get(origin.url("/"))

    asyncio.run(scenario())
    first, second = spans.sends(sc.RATE_LIMITER_DELAY_MS)
    assert first < second
    assert second >= 150
    assert [action for action, _ in spans.waits()] == ["acquire", "acquire"]
    assert [facts[sc.SERVER_ADDRESS] for _, facts in spans.waits()] == ["127.0.0.1", "127.0.0.1"]


def test_a_caller_that_stops_waiting_for_aiolimiter_went_without(spans: Spans) -> None:
    async def scenario() -> None:
        limiter = aiolimiter.AsyncLimiter(1, 60)
        await limiter.acquire()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(limiter.acquire(), 0.01)
        with pytest.raises(ValueError, match="Amount"):
            await limiter.acquire(5)

    with spans.provider.get_tracer("test").start_as_current_span("program"):
        asyncio.run(scenario())
    waits.drain(final=True)
    assert sorted(action for action, _ in spans.waits()) == ["acquire", "block"]


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
def test_what_httpx_retries_sends_again_is_a_row_a_send_and_each_wait_is_told(
    spans: Spans, origin: Origin, mode: str
) -> None:
    http = HTTP("httpx", mode)
    url = origin.script("/", Answer(503), Answer(503), Answer(200))

    async def scenario() -> Any:
        transport = httpx_retries.RetryTransport(retry=httpx_retries.Retry(total=3, backoff_factor=0.001))
        client = http.client(transport=transport)
        with trace.use_span(spans.provider.get_tracer("test").start_span("program"), end_on_exit=True):
            response: httpx.Response = await call(client.get(url))
        await call(http.close(client))
        return response

    assert http.run(scenario()).status_code == 200
    assert [entry.status for entry in origin.log] == [503, 503, 200]
    assert spans.sends(*RESENDS) == [(503, 0, None, False), (503, 1, "transport", False), (200, 2, "transport", True)]
    assert [facts[sc.RETRY_ATTEMPT] for _, facts in spans.events(sc.RETRY_SCHEDULED)] == [1, 2]
