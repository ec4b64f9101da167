"""The fast way to a row: taken for the spans of our hooks, and never another row than the careful way's."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from retrospan_exporters import shapes
from retrospan_exporters.projection import INSERTS, Projection
from retrospan_instrumentation import semconv as sc

from .conftest import Make
from .rows import PROCESS, known, row_of, rows_of

OURS = {"server.address": "h", "url.hash": "0123456789abcdef", "http.request.wire": True}
_OF_TYPE = {
    str: st.text(max_size=12) | st.sampled_from(["metadata", "404", "ReadTimeout", "é", "", "x" * 300]),
    int: st.integers(-2, 2**40) | st.sampled_from([2**63 - 1, 2**63, -(2**63)]),
    float: st.floats(-1.0, 1e16) | st.sampled_from([float("nan"), float("inf")]),
    bool: st.booleans(),
}
_ODD = st.one_of(
    st.integers(), st.text(max_size=3), st.booleans(), st.floats(), st.lists(st.text(max_size=2), max_size=2)
)
_FACTS = {
    name: _OF_TYPE[attribute.type] | _ODD
    for name, attribute in sc.ATTRIBUTES.items()
    if name.startswith(
        ("http.", "retry.", "rate_limiter.", "circuit_breaker.", "error.", "url.", "server.", "network.")
    )
}


@pytest.fixture(autouse=True)
def _nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "known", {})


def takes_the_fast_way(span: Any) -> bool:
    return all(insert not in INSERTS.values() for insert in Projection("RUN").batches([span], PROCESS))


def test_a_request_of_our_hooks_takes_the_fast_way_and_binds_only_what_it_has(span: Make) -> None:
    made = span({**OURS, "http.response.status_code": 200, "server.port": 443})
    ((insert, (row,)),) = Projection("RUN").batches([made], PROCESS).items()
    assert insert.table == "http_events"
    assert "retry_after_s" not in insert.text
    assert row[0] == "RUN"
    assert known(row_of(made)) == {
        "host": "h",
        "method": "GET",
        "status": 200,
        "url_hash": "0123456789abcdef",
        "elapsed_ms": 500,
        "wire": 1,
        "from_cache": 0,
        "revalidated": 0,
        "stale": 0,
    }


def test_a_failed_request_takes_the_fast_way_too(span: Make) -> None:
    for error, shown in (("503", None), ("a.b.ReadTimeout", "ReadTimeout")):
        made = span({**OURS, "error.type": error})
        assert takes_the_fast_way(made)
        assert row_of(made)["error"] == shown


@pytest.mark.parametrize(
    "odd",
    [
        {"http.request.role": "x" * 300},
        {"http.request.role": "é"},
        {"http.request.role": ""},
        {"server.address": ""},
        {"http.response.status_code": "200"},
        {"http.response.status_code": 200.0},
        {"http.response.body.size": 2**63},
        {"http.response.ttfb_ms": -1},
        {"http.response.retry_after": float("inf")},
        {"http.response.retry_after": 1},
        {"http.cache.hit": "yes"},
    ],
)
def test_what_is_not_as_it_should_be_is_looked_at_with_care(span: Make, odd: dict[str, Any]) -> None:
    made = span({**OURS, **odd})
    assert not takes_the_fast_way(made)
    assert len(rows_of(made)) == 1


def test_the_ids_of_the_fast_way_are_those_of_the_span(span: Make) -> None:
    parent = SpanContext(2**127 + 5, 2**63 + 7, is_remote=True, trace_flags=TraceFlags(1))
    made = span(OURS, context=trace.set_span_in_context(NonRecordingSpan(parent)))
    assert takes_the_fast_way(made)
    row = row_of(made)
    assert row["trace_id"] == (2**127 + 5).to_bytes(16, "big")
    assert row["span_id"] == made.context.span_id.to_bytes(8, "big")
    assert row["parent_span_id"] == (2**63 + 7).to_bytes(8, "big")


def test_a_grant_of_a_request_on_the_fast_way_is_a_row_too(span: Make) -> None:
    told = {"server.address": "h", "rate_limiter.delay_ms": 0}
    made = span(OURS, events=[("rate_limiter.acquire", told, 1_700_000_000_100_000_000), ("other", {}, None)])
    (request, (grant_insert, (_,))) = Projection("RUN").batches([made], PROCESS).items()
    assert request[0] is not INSERTS["http_events"]
    assert grant_insert is INSERTS["rate_events"]
    assert [name for name, _ in rows_of(made)] == ["http_events", "rate_events"]


def test_a_span_that_ended_before_it_began_has_no_time_either_way(span: Make) -> None:
    assert row_of(span(OURS, start=2_000_000_000, end=1_000_000_000))["elapsed_ms"] is None


def test_shapes_beyond_the_bound_are_looked_at_with_care(span: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_MOST", 1)
    spans = [span({**OURS, name: 1}) for name in ("http.response.ttfb_ms", "http.response.body.size")]
    first, second = Projection("RUN").batches(spans, PROCESS)
    assert first is not INSERTS["http_events"]
    assert second is INSERTS["http_events"]


@settings(max_examples=2 * settings.default.max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=st.fixed_dictionaries({}, optional=_FACTS))
def test_both_ways_give_the_same_rows_whatever_a_span_of_ours_holds(span: Make, facts: dict[str, Any]) -> None:
    rows_of(span({**OURS, **facts}), span(OURS))  # which compares them
