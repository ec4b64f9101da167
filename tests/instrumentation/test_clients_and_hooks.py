"""What users of the official httpx instrumentation rely on: single clients, and hooks of their own around each send."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from providers import TracerProvider

import retrospan_instrumentation
from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation import surround
from retrospan_instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from retrospan_instrumentation.program_hooks import RequestInfo, ResponseInfo

from .conftest import Spans
from .patches import placed
from .scenario import HTTP, call
from .test_hishel import cached


def instrumentor(http: HTTP) -> Any:
    return HTTPX2ClientInstrumentor() if http.library == "httpx2" else HTTPXClientInstrumentor()


@pytest.fixture
def recorded() -> Spans:
    return Spans()


@pytest.fixture
def alone(http: HTTP, recorded: Spans) -> Iterator[Any]:
    """The library's instrumentor, with no class hooked."""
    before = placed()
    yield instrumentor(http)
    if instrumentor(http).is_instrumented_by_opentelemetry:
        instrumentor(http).uninstrument()
    assert all(now is then for now, then in zip(placed(), before, strict=True))


def test_one_client_alone_is_watched_by_its_own_tracer_provider(
    http: HTTP, alone: Any, recorded: Spans, origin: Origin
) -> None:
    async def scenario() -> None:
        watched, other = http.client(), http.client()
        alone.instrument_client(watched, tracer_provider=recorded.provider)
        alone.instrument_client(watched, tracer_provider=recorded.provider)  # twice is once
        for client in (watched, other):
            await call(client.get(origin.url("/")))
        alone.uninstrument_client(watched)
        await call(watched.get(origin.url("/")))
        for client in (watched, other):
            await call(http.close(client))

    http.run(scenario())
    assert [line.span_id for line in origin.log] == [f"{recorded.clients()[0].context.span_id:016x}", "", ""]
    assert recorded.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_WIRE) == [(200, True)]


def test_the_wire_under_a_clients_cache_is_found(
    http: HTTP, alone: Any, recorded: Spans, origin: Origin, tmp_path: Path
) -> None:
    origin.script("/", Answer(headers={"cache-control": "max-age=60"}))

    async def scenario() -> None:
        client = http.client(transport=cached(http, http.wire(), tmp_path / "cache.db"))
        alone.instrument_client(client, tracer_provider=recorded.provider)
        for _ in range(2):
            await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    wires = recorded.sends(sc.HTTP_REQUEST_WIRE)
    assert wires.count(True) == len(origin.log) == 1
    assert len(wires) == 2


def test_a_client_that_is_watched_alone_is_one_span_when_all_are_watched(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    async def scenario() -> None:
        client = http.client()
        instrumentor(http).instrument_client(client)
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    assert len(spans.clients()) == 1


def test_a_client_is_left_alone_though_all_are_watched(http: HTTP, spans: Spans, origin: Origin) -> None:
    async def scenario() -> None:
        client = http.client()
        instrumentor(http).uninstrument_client(client)
        await call(client.get(origin.url("/")))
        instrumentor(http).instrument_client(client)
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    assert [bool(line.span_id) for line in origin.log] == [False, True]
    assert len(spans.clients()) == 1


def test_a_programs_hooks_get_each_sends_span_its_request_and_its_response(
    http: HTTP, alone: Any, recorded: Spans, origin: Origin
) -> None:
    origin.script("/moved", Answer(302, headers={"location": "/there"}))
    seen: list[Any] = []

    def on_request(span: trace.Span, request: RequestInfo) -> None:
        span.set_attribute("tenant", request.extensions["tenant"])
        seen.append((request.method, request.url.path, request.headers["traceparent"].split("-")[2]))

    def on_response(span: trace.Span, request: RequestInfo, response: ResponseInfo) -> None:
        span.set_attribute("answered", response.status_code)
        seen.append((request.url.path, response.status_code))

    async def on_request_async(span: trace.Span, request: RequestInfo) -> None:
        on_request(span, request)

    async def on_response_async(span: trace.Span, request: RequestInfo, response: ResponseInfo) -> None:
        on_response(span, request, response)

    alone.instrument(
        tracer_provider=recorded.provider,
        request_hook=on_request,
        response_hook=on_response,
        async_request_hook=on_request_async,
        async_response_hook=on_response_async,
    )

    async def scenario() -> None:
        client = http.client(follow_redirects=True)
        await call(client.get(origin.url("/moved"), extensions={"tenant": "blue"}))
        await call(http.close(client))

    http.run(scenario())
    first, second = (f"{span.context.span_id:016x}" for span in recorded.clients())
    assert seen == [
        (b"GET", "/moved", first),
        ("/moved", 302),
        (b"GET", "/there", second),
        ("/there", 200),
    ]
    assert recorded.sends("tenant", "answered") == [("blue", 302), ("blue", 200)]


def test_hooks_of_one_client_are_its_own(http: HTTP, alone: Any, recorded: Spans, origin: Origin) -> None:
    def hook(span: trace.Span, request: RequestInfo) -> Any:
        span.set_attribute("mine", True)

    async def hook_async(span: trace.Span, request: RequestInfo) -> None:
        hook(span, request)

    async def scenario() -> None:
        mine, other = http.client(), http.client()
        alone.instrument_client(
            mine, tracer_provider=recorded.provider, request_hook=hook_async if http.is_async else hook
        )
        alone.instrument_client(other, tracer_provider=recorded.provider)
        for client in (mine, other):
            await call(client.get(origin.url("/")))
            await call(http.close(client))

    http.run(scenario())
    assert recorded.sends("mine") == [True, None]


def test_what_a_programs_hook_raises_reaches_nobody(
    http: HTTP, alone: Any, recorded: Spans, origin: Origin, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(*args: Any) -> None:
        raise RuntimeError("a secret")

    async def bad_async(*args: Any) -> None:
        bad()

    surround.faults.clear()
    alone.instrument(
        tracer_provider=recorded.provider,
        request_hook=bad,
        response_hook=bad,
        async_request_hook=bad_async,
        async_response_hook=bad_async,
    )

    async def scenario() -> None:
        client = http.client()
        assert (await call(client.get(origin.url("/")))).status_code == 200
        await call(http.close(client))

    http.run(scenario())
    surround.faults.clear()
    assert len(recorded.clients()) == 1
    assert "RuntimeError" in caplog.text
    assert "a secret" not in caplog.text


def test_one_instrumentor_alone_leaves_the_others_tracer_provider(http: HTTP, spans: Spans, origin: Origin) -> None:
    instrumentor(http).uninstrument()
    instrumentor(http).instrument()

    async def scenario() -> None:
        client = http.client()
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    assert len(spans.clients()) == 1
    retrospan_instrumentation.instrument_all(tracer_provider=TracerProvider(shutdown_on_exit=False))
    http.run(scenario())
    retrospan_instrumentation.instrument_all(tracer_provider=spans.provider)
    assert len(spans.clients()) == 1
