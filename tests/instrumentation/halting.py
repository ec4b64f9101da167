"""A server that stops in the middle of a body until it is told to go on.

with Halting(b"ab", b"cd") as server:
    ...                    # the client has "ab"
    server.go_on.set()     # and now "cd"
"""

import socket
import threading


class Halting:
    """Answers one connection, once."""

    def __init__(self, first: bytes, rest: bytes) -> None:
        self.go_on = threading.Event()
        self._first, self._rest = first, rest
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> "Halting":
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.go_on.set()
        self._thread.join(20)
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(65536)
            length = len(self._first) + len(self._rest)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (length, self._first))
            self.go_on.wait(20)
            try:
                connection.sendall(self._rest)
            except OSError:
                pass  # the client went away
