"""The rows of a run's processes are as right as those of one: each by fork, spawn and forkserver, into one record."""

import json
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from origin import Origin

from .orders.fetches import script
from .orders.held import hold_sends, rows_of, told
from .orders.jobs import Done
from .orders.seen import Seen
from .support import LAUNCHER, environment, read

PROGRAM = Path(__file__).with_name("programs") / "processes.py"
TESTS = Path(__file__).parents[1]
JOBS: dict[str, dict[str, Any]] = {
    "parent": {"outside": ["retry", "breaker", "limiter"], "inside": [], "mode": "sync", "retry": "call"},
    "process": {"outside": [], "inside": ["cache", "retry", "breaker", "limiter"], "mode": "sync", "retry": "loop"},
    "another": {"outside": ["retry"], "inside": ["limiter", "cache"], "mode": "asyncio", "retry": "call"},
    "pooled": {"outside": ["breaker"], "inside": ["limiter", "retry"], "mode": "asyncio", "retry": "anew"},
    "pooled too": {"outside": [], "inside": ["breaker", "cache", "limiter", "retry"], "mode": "sync", "retry": "call"},
}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_column_is_so_in_every_process_of_a_run(tmp_path: Path, origin: Origin, method: str) -> None:
    record, libraries = tmp_path / "telemetry.sqlite", cycle(["httpx2", "httpx"])
    jobs = {
        name: {**told, "base": script(origin, name.replace(" ", "-")), "library": next(libraries)}
        for name, told in JOBS.items()
    }
    ran = subprocess.run(
        [LAUNCHER, sys.executable, PROGRAM, json.dumps({"method": method, "jobs": jobs, "folder": str(tmp_path)})],
        env=environment(record, PYTHONPATH=str(TESTS), RETROSPAN_RUN_ID="processes"),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    seen = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}
    assert set(seen) == {*JOBS, "parent again"}
    done = [Done(url, Seen.of(call)) for fetches in seen.values() for url, call in fetches]
    rows = rows_of(record, "http_events")
    hold_sends(rows, told(origin.log, done, "processes"))
    processes = {name: {call["who"].partition("/")[0] for _, call in fetches} for name, fetches in seen.items()}
    assert processes.pop("parent again") == processes["parent"]
    assert len(set().union(*(processes[name] for name in ("parent", "process", "another")))) == 3
    assert processes["pooled"].isdisjoint(processes["parent"])
    assert read(record, "SELECT COUNT(*) FROM run_info") == read(record, "SELECT COUNT(*) FROM run_summary") == [(1,)]
