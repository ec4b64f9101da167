"""The demo, as `make demo` runs it: the origin servers' log is the truth of its record, however the demo ends."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RETROSPAN = Path(sys.executable).with_name("retrospan")
DEMO = [sys.executable, ROOT / "examples" / "downloader" / "demo.py"]
ARTIFACTS = 40


class Demo:
    """What a demo left behind."""

    def __init__(self, out: Path) -> None:
        self.record = out / "telemetry.sqlite"
        self.papers = out / "papers"
        self.log = _lines(out / "access.jsonl")
        self.manifest = _lines(self.papers / "manifest.jsonl")

    def rows(self, query: str) -> list[Any]:
        with sqlite3.connect(self.record) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query).fetchall()

    def sends(self) -> Counter[tuple[str, str, int | None]]:
        query = "SELECT lower(hex(span_id)) AS span, host, status FROM http_events WHERE wire = 1"
        return Counter((row["span"], row["host"], row["status"]) for row in self.rows(query))

    def logged(self) -> Counter[tuple[str, str, int | None]]:
        return Counter((line["traceparent"].split("-")[2], line["host"], line["status"]) for line in self.log)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(scope="module", params=[("asyncio", "httpx2"), ("threads", "httpx")], ids="-".join)
def demo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    mode, client = request.param
    out = tmp_path_factory.mktemp("demo")
    options = ["--artifacts", str(ARTIFACTS), "--mode", mode, "--client", client, "--out", out]
    ran = subprocess.run([*DEMO, *options], capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr
    assert f"record: {out}/telemetry.sqlite" in ran.stdout
    assert "yield" in ran.stdout
    return Demo(out)


def test_every_request_that_the_servers_logged_is_one_row(demo: Demo) -> None:
    assert demo.sends() == demo.logged()
    assert max(demo.logged().values()) == 1
    assert len({line["host"] for line in demo.log}) >= 6


def test_what_was_stored_is_what_lies_on_disk(demo: Demo) -> None:
    rows = demo.rows("SELECT artifact_id, sha256, final_path, content_length FROM downloads WHERE outcome = 'stored'")
    manifest = {line["artifact_id"]: line["sha256"] for line in demo.manifest if line["status"] == "stored"}
    assert {row["artifact_id"]: row["sha256"] for row in rows} == manifest
    for row in rows:
        body = Path(row["final_path"]).read_bytes()
        assert (hashlib.sha256(body).hexdigest(), len(body)) == (row["sha256"], row["content_length"])


def test_attempts_are_those_that_the_downloader_noted_itself(demo: Demo) -> None:
    rows = demo.rows("SELECT artifact_id, tier, source, outcome FROM fallback_attempts")
    noted = Counter(
        (line["artifact_id"], attempt["tier"], attempt["source"], attempt["outcome"])
        for line in demo.manifest
        for attempt in line["attempts"]
    )
    assert Counter(tuple(row) for row in rows) == noted


def test_every_table_that_such_a_run_fills_has_rows_and_the_run_is_summed_up(demo: Demo) -> None:
    for table in ("http_events", "rate_events", "fallback_attempts", "downloads"):
        assert demo.rows(f"SELECT COUNT(*) AS n FROM {table}")[0]["n"] > 0, table
    (summary,) = demo.rows("SELECT * FROM run_summary")
    assert summary["artifacts_total"] == ARTIFACTS
    assert summary["artifacts_success"] == sum(line["status"] == "stored" for line in demo.manifest)
    assert summary["dropped_rows"] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_demo_that_is_ended_half_way_keeps_every_span_that_ended_and_has_its_summary(
    tmp_path: Path, number: int
) -> None:
    process = subprocess.Popen(
        [*DEMO, "--artifacts", "200", "--out", tmp_path], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _wait_for(lambda: len(_lines(tmp_path / "papers" / "manifest.jsonl")) >= 20, process)
        if number == signal.SIGINT:
            _signal_group(process)  # as a terminal does: the demo, its launcher and the downloader get it
        else:
            process.send_signal(number)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    demo = Demo(tmp_path)
    # What the servers were still answering when the downloader gave up has no status here, and is there all the same; what
    # had just been sent they may never have read.
    unanswered = {span for span, _, status in demo.sends() if status is None}
    assert {send for send in demo.sends() if send[0] not in unanswered} == {
        logged for logged in demo.logged() if logged[0] not in unanswered
    }
    assert {span for span, _, _ in demo.logged()} <= {span for span, _, _ in demo.sends()}
    assert len(unanswered) <= 8  # one a worker
    stored = {line["sha256"] for line in demo.manifest if line["status"] == "stored"}
    assert stored <= {row["sha256"] for row in demo.rows("SELECT sha256 FROM downloads")}
    (summary,) = demo.rows("SELECT * FROM run_summary")
    assert 20 <= summary["artifacts_total"] < 200


def test_a_demo_that_is_killed_still_shows_and_its_record_is_whole(tmp_path: Path) -> None:
    process = subprocess.Popen([*DEMO, "--artifacts", "200", "--out", tmp_path], stdout=subprocess.DEVNULL)
    try:
        _wait_for(lambda: len(_lines(tmp_path / "papers" / "manifest.jsonl")) >= 20, process)
        (run,) = Demo(tmp_path).rows("SELECT owner_process_id FROM run_info")
        os.kill(run["owner_process_id"], signal.SIGKILL)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    demo = Demo(tmp_path)
    assert demo.rows("PRAGMA integrity_check")[0][0] == "ok"
    assert len(demo.rows("SELECT 1 FROM downloads")) >= 15
    assert demo.rows("SELECT 1 FROM run_summary") == []
    listed = subprocess.run([RETROSPAN, "runs", "--db", demo.record], capture_output=True, text=True, check=True).stdout
    assert "killed" in listed
    subprocess.run([RETROSPAN, "summarize", "--db", demo.record], capture_output=True, check=True)
    assert len(demo.rows("SELECT 1 FROM run_summary")) == 1


def _wait_for(condition: Any, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert process.poll() is None, "the demo ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _signal_group(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGINT)
