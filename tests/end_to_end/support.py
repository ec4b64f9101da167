"""What the end-to-end tests share: programs started as their users start them, and what the record holds afterwards."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
LAUNCHER = BIN / "opentelemetry-instrument"
RETROSPAN = BIN / "retrospan"
DEADLINE = 30.0

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
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "RETROSPAN_"))}
    # From 3.12 on Python warns of every os.fork() in a process with threads, as each with a span processor is.
    return {**kept, "PYTHONWARNINGS": "ignore:This process", "RETROSPAN_DB": str(record), **variables}


def start(
    record: Path, program: str, *arguments: str, launcher: Sequence[str | Path] = (LAUNCHER,), **variables: str
) -> subprocess.Popen[str]:
    """Start a program's text, from a file beside the record, under a launcher; its standard streams are pipes."""
    file = record.with_name("program.py")
    file.write_text(program, encoding="utf-8")
    return subprocess.Popen(
        [*launcher, sys.executable, file, *arguments],
        cwd=record.parent,
        env=environment(record, **variables),
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
