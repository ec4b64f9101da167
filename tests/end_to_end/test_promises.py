"""What a record never holds, never loses and never thins, in programs that know nothing of Retrospan."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from origin import Answer, Origin
from retrospan_exporters.tables import APPLICATION_ID

PROGRAMS = Path(__file__).with_name("programs")
LAUNCHER = Path(sys.executable).with_name("opentelemetry-instrument")
RETROSPAN = Path(sys.executable).with_name("retrospan")


def launch(program: str, *arguments: str, record: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LAUNCHER, sys.executable, PROGRAMS / program, *arguments],
        env={**os.environ, "RETROSPAN_DB": str(record)},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )


def count(record: Path, table: str) -> int:
    with sqlite3.connect(record) as connection:
        return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])


def test_under_one_span_of_the_programs_nothing_is_thinned(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    with Origin() as origin:
        launch("volume.py", origin.url(""), record=record)
    assert count(record, "rate_events WHERE action = 'acquire'") == 10_000
    assert count(record, "breaker_transitions") == 200
    assert count(record, "http_events") == 1_000


def test_no_secret_of_the_programs_is_in_the_bytes_of_the_record(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    with Origin() as origin, sqlite3.connect(record) as reader:
        reader.execute("PRAGMA journal_mode = WAL")  # held open, so that the WAL is still there to be searched
        reader.execute(f"PRAGMA application_id = {APPLICATION_ID}")  # without it, the file would be another program's
        reader.execute("CREATE TABLE keep_the_wal (x)")
        ran = launch("leaky.py", origin.url(""), "planted-in-an-argument", record=record)
        written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        answered = len(origin.log)
    assert count(record, "http_events") == answered + 3
    assert any(name.endswith("-wal") and body for name, body in written.items())
    for name, body in written.items():
        assert b"planted" not in body, name
    assert "planted" not in ran.stderr


def test_after_kill_9_the_run_shows_and_the_breaker_that_had_opened_under_an_open_span(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    process = subprocess.Popen(
        [LAUNCHER, sys.executable, PROGRAMS / "opened.py"],
        env={**os.environ, "RETROSPAN_DB": str(record)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "opened\n"
        deadline = time.monotonic() + 10
        while not record.exists() or not _opened(record):
            assert time.monotonic() < deadline, "the transition was not written while the span was open"
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert _opened(record) == [("closed", "open")]
    listed = subprocess.run([RETROSPAN, "runs", "--db", record], capture_output=True, text=True, check=True).stdout
    assert "killed" in listed


def _opened(record: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(record) as connection:
        try:
            return connection.execute("SELECT old_state, new_state FROM breaker_transitions").fetchall()
        except sqlite3.OperationalError:
            return []


def test_a_body_that_is_streamed_and_given_up_is_no_error(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    with Origin() as origin:
        url = origin.script("/stream", Answer(body=b"x" * 300_000, headers={"content-type": "text/event-stream"}))
        program = (
            "import httpx2, sys\n"
            "with httpx2.Client() as client, client.stream('GET', sys.argv[1]) as response: next(response.iter_raw())"
        )
        subprocess.run(
            [LAUNCHER, sys.executable, "-c", program, url],
            env={**os.environ, "RETROSPAN_DB": str(record)},
            timeout=30,
            check=True,
        )
    with sqlite3.connect(record) as connection:
        assert connection.execute("SELECT status, error, body_end FROM http_events").fetchall() == [
            (200, None, "closed")
        ]
