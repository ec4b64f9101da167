"""What the tools before this one got wrong, on a database as they wrote it: the number they gave, and the one that is true.

Their faults on the command line are held in `test_cli` (text after JSON on stdout, a missing database that was made, an
unknown run that looked like a miss), those of retried sends in `end_to_end/test_truth`.
"""

from dataclasses import dataclass
from math import floor
from typing import Any

import pytest

from .records import START, making

SOUND = {"outcome": "success", "sha256": "0" * 64, "final_path": "p", "content_length": 1}
OPEN = [{"ts": START + n, "host": "h", "new_state": "open"} for n in range(13)]


@dataclass(frozen=True)
class Fault:
    """One fault: rows of a table, the objective, what they said of it, and what is true of it."""

    name: str
    table: str
    rows: list[dict[str, Any]]
    slo: str
    they_said: tuple[str, float]
    verdict: str
    value: float | None


def attempts(milliseconds):
    """One artifact each, of which the only attempt took so long and succeeded."""
    return [
        {"artifact_id": str(n), "outcome": "success", "ts": START + n, "elapsed_ms": ms}
        for n, ms in enumerate(milliseconds)
    ]


TWENTY = [1000 * n for n in range(1, 21)]
FAULTS = [
    Fault("no data counted as 0 and passed", "rate_events", [{}], "http_429", ("pass", 0), "no_data", None),
    Fault(
        "an unknown cache flag left the denominator of the 429 ratio, but not its numerator",
        "http_events",
        [{"status": 429, "from_cache": None}] * 4 + [{"status": 200, "from_cache": 0}] * 96 + [{"status": 200}] * 100,
        "http_429",
        ("fail", 4 / 96),
        "pass",
        4 / 200,
    ),
    Fault(
        "the time to the first PDF began at the end of the first attempt",
        "fallback_attempts",
        attempts([25_000] * 100),
        "ttfp_p95",
        ("pass", 0),
        "fail",
        25_000,
    ),
    Fault(
        "a percentile was the value at floor(q n), from 0: the p95 of twenty values was the greatest",
        "fallback_attempts",
        attempts(TWENTY),
        "ttfp_p95",
        ("pass", TWENTY[floor(0.95 * 20)]),
        "insufficient",
        TWENTY[18],
    ),
    Fault(
        "numbers were rounded before they were compared: 84.996 % passed 85 %",
        "downloads",
        [{"artifact_id": str(n), **(SOUND if n < 21_249 else {"outcome": "failed"})} for n in range(25_000)],
        "yield",
        ("pass", 0.85),
        "fail",
        0.84996,
    ),
    Fault(
        "every failed download was corruption",
        "downloads",
        [{"outcome": "failed"}] * 3 + [SOUND],
        "corruption",
        ("fail", 3),
        "pass",
        0,
    ),
    Fault(
        "a breaker that opened again from half open was not counted",
        "breaker_transitions",
        [{**row, "old_state": "half_open"} for row in OPEN],
        "breaker_opens",
        ("pass", 0),
        "fail",
        13,
    ),
    Fault(
        "LIKE '%OPEN%' took half_open for open",
        "breaker_transitions",
        [{**row, "old_state": "open", "new_state": "half_open"} for row in OPEN],
        "breaker_opens",
        ("fail", 13),
        "pass",
        0,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_they_got_wrong_is_right_here(path, judged, fault):
    with making(path, legacy=True) as record:
        record.add(fault.table, *fault.rows, ranged=False)
    result = judged()[fault.slo]
    value = None if fault.value is None else pytest.approx(fault.value, abs=0.01)
    assert (result.verdict, result.value) == (fault.verdict, value)
    assert (result.verdict, result.value) != fault.they_said
