"""A recorder's memory does not grow with what it has recorded."""

import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).parents[2] / "benchmarks" / "processes.py"


@pytest.mark.parametrize(
    "spans",
    [20_000, pytest.param(5_000_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])],
    ids=lambda spans: f"{spans} spans",
)
def test_memory_is_flat_however_many_spans_are_written(record: Path, spans: int) -> None:
    ran = subprocess.run(
        [sys.executable, WORKER, "endure", record, str(spans)], capture_output=True, text=True, check=True
    )
    after_a_tenth, at_the_end = map(float, ran.stdout.split())
    record.unlink()
    print(f"{after_a_tenth:.1f} MB after a tenth, {at_the_end:.1f} MB at the end")
    # SQLite's and Python's caches fill up in the beginning; two bytes a span would be 9 MB at the end of the long run.
    assert at_the_end < after_a_tenth + 8
