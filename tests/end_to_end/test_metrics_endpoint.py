"""`OTEL_METRICS_EXPORTER=prometheus`: what it serves, and that it costs the program nothing when it cannot serve."""

import os
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scrapes import complaints, free_port, listens, scrape

from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc

from .support import SPANS, finish, read, start, statuses, wait_until

PROGRAM = """
import sys, httpx2, tenacity
@tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=tenacity.wait_none())
def get():
    httpx2.get(sys.argv[1]).raise_for_status()
get()
print("done", flush=True)
sys.stdin.read()
"""


@contextmanager
def running(
    record: Path, program: str, *arguments: str, port: int, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """A program with an endpoint, once it has said a line; it ends when its input does."""
    asked = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port), **variables}
    process = start(record, program, *arguments, **asked)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        yield process
    finally:
        finish(process)


def test_the_live_metrics_are_served_as_the_server_logged_and_the_record_has_them(
    tmp_path: Path, origin: Origin
) -> None:
    url = origin.script("/flaky", Answer(503), Answer(429), Answer(200))
    record, port = tmp_path / "telemetry.sqlite", free_port()
    with running(record, PROGRAM, url, port=port):
        page = scrape(port)
    assert page.status == 200
    sends = page.of("http_client_request_duration_seconds_count", "server_address", "http_response_status_code")
    assert sends == Counter((line.host, str(line.status)) for line in origin.log)
    assert page.of("retry_attempts_total", "error_type") == {("HTTPStatusError",): 2}
    edges = page.of("http_client_request_duration_seconds_bucket", "le")
    assert set(edges) == {(str(edge),) for edge in sc.DURATION_BUCKETS} | {("+Inf",)}
    assert {("0.25",), ("3.0",), ("20.0",)} < set(edges)
    assert "otel_scope" not in page.text
    ((run_id,),) = read(record, "SELECT run_id FROM run_info")
    assert page.of("target_info", "retrospan_run_id") == {(run_id,): 1}
    assert statuses(record) == [200, 429, 503]


@pytest.mark.debian
def test_promtool_has_nothing_to_say_of_the_live_metrics(tmp_path: Path) -> None:
    program = """
import pybreaker, pyrate_limiter as p, httpx2, retrospan, tenacity
limiter = p.Limiter(p.Rate(1, p.Duration.DAY))
limiter.try_acquire("a.example"); limiter.try_acquire("a.example", blocking=False)
breaker = pybreaker.CircuitBreaker(fail_max=1, name="a.example")
for _ in range(2):
    try:
        breaker.call(lambda: 1 / 0)
    except Exception:
        pass
with retrospan.attempt(tier="t", source="s") as attempt:
    attempt.outcome("no_pdf")
@tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
def get():
    httpx2.get("http://127.0.0.1:1/")
try:
    get()
except tenacity.RetryError:
    pass
from retrospan_instrumentation import waits
waits.drain(final=True)
print("done", flush=True); input()
"""
    port = free_port()
    with running(tmp_path / "telemetry.sqlite", program, port=port) as process:
        page = scrape(port)
        process.communicate("\n", timeout=30)
    names = {name for name, _ in page.samples()}
    wanted = {metric.name.replace(".", "_") for metric in sc.METRICS.values()} - {"http_cache_requests"}
    assert {name for name in wanted if not any(found.startswith(name) for found in names)} == set()
    assert complaints(page.text) == ""


def test_a_port_that_is_taken_costs_the_metrics_and_nothing_else(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        asked = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(port)}
        status, out, err = finish(start(record, f"{SPANS}\nspan(200); print('done')", **asked))
    assert (status, out) == (0, "done\n")
    assert err.startswith(f"The metrics endpoint cannot be opened: localhost:{port}: Address already in use (")
    assert err.count("\n") == 1
    assert statuses(record) == [200]


def test_exporters_named_beside_it_get_the_metrics_too_and_children_inherit_what_was_asked_for(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import os, httpx2\nfrom opentelemetry import metrics\n"
        "metrics.get_meter('mine').create_counter('mine').add(3)\n"
        "assert os.environ['OTEL_METRICS_EXPORTER'] == 'console, prometheus'\nprint('done', flush=True); input()"
    )
    with running(tmp_path / "r.sqlite", program, port=port, OTEL_METRICS_EXPORTER="console, prometheus") as process:
        assert scrape(port).of("mine_total") == {(): 3}
        out, _ = process.communicate("\n", timeout=30)
    assert '"name": "mine"' in out


def test_a_forked_child_holds_neither_the_port_nor_a_connection(tmp_path: Path) -> None:
    """The parent is killed while its child lives on: the port is free at once, and a kept connection is at its end."""
    program = (
        "import os, sys, time\nprint('done', flush=True); sys.stdin.readline()\n"
        "child = os.fork()\nif child == 0:\n    time.sleep(60)\n    os._exit(0)\nprint(child, flush=True); time.sleep(60)"
    )
    port = free_port()
    with (
        running(tmp_path / "r.sqlite", program, port=port) as process,
        socket.create_connection(("127.0.0.1", port)) as kept,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        kept.settimeout(10)
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(12) == b"HTTP/1.1 200"
        process.stdin.write("\n")
        process.stdin.flush()
        child = int(process.stdout.readline())
        process.kill()
        process.wait(10)
        try:
            wait_until(lambda: not listens(port), "the port is free")
            os.kill(child, 0)
            kept_to_the_end = b""
            while received := _received(kept):
                kept_to_the_end += received
            assert kept_to_the_end.endswith(b"ok\n")
        finally:
            os.kill(child, signal.SIGKILL)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b""


def test_a_fork_waits_for_a_scrape_whose_locks_the_child_would_keep(tmp_path: Path) -> None:
    program = """
import os, sys, threading, time
from prometheus_client import REGISTRY
lock, begun = threading.Lock(), threading.Event()
class Slow:
    def describe(self):
        return ()
    def collect(self):
        with lock:
            begun.set()
            time.sleep(0.2)
        return ()
REGISTRY.register(Slow())
print("done", flush=True)
begun.wait()
child = os.fork()
if child == 0:
    os._exit(0 if lock.acquire(timeout=0) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
    port = free_port()
    with running(tmp_path / "r.sqlite", program, port=port) as process:
        assert scrape(port).status == 200
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
