"""A collector and a ClickHouse on loopback: rotel's agent from PyPI, and chDB behind a front.

with clickhouse(folder) as server, collector(server) as endpoint:
    ...                                    # a program with OTEL_EXPORTER_OTLP_ENDPOINT=endpoint
server.query("SELECT count() FROM otel.otel_traces")
"""

import json
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrospan.engines.views import views

from .support import wait_until

FRONT = Path(__file__).with_name("clickhouse_front.py")
# As the Collector's ClickHouse exporter makes it; its indices and its time to live, which change no row, left out.
TRACES = """
CREATE TABLE otel.otel_traces (
    Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String,
    SpanName LowCardinality(String), SpanKind LowCardinality(String), ServiceName LowCardinality(String),
    ResourceAttributes Map(LowCardinality(String), String), ScopeName String, ScopeVersion String,
    SpanAttributes Map(LowCardinality(String), String), Duration UInt64, StatusCode LowCardinality(String),
    StatusMessage String,
    Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)),
    Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String))
) ENGINE = MergeTree PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
"""


@dataclass(frozen=True)
class Server:
    """ClickHouse, with the Collector's table and our views."""

    port: int

    @property
    def url(self) -> str:
        return f"clickhouse://127.0.0.1:{self.port}/otel"

    def query(self, sql: str, body: bytes | None = None) -> str:
        """What the server answers; with a body, `sql` is the INSERT that it is for."""
        path = f"/?query={urllib.parse.quote(sql)}" if body is not None else "/"
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body or sql.encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            text: str = answer.read().decode()
            return text.strip()

    def insert(self, rows: list[dict[str, Any]]) -> None:
        """Add spans, as the Collector would have."""
        body = "\n".join(map(json.dumps, rows)).encode()
        self.query("INSERT INTO otel.otel_traces FORMAT JSONEachRow", body)


@contextmanager
def clickhouse(folder: Path) -> Iterator[Server]:
    """The engine, in a process of its own, while the block runs."""
    process = subprocess.Popen(
        [sys.executable, FRONT, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        server = Server(json.loads(process.stdout.readline())["port"])
        server.query("CREATE DATABASE otel")
        server.query(TRACES)
        for view in filter(str.strip, views("otel", "otel_traces").split(";\n")):
            server.query(view)
        yield server
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@contextmanager
def collector(server: Server) -> Iterator[str]:
    """The collector, while the block runs; its OTLP/HTTP endpoint."""
    from rotel import agent

    binary = Path(agent.__file__).with_name("rotel-agent")
    http, grpc = free_port(), free_port()
    # Spans are given on soon, not when there are many.
    command: list[str | Path] = [
        *(binary, "start", "--exporter", "clickhouse"),
        *("--clickhouse-exporter-endpoint", f"http://127.0.0.1:{server.port}"),
        *("--batch-timeout", "200ms"),
        *("--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listens(http), "the collector listened")
        yield f"http://127.0.0.1:{http}"
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
