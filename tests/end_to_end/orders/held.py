"""A record held against what was seen: every column of each row, and no row too few or too many."""

import sqlite3
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from providers import TracerProvider

from origin import Logged, Origin

from .expected import Row, expected, of, span_of
from .fetches import NOBODY
from .jobs import Done
from .seen import Seen

# A float of seconds since 1970 is exact to a quarter of a microsecond, and `ts` is cut to whole ones.
_OF_A_FLOAT, _OF_TS, _OF_A_MILLISECOND = 1_000, 1_000, 500_000


def rows_of(path: Path, table: str, after: int = 0) -> list[dict[str, Any]]:
    """The rows of a table after this one."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table} WHERE id > {after}")]
    connection.close()
    return rows


@dataclass
class Record:
    """A record that is being written, and how far it was read."""

    path: Path
    provider: TracerProvider
    origin: Origin
    read: Counter[str] = field(default_factory=Counter)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows that have come since the last time."""
        rows = rows_of(self.path, table, self.read[table])
        self.read[table] = max((row["id"] for row in rows), default=self.read[table])
        return rows


TABLES = ("http_events", "rate_events", "breaker_rejections", "breaker_transitions")


def hold(record: Record, done: list[Done]) -> list[dict[str, Any]]:
    """Fail unless the record has these fetches' rows, and nothing else; returns those of the sends."""
    assert record.provider.force_flush()
    rows = {table: record.rows(table) for table in TABLES}
    hold_sends(rows["http_events"], told(record.origin.log, done, "orders"))
    hold_counts(rows, [seen for _, seen in done])
    return rows["http_events"]


def told(log: list[Logged], done: list[Done], run_id: str) -> list[Row]:
    """The rows that there must be, when the server's log has said of it what the tests' own code did."""
    arrivals = {logged.span_id: int(logged.at * 1e9) for logged in log}
    by_trace: dict[str, list[Logged]] = {}
    for logged in log:
        by_trace.setdefault(logged.trace_id, []).append(logged)
    rows = []
    for url, seen in done:
        logged_here = by_trace.pop(seen.facts["trace"], [])
        sent = {span_of(wire): wire.facts.get("status") for wire in of("wire", seen) if not url.startswith(NOBODY)}
        assert [logged.span_id for logged in logged_here] == list(sent)
        assert all(logged.status == sent[logged.span_id] for logged in logged_here if sent[logged.span_id])
        rows += expected(seen, arrivals, run_id, url)
    assert by_trace == {}
    return rows


def hold_sends(rows: list[dict[str, Any]], wanted: list[Row]) -> None:
    """Every column of `http_events`."""
    left = sorted(rows, key=lambda row: row["ts"])
    wrong = []
    for number, expected_row in enumerate(wanted):
        row = _take(left, expected_row)
        if row is None:
            wrong.append(f"{number}: no row of {expected_row.exact}")
            continue
        wrong += [f"{number} {_name(row)}: {fault}" for fault in _faults(row, expected_row)]
    wrong += [f"a row too many: {row}" for row in left]
    assert not wrong, "\n".join(wrong)


def _name(row: dict[str, Any]) -> str:
    return f"{row['status']} {row['error']}"


def _take(left: list[dict[str, Any]], told: Row) -> dict[str, Any] | None:
    """The row of this send: by its span, or, of what no server saw, by its parent's."""
    for row in left:
        is_it = (
            row["span_id"].hex() == told.span
            if told.span
            else row["wire"] != 1 and row["parent_span_id"] == told.exact["parent_span_id"]
        )
        if is_it:
            left.remove(row)
            return row
    return None


def _faults(row: dict[str, Any], told: Row) -> list[str]:
    faults = []
    between = dict(told.between)
    ts, elapsed = round(row["ts"] * 1e9), row["elapsed_ms"] * 1_000_000
    times = {"ts": (ts, _OF_TS), "start": (ts - elapsed, _OF_A_MILLISECOND + _OF_TS)}
    for name, (at, slack) in times.items():
        least, most = between.pop(name)
        if not least - slack - _OF_A_FLOAT <= at <= most + slack + _OF_A_FLOAT:
            faults.append(f"{name} {at - least} ns after the earliest, which is {most - least} before the latest")
    for name, (least, most) in between.items():
        if row[name] is None or not least <= row[name] <= most:
            faults.append(f"{name} {row[name]}, not in {least} to {most}")
    faults += [f"{name} {row[name]!r}, not {value!r}" for name, value in told.exact.items() if row[name] != value]
    unchecked = set(row) - set(told.exact) - set(told.between) - {"id", "span_id"}
    return faults + [f"{name} is not checked" for name in unchecked]


def hold_counts(rows: dict[str, list[dict[str, Any]]], done: list[Seen]) -> None:
    """Permits granted, calls refused by breakers, and their transitions, by trace."""
    granted, refused, moved = Counter[str](), Counter[str](), Counter[tuple[str, str, str]]()
    for seen in done:
        trace = seen.facts["trace"]
        granted[trace] += sum(ask[0] for limiter in of("limiter", seen) for ask in limiter.facts["asks"])
        refused[trace] += sum(breaker.raised == "CircuitBreakerError" for breaker in of("breaker", seen))
        for layer in ("fetch", "breaker"):
            moved.update((trace, *move) for found in of(layer, seen) for move in found.facts.get("moves", []))
    acquired = Counter(row["trace_id"].hex() for row in rows["rate_events"] if row["action"] == "acquire")
    assert acquired == +granted
    assert Counter(row["trace_id"].hex() for row in rows["breaker_rejections"]) == +refused
    told = [(row["trace_id"].hex(), row["old_state"], row["new_state"]) for row in rows["breaker_transitions"]]
    assert Counter(told) == moved
