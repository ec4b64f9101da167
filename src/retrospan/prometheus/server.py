"""An HTTP server of one page of metrics, for both endpoints: `/metrics`, `/healthz`, and nothing else.

    server = Server("127.0.0.1", 9108, page, is_healthy)      # OSError when the port is taken or the host is none of ours
    server.start()

`page` is called for each scrape, in one thread at a time, and gives a `Page`, or None when there is none to trust (503). Where
its metrics come from is the business of whoever makes it.
"""

import gzip
import os
import socket
import threading
from collections.abc import Callable
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from logging import getLogger
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final

METRICS: Final = "/metrics"
HEALTH: Final = "/healthz"
# The text format that every Prometheus reads.
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN_TEXT: Final = "text/plain; charset=utf-8"
_IDLE_SECONDS: Final = 120.0
_MOST_CONNECTIONS: Final = 64
_FORK_SECONDS: Final = 1.0

_logger = getLogger("retrospan")


class Page:
    """One rendered page, and the same compressed."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain

    @cached_property
    def gzipped(self) -> bytes:
        """The page as a client gets it that accepts gzip."""
        return gzip.compress(self.plain, compresslevel=1)


class Server(ThreadingMixIn, TCPServer):
    """The server; it listens from its making on, and answers once it is started."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = _MOST_CONNECTIONS

    def __init__(
        self, host: str, port: int, page: Callable[[], Page | None], is_healthy: Callable[[], bool] = lambda: True
    ) -> None:
        """Raises OSError when the port is taken, or the host is no address of this machine."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # Of a name with both kinds of address, such as localhost, the one that a configuration of Prometheus means.
        self.address_family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        self._page, self.is_healthy = page, is_healthy
        self._rendering = threading.Lock()
        self._connections: set[socket.socket] = set()
        super().__init__((str(address[0]), port), _Handler)

    def start(self) -> None:
        """Answer from a thread of its own, which keeps no process alive."""
        threading.Thread(target=self.serve_forever, name="retrospan-metrics", daemon=True).start()

    def keep_out_of_children(self) -> None:
        """Let no forked child hold the port or a connection, nor begin amid a rendering, whose locks it would keep."""
        os.register_at_fork(before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._in_child)

    def page(self) -> Page | None:
        """The page for one scrape."""
        with self._rendering:
            return self._page()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer one connection from a thread of its own, unless there are too many of them."""
        if len(self._connections) >= _MOST_CONNECTIONS:
            self.shutdown_request(request)
            return
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End one connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or sends what is no HTTP, is no news."""

    def _before_fork(self) -> None:
        self._holds_for_fork = self._rendering.acquire(timeout=_FORK_SECONDS)

    def _after_fork(self) -> None:
        if self._holds_for_fork:
            self._rendering.release()

    def _in_child(self) -> None:
        self._rendering = threading.Lock()
        for held in (self.socket, *self._connections):
            # Not `close`, which waits for files that were made of the connection: their thread is not here.
            os.close(held.detach())
        self._connections.clear()


class _Handler(BaseHTTPRequestHandler):
    """One connection, kept for further scrapes."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # One segment an answer: written in parts, with the system waiting to fill them, it took 44 ms.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer."""
        path = self.path.partition("?")[0]
        if path == METRICS:
            self._scrape()
        elif path == HEALTH:
            is_healthy = self.server.is_healthy()
            self._send(
                HTTPStatus.OK if is_healthy else HTTPStatus.SERVICE_UNAVAILABLE, b"ok\n" if is_healthy else b"stale\n"
            )
        else:
            self._send(HTTPStatus.NOT_FOUND, b"only /metrics and /healthz are here\n")

    do_HEAD = do_GET

    def _scrape(self) -> None:
        try:
            page = self.server.page()
        except Exception as error:  # of a collector of the program's own, perhaps: the next scrape may do
            _logger.warning("The metrics cannot be rendered (%s): this scrape has none.", type(error).__name__)
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, b"the metrics cannot be rendered\n")
            return
        if page is None:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"the metrics are not ready, or older than they may be\n")
        elif "gzip" in self.headers.get("Accept-Encoding", ""):
            self._send(HTTPStatus.OK, page.gzipped, _CONTENT_TYPE, "gzip")
        else:
            self._send(HTTPStatus.OK, page.plain, _CONTENT_TYPE)

    def _send(
        self, status: HTTPStatus, body: bytes, content_type: str = _PLAIN_TEXT, encoding: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if encoding is not None:
            self.send_header("Content-Encoding", encoding)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def version_string(self) -> str:
        """What the header Server says: no versions."""
        return "retrospan"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""
