"""A loopback HTTP server that answers as scripted and keeps its own log: the independent truth of the tests.

    with Origin("127.0.0.2") as origin:
        origin.script("/works/1", Answer(429, headers={"retry-after": "1"}), Answer(200, body=b"{}"))
        httpx2.get(origin.url("/works/1"))
    origin.log[0].status        # 429, with the span id that came in `traceparent`

A path answers its script in order, its last answer for ever. `cut` stops the body after so many bytes: by closing, or with a
TCP reset.
"""

import socket
import struct
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One scripted answer. With an `etag`, a matching If-None-Match is answered 304."""

    status: int = 200
    body: bytes = b'{"ok": true}'
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})
    etag: str | None = None
    cut: int | None = None
    reset: bool = False
    wait_for: threading.Event | None = None  # answers only once this is set


@dataclass(frozen=True)
class Logged:
    """One request as the server saw it."""

    host: str
    method: str
    path: str
    status: int
    traceparent: str
    at: float
    body: bytes = b""

    @property
    def trace_id(self) -> str:
        return self.traceparent.split("-")[1] if self.traceparent else ""

    @property
    def span_id(self) -> str:
        return self.traceparent.split("-")[2] if self.traceparent else ""


class Origin:
    """One host. Several make a world: each binds its own loopback address."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.log: list[Logged] = []
        self._scripts: dict[str, list[Answer]] = {}
        self._served: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((host, 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "Origin":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self._server.server_port}{path}"

    def script(self, path: str, *answers: Answer) -> str:
        """Answer this path so from now on; returns its URL."""
        with self._lock:
            self._scripts[path] = list(answers)
            self._served[path] = 0
        return self.url(path)

    def next_answer(self, path: str) -> Answer:
        with self._lock:
            answers = self._scripts.get(path) or [Answer()]
            number = self._served[path]
            self._served[path] += 1
            return answers[min(number, len(answers) - 1)]

    def note(self, logged: Logged) -> None:
        with self._lock:
            self.log.append(logged)

    def statuses(self) -> list[int]:
        with self._lock:
            return [logged.status for logged in self.log]


def _handler(origin: Origin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def log_message(self, *args: Any) -> None:
            pass

        def _answer(self) -> None:
            at = time.time()
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            answer = origin.next_answer(self.path.partition("?")[0])
            if answer.wait_for is not None:
                answer.wait_for.wait(20)
            status, sent = answer.status, answer.body
            if answer.etag is not None and self.headers.get("if-none-match") == answer.etag:
                status, sent = 304, b""
            traceparent = self.headers.get("traceparent") or ""
            origin.note(Logged(origin.host, self.command, self.path, status, traceparent, at, body))
            self.send_response(status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.etag is not None:
                self.send_header("etag", answer.etag)
            if status not in (204, 304):
                self.send_header("content-length", str(len(sent)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(sent if answer.cut is None else sent[: answer.cut])
            self.wfile.flush()
            if answer.cut is not None:
                self._break_off(answer.reset)

        def _break_off(self, reset: bool) -> None:
            self.close_connection = True
            if reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                pass  # a client that went away

        def finish(self) -> None:
            try:
                super().finish()
            except (OSError, ValueError):
                pass

        do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = _answer

    return Handler
