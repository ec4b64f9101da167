"""Whatever a stranger's span holds, every row is written, bounded and of its columns' types."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind

from retrospan_exporters import tables
from retrospan_exporters.projection import Projection

from .conftest import Make
from .rows import PROCESS, TABLES, known, row_of, rows_of


@pytest.mark.parametrize(
    ("name", "table", "attribute", "column", "longest"),
    [
        ("GET", "http_events", "http.request.role", "role", 256),
        ("GET", "http_events", "server.address", "host", 256),
        ("download", "downloads", "download.final_path", "final_path", 4096),
        ("download", "downloads", "download.artifact_id", "artifact_id", 1024),
        ("fallback.attempt", "fallback_attempts", "download.work_id", "work_id", 1024),
    ],
)
def test_text_is_bounded(span: Make, name: str, table: str, attribute: str, column: str, longest: int) -> None:
    kind = SpanKind.CLIENT if name == "GET" else SpanKind.INTERNAL
    outcome = {"download.outcome": "stored", "fallback.outcome": "success"}
    ((found, row),) = rows_of(span({**outcome, attribute: "é" * 5000}, name=name, kind=kind))
    assert (found, row[column]) == (table, "é" * longest)


def test_wrong_types_are_null_and_numbers_that_sqlite_cannot_hold_too(span: Make) -> None:
    hostile = {
        "http.response.status_code": "200",
        "http.request.resend_count": 2.0,
        "http.response.body.size": 2**63,
        "rate_limiter.delay_ms": -5,
        "http.response.ttfb_ms": True,
        "http.response.retry_after": float("nan"),
        "http.cache.hit": "yes",
        "http.cache.stale": 0.5,
        "http.request.role": ("metadata",),
        "retry.source": 5,
    }
    row = row_of(span(hostile))
    assert known(row) == {"method": "GET", "elapsed_ms": 500, "ttfb_ms": 1, "retry_source": "5"}


@pytest.mark.parametrize(("text", "kept"), [("a\ud800b", "a?b"), ("a\0b", "a\0b"), ("", None), ("é", "é")])
def test_lone_surrogates_and_nuls_are_survived(span: Make, text: str, kept: str | None) -> None:
    made = span({"server.address": "h"})
    # Not every provider cleans what it is given.
    made._attributes._dict.update({"http.request.role": text, "server.address": text})  # type: ignore[union-attr]
    row = row_of(made)
    assert row["role"] == kept
    assert (row["host"] is None) == (kept is None)


def test_a_span_that_cannot_be_read_does_not_take_the_others_with_it(span: Make) -> None:
    broken = span()
    broken._end_time = None
    projection = Projection("RUN")
    rows = projection.rows([broken, span()], PROCESS)
    assert (len(rows["http_events"]), projection.unreadable) == (1, 1)


OURS = (
    "rate_limiter.acquire",
    "circuit_breaker.state_change",
    "circuit_breaker.rejected",
    "fallback.attempt",
    "download",
)
VALUES = st.one_of(
    st.text(max_size=300),
    st.text(st.characters(categories=["Cs", "Cc", "Co"]), max_size=20),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.booleans(),
    st.binary(max_size=20),
    st.lists(st.text(max_size=5), max_size=3),
)
NAMES = sorted(
    {name for table in tables.EVENT_TABLES for column in table.columns for name in column.source if name[0] != "@"}
)
NAMES += ["url.full", "http.url", "url.hash", "error.type", "server.address", "net.peer.name", "http.host"]


@settings(max_examples=3 * settings.default.max_examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(attributes=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12), name=st.sampled_from(["GET", *OURS]))
def test_whatever_a_stranger_puts_into_a_span_every_row_is_written_and_of_its_columns_types(
    span: Make, attributes: dict[str, Any], name: str
) -> None:
    outcome = {"download.outcome": "stored", "fallback.outcome": "success", "circuit_breaker.new_state": "open"}
    kind = SpanKind.CLIENT if name == "GET" else SpanKind.INTERNAL
    ((table, row),) = rows_of(span({**outcome, **attributes}, name=name, kind=kind))
    types = {"text": str, "integer": int, "bool": int, "real": float, "blob": bytes, "id": int}
    for column in TABLES[table].columns:
        value = row[column.name]
        assert value is None or type(value) is types[column.kind], column.name
        assert column.kind != "bool" or value in (0, 1, None)
        assert column.kind != "text" or value is None or len(value) <= 4096
