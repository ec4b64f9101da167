"""A row as a line and back: the same row, and of what is no row only a reason."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrospan_exporters import tables
from retrospan_exporters.lines import BadLine, decode, encode

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(st.characters(exclude_categories=["Cs"])),
    "integer": st.integers(-(2**63) + 1, 2**63 - 1),
    "real": st.floats(allow_nan=False, allow_infinity=False),
    "bool": st.sampled_from([0, 1]),
    "blob": st.binary(max_size=16),
}


@st.composite
def rows(draw: st.DrawFn) -> tuple[tables.Table, dict[str, Any]]:
    table = draw(st.sampled_from([table for table in tables.TABLES if table is not tables.RUN_RANGES]))
    row = {}
    for column in table.inserted():
        value = draw(VALUES[column.kind] if column.required or column.key else st.none() | VALUES[column.kind])
        if value is not None:
            row[column.name] = value
    return table, row


@settings(deadline=None)
@given(rows())
def test_a_line_gives_back_the_row_that_it_was_made_of(made: tuple[tables.Table, dict[str, Any]]) -> None:
    line = encode(*made)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode(line) == made
    assert json.loads(line)["table"] == made[0].name


@settings(deadline=None)
@given(rows(), st.data())
def test_a_line_that_was_cut_off_is_never_taken_for_a_row(made: tuple[tables.Table, dict[str, Any]], data: Any) -> None:
    line = encode(*made)
    with pytest.raises(BadLine, match="cut off"):
        decode(line[: data.draw(st.integers(1, len(line) - 2))])


@settings(deadline=None)
@given(st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(
    lambda value: json.dumps({"table": "http_events", "run_id": value, "ts": value}).encode()
))  # fmt: skip
def test_whatever_the_bytes_are_they_are_a_row_or_bad(line: bytes) -> None:
    try:
        table, row = decode(line)
    except BadLine:
        return
    assert set(row) <= set(table.names())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"table":"http_events","run_id":"R","ts":NaN}', "is no JSON, or was cut off"),
        ("[" * 100_000, "is no JSON, or was cut off"),
        ('["http_events"]', "is no JSON object"),
        ('{"run_id":"R","ts":1}', "names no table of a record"),
        ('{"table":["http_events"],"run_id":"R","ts":1}', "names no table of a record"),
        ('{"table":"run_ranges","run_id":"R"}', "names no table of a record"),
        ('{"table":"http_events","run_id":"R"}', "has no ts, which a row of http_events needs"),
        ('{"table":"http_events","run_id":null,"ts":1}', "has no run_id, which a row of http_events needs"),
        ('{"table":"run_summary"}', "has no run_id, which a row of run_summary needs"),
        (
            '{"table":"http_events","run_id":"R","ts":1,"id":5}',
            "has a column that http_events has not: was it written by a newer Retrospan?",
        ),
        ('{"table":"http_events","run_id":7,"ts":1}', "has a run_id that is no text"),
        ('{"table":"http_events","run_id":"\\ud800","ts":1}', "has a run_id that is no text"),
        ('{"table":"http_events","run_id":"R","ts":true}', "has a ts that is no number"),
        ('{"table":"http_events","run_id":"R","ts":1e999}', "has a ts that is no number"),
        ('{"table":"http_events","run_id":"R","ts":1,"status":200.0}', "has a status that is no whole number"),
        ('{"table":"http_events","run_id":"R","ts":1,"status":99999999999999999999}', "has a status that is no whole number"),
        ('{"table":"http_events","run_id":"R","ts":1,"wire":1}', "has a wire that is no true or false"),
        ('{"table":"http_events","run_id":"R","ts":1,"span_id":"xyz"}', "has a span_id that is no hex digits"),
    ],
)  # fmt: skip
def test_the_reason_says_what_is_wrong_with_a_line(line: str, reason: str) -> None:
    with pytest.raises(BadLine) as bad:
        decode(line.encode())
    assert str(bad.value) == reason
