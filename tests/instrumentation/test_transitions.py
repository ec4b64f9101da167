"""Promises about what breakers refuse and how they move: a span of no length each, with host and scope."""

import time
from typing import Any

import pybreaker
import pytest

from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc

from .breakers import BREAKER, MOVE, get_ok, make, through
from .conftest import Spans
from .scenario import HTTP, call

# -- refusals


def test_a_refused_call_is_a_span_of_no_length_and_no_send(http: HTTP, spans: Spans, origin: Origin) -> None:
    breaker = make("127.0.0.1:metadata")
    breaker.open()

    async def scenario() -> None:
        with pytest.raises(pybreaker.CircuitBreakerError):
            await through(http, breaker, lambda: get_ok(None, ""))

    http.run(scenario())
    (span,) = spans.all("circuit_breaker.rejected")
    assert span.start_time == span.end_time
    assert dict(span.attributes or {}) == {
        sc.CIRCUIT_BREAKER_NAME: "127.0.0.1:metadata",
        sc.CIRCUIT_BREAKER_SCOPE: "host",
        sc.SERVER_ADDRESS: "127.0.0.1",
    }
    assert spans.clients() == []


def test_the_call_that_trips_the_breaker_is_a_failure_and_no_refusal(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        client = http.client()
        with pytest.raises(pybreaker.CircuitBreakerError):
            await through(http, make(fail_max=1), lambda: get_ok(client, url))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*BREAKER) == [("closed", "failure")]
    assert spans.all("circuit_breaker.rejected") == []


def test_a_request_refused_by_a_breaker_inside_the_transport_is_an_error_without_wire(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    breaker = make()
    breaker.open()

    async def scenario() -> None:
        wire = http.wire()

        async def guarded(request: Any) -> Any:
            async def send() -> Any:
                return await call(http.handle(wire, request))

            return await through(http, breaker, send)

        client = http.client(transport=http.through(guarded, wire))
        with pytest.raises(pybreaker.CircuitBreakerError):
            await call(client.get(origin.url("/")))
        breaker.close()
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(sc.ERROR_TYPE, sc.HTTP_REQUEST_WIRE, *BREAKER, sc.HTTP_REQUEST_RESEND_COUNT) == [
        ("CircuitBreakerError", None, "open", "none", 0),
        (None, True, "closed", "success", 0),
    ]
    assert len(spans.all("circuit_breaker.rejected")) == 1
    assert len(origin.log) == 1


def test_a_send_past_a_breaker_that_refused_is_not_under_it(http: HTTP, spans: Spans, origin: Origin) -> None:
    breaker = make()
    breaker.open()

    async def scenario() -> None:
        wire = http.wire()

        async def guarded_or_not(request: Any) -> Any:
            async def send() -> Any:
                return await call(http.handle(wire, request))

            try:
                return await through(http, breaker, send)
            except pybreaker.CircuitBreakerError:
                return await send()

        client = http.client(transport=http.through(guarded_or_not, wire))
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(sc.HTTP_REQUEST_WIRE, *BREAKER) == [(True, None, None)]


# -- transitions


def test_every_transition_is_a_span_of_no_length(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(503), Answer(200))
    breaker = make("api.example.org:artifact", fail_max=1, reset_timeout=0.05)

    async def scenario() -> None:
        client = http.client()
        for _ in range(2):
            with pytest.raises(pybreaker.CircuitBreakerError):
                await through(http, breaker, lambda: get_ok(client, url))
            time.sleep(0.06)
        await through(http, breaker, lambda: get_ok(client, url))
        await call(http.close(client))

    http.run(scenario())
    place = ("api.example.org", "host")
    assert spans.facts("circuit_breaker.state_change", *MOVE) == [
        ("closed", "open", *place),
        ("open", "half_open", *place),
        ("half_open", "open", *place),
        ("open", "half_open", *place),
        ("half_open", "closed", *place),
    ]
    assert set(spans.facts("circuit_breaker.state_change", sc.CIRCUIT_BREAKER_RESET_TIMEOUT)) == {0.05}
    assert all(span.start_time == span.end_time for span in spans.all("circuit_breaker.state_change"))
    assert spans.sends(*BREAKER) == [("closed", "failure"), ("half_open", "failure"), ("half_open", "success")]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("api.crossref.org", ("api.crossref.org", "host")),
        ("unpaywall", ("127.0.0.1", "resolver")),
        (None, ("127.0.0.1", "host")),
        ("https://SECRET@a.example/SECRET?SECRET", ("a.example", "host")),
    ],
)
def test_the_host_is_the_one_that_the_name_says_else_the_requests(
    http: HTTP, spans: Spans, origin: Origin, name: str | None, place: tuple[str, str]
) -> None:
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        client = http.client()
        with pytest.raises(pybreaker.CircuitBreakerError):
            await through(http, make(name, fail_max=1), lambda: get_ok(client, url))
        await call(http.close(client))

    http.run(scenario())
    assert spans.facts("circuit_breaker.state_change", *MOVE) == [("closed", "open", *place)]


def test_a_refusal_by_a_resolvers_breaker_names_the_host_it_opened_for(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "sync")
    breaker, url = make("unpaywall", fail_max=1), origin.script("/", Answer(503))
    with http.client() as client:
        for _ in range(2):
            with pytest.raises(pybreaker.CircuitBreakerError):
                breaker.call(lambda: client.get(url).raise_for_status())
    assert spans.facts("circuit_breaker.rejected", sc.CIRCUIT_BREAKER_NAME, sc.CIRCUIT_BREAKER_SCOPE) == [
        ("unpaywall", "resolver")
    ]


def test_opening_and_closing_by_hand_are_transitions(spans: Spans) -> None:
    breaker = make()
    breaker.open()
    breaker.half_open()
    breaker.close()
    assert [move[:2] for move in spans.facts("circuit_breaker.state_change", *MOVE)] == [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ]
