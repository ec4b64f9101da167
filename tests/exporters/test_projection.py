"""Which spans become which rows, and what stands in each column."""

from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from providers import TracerProvider

from retrospan_exporters.projection import Projection, plain
from retrospan_instrumentation.urls import url_hash

from .conftest import Make
from .rows import PROCESS, known, row_of, rows_of


def test_every_attribute_of_a_request_has_its_column(span: Make) -> None:
    attributes = {
        "server.address": "api.example.org",
        "url.hash": "0123456789abcdef",
        "http.request.role": "metadata",
        "http.response.status_code": 200,
        "http.cache.hit": True,
        "http.cache.revalidated": False,
        "http.cache.stale": False,
        "http.request.resend_count": 2,
        "http.response.retry_after": 1.5,
        "rate_limiter.delay_ms": 0,
        "circuit_breaker.state": "half_open",
        "circuit_breaker.recorded": "success",
        "http.response.body.size": 0,
        "http.response.body_end": "closed",
        "http.response.ttfb_ms": 7,
        "http.request.wire": False,
        "http.request.hop_last": True,
        "retry.source": "frame",
        "retry.wait_ms": 40,
    }
    assert known(row_of(span(attributes))) == {
        "host": "api.example.org",
        "role": "metadata",
        "method": "GET",
        "status": 200,
        "url_hash": "0123456789abcdef",
        "from_cache": 1,
        "revalidated": 0,
        "stale": 0,
        "retry_count": 2,
        "retry_after_s": 1.5,
        "rate_delay_ms": 0,
        "breaker_state": "half_open",
        "breaker_recorded": "success",
        "elapsed_ms": 500,
        "body_bytes": 0,
        "body_end": "closed",
        "ttfb_ms": 7,
        "wire": 0,
        "hop_last": 1,
        "retry_source": "frame",
        "retry_wait_ms": 40,
    }


def test_what_is_not_known_is_null(span: Make) -> None:
    assert known(row_of(span())) == {"method": "GET", "elapsed_ms": 500}


def test_the_ids_and_the_process_are_those_of_the_span(span: Make) -> None:
    parent = SpanContext(2**127 + 5, 2**63 + 7, is_remote=True, trace_flags=TraceFlags(1))
    made = span(context=trace.set_span_in_context(NonRecordingSpan(parent)))
    row = row_of(made)
    assert row["trace_id"] == (2**127 + 5).to_bytes(16, "big")
    assert row["span_id"] == made.context.span_id.to_bytes(8, "big")
    assert row["parent_span_id"] == (2**63 + 7).to_bytes(8, "big")
    assert (row["process_id"], row["run_id"]) == (PROCESS, "RUN")


@pytest.mark.parametrize(("nanoseconds", "milliseconds"), [(499_999, 0), (500_000, 1), (1_499_999, 1), (1_500_000, 2)])
def test_milliseconds_are_rounded_half_up_and_the_time_is_the_end_in_microseconds(
    span: Make, nanoseconds: int, milliseconds: int
) -> None:
    start = 1_700_000_000_123_456_000
    row = row_of(span(start=start, end=start + nanoseconds))
    assert row["elapsed_ms"] == milliseconds
    assert row["ts"] == (start + nanoseconds) // 1000 / 1e6


@pytest.mark.parametrize(
    ("attributes", "host"),
    [
        ({"server.address": "a.example"}, "a.example"),
        ({"net.peer.name": "b.example"}, "b.example"),
        ({"http.url": "http://C.example:8080/x"}, "c.example"),
        ({"url.full": "https://user:pw@d.example/x?y"}, "d.example"),
        ({"http.host": "e.example:8443"}, "e.example"),
        ({"net.peer.name": "user:pw@f.example/path"}, "f.example"),
        ({"net.peer.name": "::1", "http.url": "http://[::1]:80/"}, "::1"),
    ],
)
def test_the_host_of_a_strangers_span_is_found_and_bare(span: Make, attributes: dict[str, Any], host: str) -> None:
    assert row_of(span(attributes))["host"] == host


@pytest.mark.parametrize("name", ["url.full", "http.url"])
def test_of_a_strangers_url_only_the_hash_is_kept(span: Make, name: str) -> None:
    url = "https://example.org/planted?key=planted"
    row = row_of(span({name: url}))
    assert row["url_hash"] == url_hash(url)
    assert "planted" not in str(row)


def test_the_old_http_names_are_read(span: Make) -> None:
    made = span({"http.method": "PUT", "http.status_code": 503}, kind=SpanKind.CLIENT)
    del made._attributes._dict["http.request.method"]  # type: ignore[union-attr]
    assert known(row_of(made)) == {"method": "PUT", "status": 503, "elapsed_ms": 500}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"attributes": {"error.type": "ReadTimeout"}}, "ReadTimeout"),
        ({"attributes": {"error.type": "requests.exceptions.ConnectionError"}}, "ConnectionError"),
        ({"attributes": {"error.type": "404"}}, None),
        ({"attributes": {"error.type": "cannot reach https://example.org/planted"}}, "_OTHER"),
        ({"attributes": {"error.type": 7}}, None),
        ({"status": Status(StatusCode.ERROR, "planted")}, None),
        (
            {
                "status": StatusCode.ERROR,
                "events": [("exception", {"exception.type": "a.b.Broken", "exception.message": "planted"}, None)],
            },
            "Broken",
        ),
        (
            {
                "attributes": {"http.response.status_code": 500},
                "status": StatusCode.ERROR,
                "events": [("exception", {"exception.type": "a.b.Broken"}, None)],
            },
            None,
        ),
    ],
)
def test_an_error_is_a_class_name_and_never_a_status_or_a_message(
    span: Make, options: dict[str, Any], error: str | None
) -> None:
    row = row_of(span(**options))
    assert row["error"] == error
    assert "planted" not in str(row)


def test_a_grant_on_a_requests_span_is_a_row_of_its_own_with_its_own_time(span: Make) -> None:
    granted = 1_700_000_000_100_000_000
    told = {"server.address": "h", "http.request.role": "landing", "rate_limiter.delay_ms": 0}
    made = span(events=[("rate_limiter.acquire", told, granted), ("something.else", {}, granted)])
    (_, request), (table, row) = rows_of(made)
    assert table == "rate_events"
    assert known(row) == {"host": "h", "role": "landing", "action": "acquire", "delay_ms": 0, "weight": 1.0}
    assert (row["ts"], row["span_id"]) == (granted / 1e9, request["span_id"])


NAMED = {
    "rate_limiter.acquire": (
        {"server.address": "h", "rate_limiter.delay_ms": 500, "rate_limiter.max_delay_ms": 900},
        "rate_events",
        {"host": "h", "action": "acquire", "delay_ms": 500, "max_delay_ms": 900, "weight": 1.0},
    ),
    "rate_limiter.block": (
        {"http.request.role": "metadata"},
        "rate_events",
        {"role": "metadata", "action": "block", "weight": 1.0},
    ),
    "rate_limiter.head_skip": ({}, "rate_events", {"action": "head_skip", "weight": 1.0}),
    "circuit_breaker.state_change": (
        {
            "server.address": "h",
            "circuit_breaker.scope": "host",
            "circuit_breaker.old_state": "closed",
            "circuit_breaker.new_state": "open",
            "circuit_breaker.reset_timeout": 30.0,
        },
        "breaker_transitions",
        {"host": "h", "scope": "host", "old_state": "closed", "new_state": "open", "reset_timeout_s": 30.0},
    ),
    "circuit_breaker.rejected": (
        {"server.address": "h", "circuit_breaker.scope": "resolver"},
        "breaker_rejections",
        {"host": "h", "scope": "resolver"},
    ),
    "fallback.attempt": (
        {
            "download.work_id": "w",
            "download.artifact_id": "a",
            "fallback.tier": "t",
            "fallback.source": "s",
            "server.address": "h",
            "fallback.outcome": "retryable",
            "fallback.reason": "http_503",
            "fallback.status": 503,
        },
        "fallback_attempts",
        {
            "work_id": "w",
            "artifact_id": "a",
            "tier": "t",
            "source": "s",
            "host": "h",
            "outcome": "retryable",
            "reason": "http_503",
            "status": 503,
            "elapsed_ms": 500,
        },
    ),
    "download": (
        {
            "download.work_id": "w",
            "download.artifact_id": "a",
            "download.outcome": "stored",
            "fallback.source": "s",
            "server.address": "h",
            "download.sha256": "0" * 64,
            "download.final_path": "/files/a.pdf",
            "download.content_length": 3,
            "download.content_type": "application/pdf",
            "download.dedupe_action": "hardlink",
            "download.reason": "none",
        },
        "downloads",
        {
            "work_id": "w",
            "artifact_id": "a",
            "outcome": "stored",
            "source": "s",
            "host": "h",
            "sha256": "0" * 64,
            "final_path": "/files/a.pdf",
            "content_length": 3,
            "content_type": "application/pdf",
            "dedupe_action": "hardlink",
            "elapsed_ms": 500,
            "reason": "none",
        },
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_span_of_our_names_is_a_row_of_its_table(span: Make, name: str) -> None:
    attributes, table, expected = NAMED[name]
    ((found, row),) = rows_of(span(attributes, name=name, kind=SpanKind.INTERNAL))
    assert (found, known(row)) == (table, expected)


@pytest.mark.parametrize(
    ("name", "kind", "attributes"),
    [
        ("everything", SpanKind.INTERNAL, {}),
        ("GET", SpanKind.SERVER, {"http.request.method": "GET"}),
        ("GET", SpanKind.INTERNAL, {"http.request.method": "GET"}),
        ("SELECT", SpanKind.PRODUCER, {"db.system": "sqlite"}),
        ("download", SpanKind.INTERNAL, {"file": "the program's own"}),
        ("fallback.attempt", SpanKind.INTERNAL, {}),
        ("circuit_breaker.state_change", SpanKind.INTERNAL, {}),
        ("fallback.resolve", SpanKind.INTERNAL, {"download.artifact_id": "a"}),
    ],
)
def test_any_other_span_has_no_row(span: Make, name: str, kind: SpanKind, attributes: dict[str, Any]) -> None:
    assert rows_of(span(attributes, name=name, kind=kind)) == []


def test_a_row_as_python_has_it_is_the_row_that_sqlite_gives_back(span: Make) -> None:
    made = span({"http.cache.hit": False, "http.response.retry_after": 1.0})
    (row,) = Projection("RUN").rows([made], PROCESS)["http_events"]
    assert plain(row) == tuple(row_of(made).values())[1:]


def test_a_span_of_another_sdk_is_read_by_its_public_face(span: Make) -> None:
    class Foreign:
        """A span with nothing but what the SDK promises."""

        def __init__(self, made: Any) -> None:
            self._made = made

        def __getattr__(self, name: str) -> Any:
            if name.startswith("_"):
                raise AttributeError(name)
            return getattr(self._made, name)

    made = span({"http.response.status_code": 200}, events=[("rate_limiter.acquire", {}, None)])
    assert rows_of(Foreign(made)) == rows_of(made)
    assert len(rows_of(made)) == 2


def test_the_default_provider_keeps_every_span() -> None:
    assert TracerProvider().sampler.get_description().startswith("ParentBased{root:AlwaysOnSampler")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"http.request.wire": True}, (0, 0, 0)),
        ({"http.request.wire": True, "http.cache.hit": True, "http.cache.revalidated": True}, (1, 1, 0)),
        ({"http.request.wire": False, "http.cache.hit": True, "http.cache.revalidated": False}, (1, 0, None)),
        ({}, (None, None, None)),
        ({"http.request.wire": "true"}, (None, None, None)),
    ],
)
def test_that_no_cache_answered_goes_without_saying_on_the_wire_and_nowhere_else(
    span: Make, said: dict[str, Any], expected: tuple[int | None, ...]
) -> None:
    row = known(row_of(span({"url.hash": "0123456789abcdef", **said})))
    assert tuple(row.get(column) for column in ("from_cache", "revalidated", "stale")) == expected
