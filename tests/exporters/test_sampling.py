"""Thinning: what is kept stands for what is not, exactly; what matters is always kept; a bad setting keeps everything."""

import random
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrospan.slo.statistics import nearest_rank
from retrospan_exporters import tables
from retrospan_exporters.projection import Rows
from retrospan_exporters.sampling import Sampling
from retrospan_exporters.shapes import Row
from retrospan_exporters.sqlite import SQLiteSpanExporter

from .conftest import Make, Read

COLUMNS = [column.name for column in tables.RATE_EVENTS.inserted()]
BITS = 12


def rate_row(span_id: int, delay_ms: int = 0, action: str = "acquire") -> Row:
    told: dict[str, Any] = {
        "action": action,
        "delay_ms": delay_ms,
        "weight": 1.0,
        "span_id": span_id.to_bytes(8, "big"),
    }
    return tuple(told.get(name, "") for name in COLUMNS)


def all_ids(bits: int = BITS) -> list[int]:
    """2**bits ids, evenly over all that there are: of a share that is a power of two exactly that part of them is kept."""
    return [number << 64 - bits for number in range(2**bits)]


def thinned(share: float, rows: list[Row]) -> list[dict[str, Any]]:
    return [
        dict(zip(COLUMNS, row, strict=True))
        for row in Sampling(share).thin({"rate_events": rows}, "rate_events")["rate_events"]
    ]


@settings(deadline=None)
@given(halvings=st.integers(0, BITS), waits=st.lists(st.integers(1, 5_000), max_size=200))
def test_every_count_and_percentile_by_weight_is_that_of_all_rows(halvings: int, waits: list[int]) -> None:
    every = [rate_row(span_id) for span_id in all_ids()] + [rate_row(7, wait) for wait in waits]
    kept = thinned(2.0**-halvings, every)
    assert len(kept) == 2 ** (BITS - halvings) + len(waits)
    assert sum(row["weight"] for row in kept) == len(every)
    delays = sorted([0] * 2**BITS + waits)
    weighed = [
        (float(delay), sum(row["weight"] for row in rows))
        for delay, rows in groupby(sorted(kept, key=lambda row: int(row["delay_ms"])), key=lambda row: row["delay_ms"])
    ]
    for q in ("0.5", "0.95", "0.99", "0.999"):
        assert nearest_rank(weighed, Fraction(q)) == nearest_rank([(delay, 1) for delay in delays], Fraction(q))


@settings(deadline=None)
@given(share=st.floats(0.02, 1.0), seed=st.integers(0, 2**32), count=st.integers(500, 4_000))
def test_of_any_rows_the_weights_come_to_their_number_but_for_a_samples_noise(
    share: float, seed: int, count: int
) -> None:
    ids = random.Random(seed)  # a generator of its own: hypothesis would look for ids that are not random
    kept = thinned(share, [rate_row(ids.getrandbits(64)) for _ in range(count)])
    deviation = (count * (1 - share) / share) ** 0.5
    assert sum(row["weight"] for row in kept) == pytest.approx(count, abs=7 * deviation + 1e-6 * count)


@settings(deadline=None)
@given(share=st.floats(0.01, 1.0), first=st.integers(0, 2**63), step=st.sampled_from([1, 2, 7, 256, 65_536]))
def test_ids_that_count_up_are_thinned_as_random_ones(share: float, first: int, step: int) -> None:
    kept = thinned(share, [rate_row((first + step * number) % 2**64) for number in range(1_024)])
    assert sum(row["weight"] for row in kept) == pytest.approx(1_024, rel=0, abs=60 / share)


@pytest.mark.parametrize(("delay_ms", "action"), [(1, "acquire"), (-1, "acquire"), (0, "block"), (0, "head_skip")])
def test_what_waited_was_refused_or_skipped_is_always_kept_with_weight_1(delay_ms: int, action: str) -> None:
    kept = thinned(2**-BITS, [rate_row(span_id, delay_ms, action) for span_id in all_ids()])
    assert [row["weight"] for row in kept] == [1.0] * 2**BITS


def test_nothing_is_thinned_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RETROSPAN_SAMPLE", raising=False)
    rows: Rows = {"rate_events": [rate_row(span_id) for span_id in all_ids()]}
    assert Sampling.of_environment().thin(rows, "rate_events") is rows
    assert len(rows["rate_events"]) == 2**BITS


@pytest.mark.parametrize("said", ["rate_events:0.25", " rate_events : 2.5e-1 "])
def test_the_setting_names_the_table_and_the_share(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETROSPAN_SAMPLE", said)
    assert Sampling.of_environment().share == 0.25


@pytest.mark.parametrize(
    "said",
    [
        *("0.1", "rate_events", "rate_events:", "rate_events:0", "rate_events:-1", "rate_events:1.5"),
        *("rate_events:nan", "rate_events:ten", "http_events:0.1", "downloads:0.1", "rate_events:0.1,http_events:0.1"),
    ],
)
def test_a_setting_that_is_not_understood_is_told_in_a_line_and_keeps_everything(
    said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RETROSPAN_SAMPLE", said)
    assert Sampling.of_environment().share == 1.0
    (told,) = (record.getMessage() for record in caplog.records)
    assert told == (
        f"RETROSPAN_SAMPLE={said!r} is not understood, and every row is kept:"
        " say rate_events:SHARE, with a share over 0 and up to 1."
    )


def test_the_record_holds_the_weights_and_the_same_rows_whoever_writes_them(
    record: Path, read: Read, span: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETROSPAN_SAMPLE", "rate_events:0.5")
    granted = [("rate_limiter.acquire", {"rate_limiter.delay_ms": 0}, None)]
    made = [span(events=granted) for _ in range(64)]
    waited = span(events=[("rate_limiter.acquire", {"rate_limiter.delay_ms": 40}, None)])
    for run_id in ("R", "S"):
        exporter = SQLiteSpanExporter(record, run_id)
        exporter.has_own_processor = True
        exporter.export([*made, waited])
        exporter.release()
    first, second = (
        read(f"SELECT span_id, delay_ms, weight FROM rate_events WHERE run_id = '{run_id}'") for run_id in ("R", "S")
    )
    assert first == second
    assert {(delay, weight) for _, delay, weight in first} == {(0, 2.0), (40, 1.0)}
    assert 10 < len(first) < 55
    assert read("SELECT COUNT(*) FROM http_events") == [(130,)]
