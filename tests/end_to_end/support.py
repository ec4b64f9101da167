"""What the end-to-end tests share: programs started as their users start them, and what the record holds afterwards."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
LAUNCHER = BIN / "opentelemetry-instrument"
RETROSPAN = BIN / "retrospan"
DEADLINE = 30.0

# Instrumentations of libraries that hardly a program here uses: to import these takes as long as the rest of a start.
OTHERS = "aiohttp-client,requests,urllib3"

# Programs under test speak plain OpenTelemetry: `span(number)` ends one request's span, with that number as its status.
SPANS = """
import os, signal, sys, threading, time
from opentelemetry import trace
from opentelemetry.trace import SpanKind

def span(number):
    attributes = {"http.request.method": "GET", "server.address": "h", "http.response.status_code": number}
    with trace.get_tracer("program").start_as_current_span("GET", kind=SpanKind.CLIENT, attributes=attributes):
        pass

def spans(first, count=20):
    for number in range(first, first + count):
        span(number)

def naps():
    # Python looks for signals between two naps, and might sleep through one that comes just before a long one.
    for _ in range(6000):
        time.sleep(0.01)
"""


def environment(record: Path, **variables: str) -> dict[str, str]:
    """The tests' environment without any setting of OpenTelemetry's or ours but these."""
    ours = {
        # From 3.12 on Python warns of every os.fork() in a process with threads, as each with a span processor is.
        "PYTHONWARNINGS": "ignore:This process",
        "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": OTHERS,
        "RETROSPAN_DB": str(record),
    }
    return {**_plain(), **ours, **variables}


def launched(record: Path, folder: Path, **variables: str) -> dict[str, str]:
    """The environment in which the launcher starts a program from this folder: the launcher said so, once for all."""
    first, set_by_launcher = _told_by_launcher()
    made = {**set_by_launcher, **environment(record, **variables)}
    paths = [first, str(folder), *filter(None, [made.get("PYTHONPATH")])]
    return {**made, "PYTHONPATH": os.pathsep.join(paths)}


@cache
def _told_by_launcher() -> tuple[str, dict[str, str]]:
    """What it puts before the folder in PYTHONPATH, and the other variables that it sets where nothing is set."""
    before = _plain()
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    command = [LAUNCHER, sys.executable, "-S", "-c", program]
    ran = subprocess.run(command, cwd="/", env=before, capture_output=True, text=True, timeout=DEADLINE, check=True)
    told: dict[str, str] = json.loads(ran.stdout)
    first, folder, *others = told.pop("PYTHONPATH").split(os.pathsep)
    assert [folder, *others] == ["/", *filter(None, before.pop("PYTHONPATH", "").split(os.pathsep))]
    return first, dict(told.items() - before.items())


def _plain() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "RETROSPAN_"))}


def start(
    record: Path, program: str, *arguments: str, launcher: Sequence[str | Path] | None = None, **variables: str
) -> subprocess.Popen[str]:
    """Start a program's text, from a file beside the record; its standard streams are pipes.

    It is started under this launcher; without one, as `opentelemetry-instrument` would start it, whose own start takes time.
    """
    file = record.with_name("program.py")
    file.write_text(program, encoding="utf-8")
    return subprocess.Popen(
        [*(launcher or ()), sys.executable, file, *arguments],
        cwd=record.parent,
        env=launched(record, record.parent, **variables) if launcher is None else environment(record, **variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = DEADLINE) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a program that ends by itself."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
        process.wait(DEADLINE)
    return process.returncode, out, err


def read(record: Path, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query; none while the record is not there yet."""
    if not record.exists():
        return []
    connection = sqlite3.connect(record, timeout=10)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        connection.close()


def statuses(record: Path) -> list[int]:
    """The numbers that `span` was called with, sorted."""
    return [status for (status,) in read(record, "SELECT status FROM http_events ORDER BY status")]


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition, for half a minute at most."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)
