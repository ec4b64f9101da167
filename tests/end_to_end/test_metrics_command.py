"""`retrospan metrics` as its users start it: what it serves, how it ends, and what it says of wrong usage."""

import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from scrapes import complaints, free_port, listens, scrape

from retrospan.cli import cli
from retrospan.prometheus.names import METRICS
from retrospan.prometheus.sidecar import Sidecar
from retrospan.prometheus.watch import Terms
from retrospan_exporters.tables import ddl

from .support import DEADLINE, RETROSPAN, SPANS, environment, finish, read, start, wait_until


@contextmanager
def sidecar(record: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command, once it answers; it is ended by SIGTERM, with 0."""
    command = [RETROSPAN, "metrics", "--port", str(port), "--poll", "0.5", *options]
    process = subprocess.Popen(command, env=environment(record), stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: listens(port) and scrape(port).status == 200, "the sidecar answers")
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait(DEADLINE)


def test_a_watched_programs_sends_are_served_while_it_runs_and_gone_when_it_has_ended(tmp_path: Path) -> None:
    record, port = tmp_path / "telemetry.sqlite", free_port()
    program = f"{SPANS}\nspans(200, 3); span(429); print('done', flush=True); sys.stdin.readline(); span(429)"
    with sidecar(record, port, "--keep", "0") as process:
        assert scrape(port, "/healthz").body == b"ok\n"
        watched = start(record, program)
        assert watched.stdout is not None
        assert watched.stdout.readline() == "done\n"
        wait_until(lambda: scrape(port).of("retrospan_http_429_ratio", "host") == {("h",): 0.25}, "the run shows")
        assert finish(watched)[0] == 0
        wait_until(lambda: (page := scrape(port)).status == 200 and "429_ratio" not in page.text, "the run is gone")
        counted = scrape(port, **{"Accept-Encoding": "gzip"}).of(
            "retrospan_http_requests_total", "host", "status_class"
        )
        assert counted == {("h", "2xx"): 3, ("h", "4xx"): 2}
        assert len(read(record, "SELECT 1 FROM http_events")) == 5
    assert process.stderr is not None
    assert process.stderr.read() == f"retrospan: serving http://127.0.0.1:{port}/metrics\n"


@pytest.mark.debian
def test_promtool_has_nothing_to_say_of_a_page_with_every_metric(tmp_path: Path) -> None:
    record, port = tmp_path / "telemetry.sqlite", free_port()
    program = """
import retrospan
from opentelemetry import trace
from opentelemetry.trace import SpanKind
tracer = trace.get_tracer("program")
send = {"http.request.method": "GET", "server.address": "h", "http.response.status_code": 200, "http.request.role": "metadata",
        "rate_limiter.delay_ms": 5, "circuit_breaker.state": "closed"}
for hit in (False, True):
    facts = {**send, "http.cache.hit": hit, "http.request.wire": not hit}
    with tracer.start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=facts):
        pass
with retrospan.resolution("a"), retrospan.attempt(tier="t", source="s"), retrospan.download() as download:
    download.stored(sha256="0" * 64, final_path="p", content_length=3)
print("done", flush=True); input()
"""
    with sidecar(record, port, "--keep", "0"):
        watched = start(record, program)
        assert watched.stdout is not None
        assert watched.stdout.readline() == "done\n"
        wait_until(lambda: "retrospan_yield_ratio" in scrape(port).text, "the run shows")
        page = scrape(port)
        watched.communicate("\n", timeout=30)
    assert {line.split()[2] for line in page.text.splitlines() if line.startswith("# TYPE")} == METRICS.keys()
    assert complaints(page.text) == ""


def test_a_port_that_is_taken_is_wrong_usage_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = _run(tmp_path, "--port", str(port))
    assert ran.returncode == 2
    assert f"127.0.0.1:{port} cannot be listened on (Address already in use): say --host or --port" in ran.stderr


@pytest.fixture
def in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in this process: what is wrong is told before anything is begun."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr("sys.setswitchinterval", lambda seconds: None)
    return lambda *options: CliRunner().invoke(cli, ["metrics", *options])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--host", "192.0.2.1"], "192.0.2.1:9108 cannot be listened on (Cannot assign requested address)"),
        (["--host", "no host"], "no host:9108 cannot be listened on"),
        (["--port", "0"], "--port"),
        (["--poll", "0"], "--poll"),
        (["--poll", "nan"], "--poll"),
        (["--keep", "-1"], "--keep"),
        (["--max-hosts", "1000"], "--max-hosts"),
        (["--config", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_wrong_usage_is_2_and_says_what(
    tmp_path: Path, in_this_process: Callable[..., Result], options: list[str], told: str
) -> None:
    ran = in_this_process(*options)
    assert ran.exit_code == 2, ran.output
    assert told in ran.output
    assert list(tmp_path.iterdir()) == []


def _database(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


NO_RECORDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (Path.mkdir, "is not a file"),
    "a text": (lambda path: path.write_text("no database, however long it is"), "is not a SQLite database"),
    "another program's": (lambda path: _database(path, "CREATE TABLE invoices (id)"), "but no record"),
    "a newer version's": (lambda path: _database(path, f"{ddl()}PRAGMA user_version = 99"), "upgrade retrospan"),
}


@pytest.mark.parametrize("kind", NO_RECORDS)
def test_what_can_be_no_record_is_refused_at_start_as_by_every_command(
    tmp_path: Path, in_this_process: Callable[..., Result], kind: str
) -> None:
    make, told = NO_RECORDS[kind]
    make(tmp_path / "file")
    ran = in_this_process("--db", "telemetry.sqlite", "--db", "file")
    assert told in ran.output
    by_others = CliRunner().invoke(cli, ["optimize", "--db", "file"])
    assert (ran.exit_code, ran.output) == (2, by_others.output)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize(
    "make",
    [
        lambda path: None,
        Path.touch,
        lambda path: path.write_bytes(bytes(100)),  # what a crash leaves of a record, which its writers put aside
        lambda path: _database(path, "PRAGMA user_version = 1"),
    ],
    ids=["missing", "empty", "zeros", "no table yet"],
)
def test_what_may_become_a_record_is_not_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "telemetry.sqlite")
    Sidecar([str(tmp_path / "telemetry.sqlite")], Terms(())).check()


def test_what_a_glob_names_is_not_refused(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_text("no database, however long it is")
    Sidecar([str(tmp_path / "*.sqlite")], Terms(())).check()


def _run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [RETROSPAN, "metrics", *options],
        cwd=folder,
        env=environment(folder / "telemetry.sqlite"),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
