"""The record against what servers and programs saw themselves: no tolerance."""

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from origin import Answer, Logged, Origin

from .support import launched

PROGRAMS = Path(__file__).with_name("programs")
ARTIFACTS = 24
JSON = {"content-type": "application/json"}
PDF = {"content-type": "application/pdf"}


class World:
    """A catalogue whose answers may be kept or must be confirmed, files with every fault, a mirror that is down."""

    def __init__(self) -> None:
        self.catalogue, self.files, self.mirror = (Origin(f"127.0.0.{n}") for n in (2, 3, 4))

    def __enter__(self) -> "World":
        for server in self.servers:
            server.__enter__()
        for work in range(ARTIFACTS // 2):
            age = "max-age=60" if work % 2 else "max-age=0"
            good = Answer(body=b'{"work": %d}' % work, headers={**JSON, "cache-control": age}, etag=f'"w{work}"')
            busy = Answer(429, headers={**JSON, "retry-after": "2"})
            self.catalogue.script(f"/works/w{work}", *([busy, good] if work % 3 == 0 else [good]))
        for number in range(ARTIFACTS):
            body = b"%PDF-1.7 " + str(number).encode() * 50 + b" %%EOF"
            good = Answer(body=body, headers=PDF)
            faults = {
                1: [Answer(500), good],
                2: [Answer(429, headers={"retry-after": "1"}), Answer(503), good],
                3: [Answer(404)],
                4: [Answer(body=body, headers=PDF, cut=20), good],
                5: [Answer(body=body, headers=PDF, cut=20, reset=True), good],
            }
            self.files.script(f"/files/a{number}", *faults.get(number % 8, [good]))
            self.mirror.script(f"/down/a{number}", Answer(503))
        return self

    def __exit__(self, *raised: object) -> None:
        for server in self.servers:
            server.__exit__(*raised)

    @property
    def servers(self) -> tuple[Origin, ...]:
        return self.catalogue, self.files, self.mirror

    @property
    def log(self) -> list[Logged]:
        return sorted((logged for server in self.servers for logged in server.log), key=lambda logged: logged.at)


Case = tuple[World, dict[str, Any], sqlite3.Connection, Path]


@pytest.fixture(scope="module", params=["outside", "inside"])
def retries(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["httpx2", "httpx"])
def library(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["sync", "asyncio"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory, mode: str, library: str, retries: str) -> Iterator[Case]:
    folder = tmp_path_factory.mktemp("truth")
    with World() as world:
        settings = {
            "mode": mode,
            "library": library,
            "retries": retries,
            "artifacts": ARTIFACTS,
            "folder": str(folder),
            "hosts": {"catalogue": world.catalogue.host, "files": world.files.host, "mirror": world.mirror.host},
            "catalogue": world.catalogue.url(""),
            "files": world.files.url(""),
            "mirror": world.mirror.url(""),
        }
        ran = subprocess.run(
            [sys.executable, PROGRAMS / "stack.py", json.dumps(settings)],
            cwd=folder,
            env=launched(folder / "telemetry.sqlite", folder),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == ""
        record = sqlite3.connect(folder / "telemetry.sqlite")
        record.row_factory = sqlite3.Row
        yield world, json.loads(ran.stdout), record, folder
        record.close()


def sends(record: sqlite3.Connection, where: str = "1") -> list[dict[str, Any]]:
    query = f"SELECT *, lower(hex(span_id)) AS span, lower(hex(trace_id)) AS trace FROM http_events WHERE {where} ORDER BY ts"
    return [dict(row) for row in record.execute(query)]


def test_every_logged_request_is_one_row_of_the_right_host_and_status(case: Case) -> None:
    world, _, record, _ = case
    logged = Counter((entry.span_id, entry.trace_id, entry.host, entry.status) for entry in world.log)
    rows = Counter((row["span"], row["trace"], row["host"], row["status"]) for row in sends(record, "wire = 1"))
    assert logged == rows
    assert max(logged.values()) == 1


def test_rows_stand_in_the_order_of_the_log_within_each_trace(case: Case) -> None:
    world, _, record, _ = case
    for trace in {entry.trace_id for entry in world.log}:
        logged = [entry.span_id for entry in world.log if entry.trace_id == trace]
        assert [row["span"] for row in sends(record, "wire = 1") if row["trace"] == trace] == logged


def test_rows_without_a_wire_are_the_answers_of_the_cache(case: Case) -> None:
    world, counted, record, _ = case
    alone = sends(record, "wire IS NOT 1")
    assert {(row["wire"], row["from_cache"], row["revalidated"], row["status"]) for row in alone} == {(0, 1, 0, 200)}
    asked = sum(n for key, n in counted["granted"].items() if key == f"{world.catalogue.host}:metadata")
    received = [row for row in sends(record, "hop_last = 1") if row["host"] == world.catalogue.host]
    assert len(received) == asked
    assert len(alone) == len(received) - len([row for row in received if row["wire"] == 1])


def test_a_send_that_no_cache_answered_says_so(case: Case) -> None:
    _, _, record, _ = case
    sent = sends(record, "wire = 1 AND status IS NOT 304")
    assert {(row["from_cache"], row["revalidated"], row["stale"]) for row in sent} == {(0, 0, 0)}


def test_revalidations_are_the_304s_of_the_log(case: Case) -> None:
    world, _, record, _ = case
    logged = {entry.span_id for entry in world.log if entry.status == 304}
    assert {row["span"] for row in sends(record, "revalidated = 1")} == logged
    assert all(row["from_cache"] == row["wire"] == 1 for row in sends(record, "revalidated = 1"))
    assert logged


def test_resends_are_counted_as_the_log_counts_them(case: Case, retries: str) -> None:
    world, _, record, _ = case
    rows = {row["span"]: row for row in sends(record)}
    again: Counter[tuple[str, str]] = Counter()
    failed: dict[tuple[str, str], bool] = {}
    for entry in world.log:
        if entry.host != world.files.host:
            continue
        key = (entry.trace_id, entry.path)
        row = rows[entry.span_id]
        assert row["retry_count"] == again[key]
        assert row["retry_source"] == (None if not again[key] else {"outside": "frame", "inside": "transport"}[retries])
        again[key] += 1
        failed[key] = row["status"] >= 400 or row["error"] is not None
    assert sum(count > 1 for count in again.values()) >= 3


def test_a_body_that_breaks_is_an_error_on_its_own_row(case: Case) -> None:
    _, _, record, _ = case
    broken = sends(record, "error IS NOT NULL AND status = 200")
    assert {row["error"] for row in broken} == {"RemoteProtocolError", "ReadError"}
    assert {row["body_bytes"] for row in broken if row["error"] == "RemoteProtocolError"} == {20}


def test_retry_after_stands_on_the_row_of_the_answer_that_asked(case: Case) -> None:
    world, _, record, _ = case
    asked = {row["span"]: row["retry_after_s"] for row in sends(record, "status = 429")}
    wanted = {e.span_id: 2.0 if e.host == world.catalogue.host else 1.0 for e in world.log if e.status == 429}
    assert asked == wanted


def test_stored_artifacts_are_the_files_on_disk(case: Case) -> None:
    _, counted, record, folder = case
    rows = record.execute(
        "SELECT sha256, final_path, content_length FROM downloads WHERE outcome = 'stored'"
    ).fetchall()
    on_disk = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in folder.glob("*.pdf")}
    assert {row["sha256"] for row in rows} == set(on_disk) == set(counted["stored"])
    assert all(Path(row["final_path"]) == on_disk[row["sha256"]] for row in rows)
    assert all(row["content_length"] == on_disk[row["sha256"]].stat().st_size for row in rows)


def test_limiter_refusals_and_grants_are_the_programs_own_counts(case: Case) -> None:
    _, counted, record, _ = case
    rows = Counter(tuple(row) for row in record.execute("SELECT action, host || ':' || role FROM rate_events"))
    assert {key: n for (action, key), n in rows.items() if action == "block"} == counted["refusals"]
    assert {key: n for (action, key), n in rows.items() if action == "acquire"} == counted["granted"]


def test_attempts_by_outcome_are_the_programs_own_counts(case: Case) -> None:
    _, counted, record, _ = case
    assert (
        dict(record.execute("SELECT outcome, COUNT(*) FROM fallback_attempts GROUP BY 1").fetchall())
        == counted["attempts"]
    )


def test_breaker_openings_are_the_programs_own_counts(case: Case) -> None:
    _, counted, record, _ = case
    opened = "SELECT host, COUNT(*) FROM breaker_transitions WHERE new_state = 'open' GROUP BY 1"
    assert dict(record.execute(opened).fetchall()) == counted["openings"]
    assert counted["openings"]


def test_breakers_judged_the_sends_that_they_decided(case: Case, retries: str) -> None:
    world, _, record, _ = case
    down = sends(record, f"host = '{world.mirror.host}'")
    last = [row for row in down if row["hop_last"] == 1]
    assert {(row["breaker_state"], row["breaker_recorded"]) for row in last} == {("closed", "failure")}
    assert len(down) == (len(last) if retries == "outside" else 3 * len(last))


def test_the_run_has_one_summary_that_says_what_the_rows_say(case: Case) -> None:
    _, counted, record, _ = case
    (summary,) = record.execute("SELECT * FROM run_summary").fetchall()
    assert summary["artifacts_total"] == ARTIFACTS
    assert summary["artifacts_success"] == len(counted["stored"])
    assert summary["breaker_open_events"] == sum(counted["openings"].values())
    assert summary["corruption_count"] == 0
    (run,) = record.execute("SELECT * FROM run_info").fetchall()
    assert run["run_id"] == summary["run_id"]
    assert set(run["layers"].split(",")) == {"http", "cache", "retry", "limiter", "breaker", "fallback", "download"} - (
        set() if counted["attempts"] and _retried(record) else {"retry"}
    )


def _retried(record: sqlite3.Connection) -> bool:
    return bool(record.execute("SELECT 1 FROM http_events WHERE retry_source = 'frame' LIMIT 1").fetchone())
