"""Promises of the HTTP hooks: one span a send, with its own facts, whatever transport or caller."""

import threading
import time
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.trace import StatusCode

import retrospan_instrumentation
from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.urls import url_hash

from .conftest import Spans
from .scenario import HTTP, call

REFUSING = "http://127.0.0.1:9/"  # the discard port: nobody listens


def get(http: HTTP, *urls: str, **options: Any) -> list[Any]:
    """One client, one GET after the other."""

    async def scenario() -> list[Any]:
        client = http.client(**options)
        responses = [await call(client.get(url)) for url in urls]
        await call(http.close(client))
        return responses

    found: list[Any] = http.run(scenario())
    return found


def test_a_send_is_one_span_with_every_attribute_of_the_convention(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/works/1", Answer(body=b"x" * 1000, headers={"content-type": "application/json"}))
    get(http, url)
    (span,) = spans.all()
    facts = dict(span.attributes or {})
    assert span.name == "GET"
    assert facts.pop(sc.HTTP_RESPONSE_TTFB_MS) >= 0
    assert facts == {
        sc.HTTP_REQUEST_METHOD: "GET",
        sc.SERVER_ADDRESS: "127.0.0.1",
        sc.SERVER_PORT: int(url.rpartition(":")[2].partition("/")[0]),
        sc.URL_SCHEME: "http",
        sc.URL_HASH: url_hash(url),
        sc.HTTP_REQUEST_ROLE: "metadata",
        sc.HTTP_REQUEST_WIRE: True,
        sc.HTTP_REQUEST_HOP_LAST: True,
        sc.HTTP_REQUEST_RESEND_COUNT: 0,
        sc.HTTP_RESPONSE_STATUS_CODE: 200,
        sc.HTTP_RESPONSE_BODY_SIZE: 1000,
        sc.NETWORK_PROTOCOL_VERSION: "1.1",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_traceparent_names_the_span_of_its_send(http: HTTP, spans: Spans, origin: Origin) -> None:
    get(http, *(origin.script(f"/{n}", Answer()) for n in range(3)))
    logged = [(entry.span_id, entry.trace_id) for entry in origin.log]
    assert logged == [(f"{s.context.span_id:016x}", f"{s.context.trace_id:032x}") for s in spans.clients()]


def test_a_send_is_a_child_of_the_current_span(http: HTTP, spans: Spans, origin: Origin) -> None:
    with spans.provider.get_tracer("program").start_as_current_span("program") as parent:
        get(http, origin.url("/"))
    (span,) = spans.clients()
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE"])
def test_the_method_is_the_spans_name(http: HTTP, spans: Spans, origin: Origin, method: str) -> None:
    async def scenario() -> None:
        client = http.client()
        await call(client.request(method, origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    assert [(span.name, *spans.sends(sc.HTTP_REQUEST_METHOD)) for span in spans.all()] == [(method, method)]


def test_an_unknown_method_is_recorded_as_other(http: HTTP, spans: Spans) -> None:
    async def scenario() -> None:
        client = http.client(transport=http.mock(lambda request: http.module.Response(200)))
        await call(client.request("BREW", "http://mock.example/"))

    http.run(scenario())
    assert [(span.name, *spans.sends(sc.HTTP_REQUEST_METHOD)) for span in spans.all()] == [("HTTP", "_OTHER")]


@pytest.mark.parametrize(("status", "error"), [(200, None), (302, None), (404, "404"), (429, "429"), (503, "503")])
def test_a_status_from_400_on_is_an_error(
    http: HTTP, spans: Spans, origin: Origin, status: int, error: str | None
) -> None:
    get(http, origin.script("/", Answer(status)))
    (span,) = spans.all()
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.ERROR_TYPE) == [(status, error)]
    assert (span.status.status_code is StatusCode.ERROR) == (error is not None)


def test_a_refused_connection_is_an_error_of_a_send_without_status(http: HTTP, spans: Spans) -> None:
    with pytest.raises(http.module.ConnectError):
        get(http, REFUSING)
    facts = spans.sends(
        sc.ERROR_TYPE, sc.HTTP_REQUEST_WIRE, sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_HOP_LAST, sc.HTTP_CACHE_HIT
    )
    assert facts == [("ConnectError", True, None, False, False)]


def test_a_timeout_before_any_answer_is_an_error_of_its_class(http: HTTP, spans: Spans, origin: Origin) -> None:
    answered = threading.Event()
    url = origin.script("/slow", Answer(wait_for=answered))
    with pytest.raises(http.module.ReadTimeout):
        get(http, url, timeout=0.1)
    answered.set()
    while not origin.log:  # it is answered all the same, and must not be so in the next test
        time.sleep(0.001)
    assert spans.sends(sc.ERROR_TYPE, sc.HTTP_REQUEST_WIRE, sc.HTTP_RESPONSE_STATUS_CODE) == [
        ("ReadTimeout", True, None)
    ]


def test_an_error_before_the_wire_is_one_span_without_wire(http: HTTP, spans: Spans) -> None:
    async def refuse(request: Any) -> Any:
        raise ValueError("secret")

    with pytest.raises(ValueError, match="secret"):
        get(http, "http://mock.example/", transport=http.through(refuse))
    assert spans.sends(sc.ERROR_TYPE, sc.HTTP_REQUEST_WIRE, sc.HTTP_CACHE_HIT, sc.HTTP_REQUEST_HOP_LAST) == [
        ("ValueError", None, None, False)
    ]


def test_redirects_are_hops_of_their_own(http: HTTP, spans: Spans, origin: Origin, other_origin: Origin) -> None:
    target = other_origin.script("/there", Answer(body=b"{}"))
    url = origin.script("/here", Answer(302, body=b"", headers={"location": target}))
    get(http, url, follow_redirects=True)
    assert spans.sends(
        sc.SERVER_ADDRESS, sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_HOP_LAST, sc.HTTP_REQUEST_RESEND_COUNT
    ) == [("127.0.0.1", 302, True, 0), ("127.0.0.2", 200, True, 0)]
    assert [entry.span_id for entry in (*origin.log, *other_origin.log)] == [
        f"{span.context.span_id:016x}" for span in spans.clients()
    ]


def test_a_custom_base_transport_is_one_span_without_wire(http: HTTP, spans: Spans) -> None:
    def answer(request: Any) -> Any:
        return http.module.Response(404, headers={"retry-after": "3"}, json={})

    get(http, "http://mock.example/x", transport=http.mock(answer))
    keys = (sc.SERVER_ADDRESS, sc.SERVER_PORT, sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_WIRE, sc.HTTP_CACHE_HIT)
    assert spans.sends(*keys) == [("mock.example", 80, 404, None, None)]
    assert spans.sends(sc.HTTP_REQUEST_HOP_LAST, sc.HTTP_RESPONSE_RETRY_AFTER) == [(True, 3.0)]


def test_a_custom_base_transport_hears_of_the_trace(http: HTTP, spans: Spans) -> None:
    heard: list[str] = []

    def answer(request: Any) -> Any:
        heard.append(request.headers.get("traceparent", ""))
        return http.module.Response(200)

    with spans.provider.get_tracer("program").start_as_current_span("program") as parent:
        get(http, "http://mock.example/", transport=http.mock(answer))
    context = parent.get_span_context()
    assert [header[:52] for header in heard] == [f"00-{context.trace_id:032x}-{context.span_id:016x}"]


def test_a_custom_transport_may_answer_without_any_extension(http: HTTP, spans: Spans) -> None:
    async def answer(request: Any) -> Any:
        return http.module.Response(200, content=b"x", extensions={"caching": None})

    get(http, "http://mock.example/", transport=http.through(answer))
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.NETWORK_PROTOCOL_VERSION) == [(200, None)]


def test_a_wire_transport_used_without_a_client_is_one_span(http: HTTP, spans: Spans, origin: Origin) -> None:
    async def scenario() -> None:
        transport = http.wire()
        for _ in range(2):
            response = await call(http.handle(transport, http.module.Request("GET", origin.url("/"))))
            await http.read(response)
            await call(http.close(response))
        await call(http.close(transport))

    http.run(scenario())
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_WIRE, sc.HTTP_REQUEST_RESEND_COUNT) == [
        (200, True, 0),
        (200, True, 0),
    ]
    assert [entry.span_id for entry in origin.log] == [f"{span.context.span_id:016x}" for span in spans.clients()]


def test_a_request_made_inside_of_another_ones_transport_is_a_send_of_its_own(
    http: HTTP, spans: Spans, origin: Origin, other_origin: Origin
) -> None:
    token = other_origin.script("/token", Answer())

    async def scenario() -> None:
        wire, clerk = http.wire(), http.client()

        async def with_token(request: Any) -> Any:
            await call(clerk.post(token))
            return await call(http.handle(wire, request))

        client = http.client(transport=http.through(with_token, wire))
        await call(client.get(origin.url("/")))
        await call(http.close(client))
        await call(http.close(clerk))

    http.run(scenario())
    keys = (sc.HTTP_REQUEST_METHOD, sc.SERVER_ADDRESS, sc.HTTP_REQUEST_RESEND_COUNT, sc.HTTP_REQUEST_HOP_LAST)
    assert spans.sends(*keys) == [("POST", "127.0.0.2", 0, True), ("GET", "127.0.0.1", 0, True)]


def test_a_transport_that_sends_elsewhere_gives_rows_of_the_hosts_it_sent_to(
    http: HTTP, spans: Spans, origin: Origin, other_origin: Origin
) -> None:
    first, mirror = origin.script("/a", Answer(503)), other_origin.script("/b", Answer())

    async def scenario() -> None:
        wire = http.wire()

        async def failover(request: Any) -> Any:
            response = await call(http.handle(wire, request))
            await call(http.close(response))
            return await call(http.handle(wire, http.module.Request("GET", mirror)))

        client = http.client(transport=http.through(failover, wire))
        await call(client.get(first))
        await call(http.close(client))

    http.run(scenario())
    keys = (sc.SERVER_ADDRESS, sc.URL_HASH, sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_HOP_LAST)
    assert spans.sends(*keys) == [
        ("127.0.0.1", url_hash(first), 503, False),
        ("127.0.0.2", url_hash(mirror), 200, True),
    ]


@pytest.mark.parametrize("suppressed", [suppress_instrumentation, suppress_http_instrumentation])
def test_the_standard_suppress_keys_are_obeyed(http: HTTP, spans: Spans, origin: Origin, suppressed: Any) -> None:
    with suppressed():
        get(http, origin.url("/"))
    assert spans.started == []
    assert [entry.traceparent for entry in origin.log] == [""]


def test_the_callers_context_is_back_after_each_call(http: HTTP, spans: Spans, origin: Origin) -> None:
    async def scenario() -> list[Any]:
        client = http.client()
        seen = [trace.get_current_span().get_span_context().span_id]
        await call(client.get(origin.url("/")))
        seen.append(trace.get_current_span().get_span_context().span_id)
        with pytest.raises(http.module.ConnectError):
            await call(client.get(REFUSING))
        seen.append(trace.get_current_span().get_span_context().span_id)
        await call(http.close(client))
        return seen

    assert http.run(scenario()) == [0, 0, 0]


def test_the_response_works_as_without_us(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(body=b'{"a": 1}'))
    (response,) = get(http, url)
    assert response.json() == {"a": 1}
    assert response.elapsed.total_seconds() > 0
    assert response.num_bytes_downloaded == 8
    (mocked,) = get(http, url, transport=http.mock(lambda request: http.module.Response(200, content=b"ab")))
    assert mocked.content == b"ab"


def test_nothing_of_a_request_but_its_host_and_hash_is_recorded(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/SECRET-path", Answer(404, headers={"x-a": "SECRET-answer"}, body=b"SECRET-body"))

    async def fail(request: Any) -> Any:
        raise ValueError("SECRET-text")

    async def scenario() -> None:
        client = http.client(
            auth=("SECRET-user", "SECRET-password"), headers={"x-key": "SECRET-header"}, cookies={"a": "SECRET-cookie"}
        )
        await call(client.post(f"{url}?key=SECRET-query", content=b"SECRET-sent"))
        await call(http.close(client))
        with pytest.raises(ValueError, match="SECRET"):
            await call(http.client(transport=http.through(fail)).get(f"http://SECRET-user:SECRET@{origin.host}/"))

    http.run(scenario())
    assert len(spans.all()) == 2
    assert "SECRET" not in "".join(span.to_json() for span in spans.all())


@pytest.mark.parametrize("variable", ["OTEL_PYTHON_EXCLUDED_URLS", "OTEL_PYTHON_{}_EXCLUDED_URLS"])
def test_urls_that_the_environment_leaves_out_make_no_span(
    http: HTTP, spans: Spans, origin: Origin, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable.format(http.library.upper()), "/health, /metrics$")
    retrospan_instrumentation.uninstrument_all()
    retrospan_instrumentation.instrument_all(tracer_provider=spans.provider)
    for path in ("/health/live", "/metrics", "/metrics/more"):
        get(http, origin.url(path))
    assert [entry.traceparent != "" for entry in origin.log] == [False, False, True]
    assert len(spans.clients()) == 1


def test_a_wrong_expression_in_the_environment_is_told_and_leaves_nothing_out(
    http: HTTP, spans: Spans, origin: Origin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "(")
    retrospan_instrumentation.uninstrument_all()
    retrospan_instrumentation.instrument_all(tracer_provider=spans.provider)
    get(http, origin.url("/"))
    assert len(spans.clients()) == 1
    assert "OTEL_PYTHON_EXCLUDED_URLS" in caplog.text
