"""Recording processes killed at random moments under load: what was acknowledged is in the record, which stays sound.

The truth is what the processes said through a pipe, kept by the test's process.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import environment, read, wait_until

NURSERY = Path(__file__).with_name("programs") / "nursery.py"


class Nursery:
    """Recording processes, and what each said last: `said[run][what]`."""

    def __init__(self, record: Path) -> None:
        self.said: dict[str, dict[str, int]] = defaultdict(dict)
        self._process = subprocess.Popen(
            [sys.executable, NURSERY],
            env=environment(record),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            run, what, number = line.split()
            self.said[run][what] = int(number)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def start(self, *runs: str) -> None:
        """Start recording processes, and wait until each has ended a span."""
        for run in runs:
            self._tell(run)
        wait_until(lambda: all("ended" in self.said[run] for run in runs), "the processes were recording")

    def end(self, number: signal.Signals, run: str) -> None:
        """Send a signal, and wait until the process has died of it."""
        os.kill(self.said[run]["born"], number)
        self._tell("")
        wait_until(lambda: "died" in self.said[run], f"{run} died")
        assert self.said[run]["died"] == number

    def close(self) -> str:
        """What all of them wrote on the standard error."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._process.stdin.close()
        err = self._process.stderr.read()
        self._process.wait(30)
        self._listener.join(30)
        self._process.stderr.close()
        return err


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.sqlite"


@pytest.fixture
def nursery(record: Path) -> Iterator[Nursery]:
    made = Nursery(record)
    yield made
    assert made.close() == ""


ROUNDS = pytest.mark.parametrize(
    "rounds", [20, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(600)])], ids=lambda n: f"{n} rounds"
)


def written(record: Path, run: str) -> list[int]:
    """The numbers of a run in the order of their rows; its range is theirs, whole batches' only."""
    rows = read(record, f"SELECT id, status FROM http_events WHERE run_id = '{run}' ORDER BY id")
    ranges = read(record, f"SELECT first_id, last_id FROM run_ranges WHERE run_id = '{run}'")
    assert ranges == ([(rows[0][0], rows[-1][0])] if rows else [])
    return [status for _, status in rows]


@ROUNDS
def test_kill_9_at_any_moment_leaves_the_file_sound_and_every_acknowledged_span_in_it(
    record: Path, nursery: Nursery, rounds: int
) -> None:
    acknowledged = 0
    for number in range(rounds):
        killed, other = f"killed{number}", f"other{number}"
        nursery.start(killed, other)
        time.sleep(random.uniform(0, 0.1))
        for run in (killed, other):
            nursery.end(signal.SIGKILL, run)
            assert read(record, "PRAGMA integrity_check") == [("ok",)]
        for run in (killed, other):
            numbers, flushed = written(record, run), nursery.said[run].get("flushed", -1)
            assert numbers == list(range(len(numbers)))
            assert len(numbers) > flushed
            acknowledged += flushed + 1
    assert acknowledged > 0


@ROUNDS
def test_sigterm_at_any_moment_loses_nothing_at_all(record: Path, nursery: Nursery, rounds: int) -> None:
    for number in range(rounds):
        run = f"ended{number}"
        nursery.start(run)
        time.sleep(random.uniform(0, 0.1))
        nursery.end(signal.SIGTERM, run)
        numbers = written(record, run)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > nursery.said[run]["ended"]
        assert read(record, f"SELECT dropped_rows FROM run_summary WHERE run_id = '{run}'") == [(0,)]
    assert read(record, "PRAGMA integrity_check") == [("ok",)]
