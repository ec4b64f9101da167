"""The example downloader without any telemetry: what it promises, held against the origin servers' own log and plan.

In threads a `retrospan` that cannot be imported stands in the way; under asyncio one whose calls do nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .example import EXAMPLE, WITHIN_S, pdf_of, wait_for
from .example import plan as origin_plan

DELIVERY, VERSIONS, Plan = origin_plan.DELIVERY, origin_plan.VERSIONS, origin_plan.Plan
artifact_of, work_of = origin_plan.artifact_of, origin_plan.work_of

ARTIFACTS, SEED = 60, 1264  # a seed that lets every misbehaviour be met, outside the outage too
CLOCK_S = 0.05  # between the server's last write and the client's first look at its clock

ABSENT = "raise ImportError('the threaded variant needs no telemetry')\n"
SILENT = """
from contextlib import contextmanager

class Silent:
    def outcome(self, *args, **facts): ...
    stored = failed = outcome

@contextmanager
def resolution(*args, **facts):
    yield Silent()

attempt = download = role = resolution

def head_skip(host, role): ...
"""


@dataclass(frozen=True)
class Run:
    """A finished run: exit code, its output directory, its manifest, the servers' log."""

    code: int
    out: Path
    manifest: list[dict[str, Any]]
    log: list[dict[str, Any]]

    @property
    def stored(self) -> list[dict[str, Any]]:
        return [line for line in self.manifest if line["status"] == "stored"]

    @property
    def reasons(self) -> set[str]:
        return {attempt["reason"] for line in self.manifest for attempt in line["attempts"]}


class Origin:
    """The running servers: the environment they ask for, their log, their list of DOIs."""

    def __init__(self, directory: Path) -> None:
        self.log_path, self.dois = directory / "access.jsonl", directory / "dois.txt"
        lines = (directory / "origin.env").read_text().splitlines()
        self.environment = dict(line.split("=", 1) for line in lines)
        mirror = self.environment["DOWNLOADER_MIRROR_URL"].partition("/europepmc")[0]
        self.pdf_url = f"{mirror}/articles/3?pdf=render"

    @property
    def log(self) -> list[dict[str, Any]]:
        return json_lines(self.log_path)


@contextmanager
def origin(directory: Path) -> Iterator[Origin]:
    arguments = {"artifacts": ARTIFACTS, "seed": SEED, "log": directory / "access.jsonl"}
    files = {"ready": directory / "origin.env", "list": directory / "dois.txt"}
    options = [f"--{name}={value}" for name, value in (arguments | files).items()]
    process = subprocess.Popen([sys.executable, "-m", "origin", *options], cwd=EXAMPLE)
    try:
        wait_for(files["ready"].exists)
        yield Origin(directory)
    finally:
        process.terminate()
        assert process.wait(WITHIN_S) == 0


def start(servers: Origin, out: Path, *arguments: str, mode: str = "threads", **tuning: str) -> subprocess.Popen[str]:
    """The downloader as a user starts it, but for the stand-in, and rates that fit a test."""
    stand_in = out.parent / f"stand-in-{mode}"
    stand_in.mkdir(exist_ok=True)
    (stand_in / "retrospan.py").write_text(SILENT if mode == "asyncio" else ABSENT)
    quick = {"RATE_METADATA": "400", "RATE_LANDING": "400", "RATE_ARTIFACT": "200", "CONCURRENCY": "3"}
    tuned = {f"DOWNLOADER_{name}": value for name, value in (quick | tuning).items()}
    inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment = {**inherited, **servers.environment, **tuned, "PYTHONPATH": str(stand_in)}
    command = [sys.executable, "-m", "downloader", *arguments, f"--out={out}", f"--mode={mode}"]
    return subprocess.Popen(command, cwd=EXAMPLE, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and what was said on stderr."""
    _, said = process.communicate(timeout=WITHIN_S)
    return process.returncode, said


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def number_of(line: dict[str, Any]) -> int:
    """The origin's number of a manifest line's artifact."""
    work = work_of(line["work_id"])
    assert work is not None
    return int(artifact_of(work, line["version"]))


def temporary_files(out: Path) -> list[Path]:
    return [path for path in out.rglob("*") if path.is_file() and ".part" in path.name]


def assert_every_object_is_whole(out: Path) -> None:
    objects = list((out / "objects").rglob("*.pdf"))
    assert objects
    for path in objects:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.parent.name + path.stem


COMBINATIONS = [(mode, client) for mode in ("threads", "asyncio") for client in ("httpx2", "httpx")]


@pytest.fixture(scope="module", params=COMBINATIONS, ids="-".join)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    mode, client = request.param
    directory = tmp_path_factory.mktemp(f"{mode}-{client}")
    out = directory / "papers"
    with origin(directory) as servers:
        tuning = {"BREAKER_FAILURES": "50", "CLIENT": client}  # an open breaker would hide what happens once
        code, said = finish(start(servers, out, str(servers.dois), mode=mode, **tuning))
        assert "Traceback" not in said, said
        return Run(code, out, json_lines(out / "manifest.jsonl"), servers.log)


@pytest.fixture(scope="module")
def plan() -> Any:
    return Plan(ARTIFACTS, SEED)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Origin]:
    with origin(tmp_path) as running:
        yield running


def test_every_artifact_has_one_line_and_missing_ones_make_exit_code_1(run: Run, plan: Any) -> None:
    assert sorted(map(number_of, run.manifest)) == list(range(plan.artifacts))
    assert run.code == 1
    assert len(run.stored) >= 0.6 * plan.artifacts
    unknown = [number_of(line) for line in run.manifest if plan.knowledge(work_of(line["work_id"]) or 0) == "unknown"]
    assert unknown
    assert not set(unknown) & set(map(number_of, run.stored))


def test_what_is_stored_is_byte_for_byte_what_the_plan_holds(run: Run, plan: Any) -> None:
    for line in run.stored:
        expected = pdf_of(plan.content(number_of(line)))
        assert Path(line["final_path"]).read_bytes() == expected
        assert Path(line["link"]).read_bytes() == expected
        assert line["sha256"] == hashlib.sha256(expected).hexdigest()
        assert line["content_length"] == len(expected)


def test_equal_contents_are_kept_once_under_two_names(run: Run) -> None:
    objects = {path.stat().st_ino for path in (run.out / "objects").rglob("*.pdf")}
    hashes = Counter(line["sha256"] for line in run.stored)
    actions = Counter(line["dedupe_action"] for line in run.stored)
    assert len(objects) == len(hashes) < len(run.stored)
    assert actions == {"none": len(hashes), "hardlink": len(run.stored) - len(hashes)}
    assert {Path(line["link"]).stat().st_ino for line in run.stored} == objects


def test_no_temporary_file_is_left(run: Run) -> None:
    assert temporary_files(run.out) == []
    assert list((run.out / "staging").iterdir()) == []


def test_truncated_and_false_files_are_refused_with_a_reason(run: Run, plan: Any) -> None:
    assert {"no_eof", "html", "incomplete", "http_404"} <= run.reasons
    never = {n for n in range(plan.artifacts) if plan.delivery(n) in ("cut", "no_eof", "html", "wall", "gone")}
    for line in run.stored:
        (success,) = [attempt for attempt in line["attempts"] if attempt["outcome"] == "success"]
        assert number_of(line) not in never or "/pdf/" not in success["url"]


def test_what_goes_wrong_once_is_overcome_at_the_same_address(run: Run, plan: Any) -> None:
    once = {"throttled", "flaky", "reset", "hang_up", "slow", "moved"}
    met = set()
    for line in run.manifest:
        number, first = number_of(line), line["attempts"][0]
        if plan.delivery(number) in once and plan.knowledge(number // len(VERSIONS)) == "indexed":
            if "/pdf/" in first["url"] and first["host"] == "127.0.0.6":
                continue  # publisher-b, whose outage may have lasted longer than the retries
            met.add(plan.delivery(number))
            assert (first["source"], first["outcome"]) == ("unpaywall", "success"), line
    assert met == once


def test_the_servers_misbehaved_in_every_way(run: Run, plan: Any) -> None:
    assert {plan.delivery(n) for n in range(plan.artifacts)} == {name for name, _ in DELIVERY}
    assert {200, 302, 304, 404, 429, 500, 503, None} == {line["status"] for line in run.log}
    assert {"complete", "cut", "reset"} == {line["end"] for line in run.log}
    assert len({line["host"] for line in run.log}) >= 6
    assert {line["traceparent"] for line in run.log} == {None}


def test_a_retry_waits_for_as_long_as_the_server_asked(run: Run, plan: Any) -> None:
    asked = [line for line in run.log if line["status"] == 429]
    waited = 0
    for line in asked:
        number = line["artifact"] if line["artifact"] is not None else line["work"]
        again = [other for other in run.log if other["path"] == line["path"] and other["start"] > line["start"]]
        if plan.retry_after(number) == "1":
            waited += 1
            assert again[0]["start"] - line["finish"] >= 1 - CLOCK_S
    assert waited


def test_services_are_asked_once_for_a_work_and_the_cache_after_that(run: Run, plan: Any) -> None:
    asked = Counter(line["work"] for line in run.log if line["service"] == "unpaywall" and line["status"] < 400)
    known = [work for work in range(plan.works) if plan.knowledge(work) in ("indexed", "no_pdf", "hidden")]
    for work in known:
        assert plan.answer("unpaywall", work) == "revalidated" or asked[work] == 1
    revalidated = [line for line in run.log if line["status"] == 304]
    assert {plan.answer(line["service"], line["work"]) for line in revalidated} == {"revalidated"}


@pytest.mark.parametrize("mode", ["threads", "asyncio"])
def test_an_outage_opens_the_breaker_of_its_host_and_spares_it_all_further_requests(
    servers: Origin, tmp_path: Path, mode: str
) -> None:
    # Two workers: at most two answers from before part the nine failures, so that three come in a row.
    tuning = {"CONCURRENCY": "2", "BREAKER_FAILURES": "3", "BREAKER_RESET": "600"}
    assert finish(start(servers, tmp_path / "papers", str(servers.dois), mode=mode, **tuning))[0] == 1
    attempts = [a for line in json_lines(tmp_path / "papers" / "manifest.jsonl") for a in line["attempts"]]
    assert "127.0.0.6" in {attempt["host"] for attempt in attempts if attempt["reason"] == "breaker_open"}
    answers = [line["status"] for line in servers.log if line["service"] == "publisher-b" and "/pdf/" in line["path"]]
    assert 3 <= answers.count(500) < 9
    assert len(answers) - answers.index(500) <= 10


def test_all_stored_is_exit_code_0_and_a_second_run_asks_nobody(servers: Origin, tmp_path: Path) -> None:
    out = tmp_path / "papers"
    assert finish(start(servers, out, servers.pdf_url))[0] == 0
    (line,) = json_lines(out / "manifest.jsonl")
    assert Path(line["link"]).read_bytes() == pdf_of(Plan(ARTIFACTS, SEED).content(artifact_of(3, "vor")))
    before = servers.log
    code, said = finish(start(servers, out, servers.pdf_url))
    assert (code, servers.log) == (0, before)
    assert "1 kept from before" in said
    assert json_lines(out / "manifest.jsonl") == [line]


@pytest.mark.parametrize(
    ("arguments", "tuning", "named"),
    [
        (["no-doi-at-all"], {}, "no-doi-at-all"),
        (["10.5555/1", "--mode=fibres"], {}, "fibres"),
        (["10.5555/1", "--rate-metadata=0"], {}, "--rate-metadata"),
        (["10.5555/1"], {"CLIENT": "curl"}, "curl"),
        (["10.5555/1", "--versions=preprint"], {}, "preprint"),
    ],
)
def test_usage_errors_are_exit_code_2_and_name_what_is_wrong(
    servers: Origin, tmp_path: Path, arguments: list[str], tuning: dict[str, str], named: str
) -> None:
    code, said = finish(start(servers, tmp_path / "papers", *arguments, **tuning))
    assert code == 2
    assert named in said.splitlines()[-1]
    assert not (tmp_path / "papers").exists()


@pytest.mark.parametrize("mode", ["threads", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_in_the_middle_ends_soon_and_leaves_nothing_half_written(
    servers: Origin, tmp_path: Path, mode: str, number: signal.Signals
) -> None:
    out = tmp_path / "papers"
    process = start(servers, out, str(servers.dois), mode=mode, RATE_ARTIFACT="4")
    wait_for(lambda: len(json_lines_so_far(out / "manifest.jsonl")) >= 3)
    process.send_signal(number)
    code, said = finish(process)
    assert code == 128 + number
    assert "Traceback" not in said, said
    manifest = json_lines(out / "manifest.jsonl")
    assert 3 <= len(manifest) < ARTIFACTS
    assert temporary_files(out) == []
    assert_every_object_is_whole(out)
    for line in manifest:
        assert line["status"] == "missing" or Path(line["link"]).stat().st_size == line["content_length"]


def json_lines_so_far(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []
