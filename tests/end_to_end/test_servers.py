"""Servers with several processes under the launcher: what their workers recorded is there when they have ended."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest

from .support import BIN, DEADLINE, LAUNCHER, environment, read, statuses, wait_until

PROGRAMS = Path(__file__).with_name("programs")
GUNICORN = ("gunicorn", "served:wsgi", "--bind", "127.0.0.1:0", "--workers", "2", "--no-control-socket")
UVICORN = ("uvicorn", "served:asgi", "--port", "0", "--workers", "2")
SERVERS = {
    "gunicorn": GUNICORN,
    "gunicorn --preload": (*GUNICORN, "--preload"),
    "gunicorn, workers recycled": (*GUNICORN, "--max-requests", "4"),
    "gunicorn, threads": (*GUNICORN, "--worker-class", "gthread", "--threads", "3"),
    "uvicorn": UVICORN,
}


class Server:
    """A server that was started, what it said, and its port."""

    def __init__(self, command: tuple[str, ...], record: Path) -> None:
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [LAUNCHER, BIN / command[0], *command[1:]],
            cwd=PROGRAMS,
            env=environment(record, PYTHONUNBUFFERED="1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()
        wait_until(self._ports, "the server listened")
        self.port = int(self._ports()[0])

    def _listen(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    def _ports(self) -> list[str]:
        return re.findall(r"http://127\.0\.0\.1:(\d+)", "".join(self.lines))

    def workers(self) -> int:
        """How many of gunicorn's are up, as gunicorn.conf.py has it tell."""
        return self.lines.count("+worker\n") - self.lines.count("-worker\n")

    def get(self, number: int) -> None:
        """Ask again while no worker listens yet, or if one that is being recycled hangs up before it has read the request."""
        wait_until(lambda: self._answers(number), f"request {number} was answered")

    def _answers(self, number: int) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", f"/{number}")
            return connection.getresponse().status == 200
        except (ConnectionError, RemoteDisconnected):
            return False
        finally:
            connection.close()

    def end(self) -> int:
        """SIGTERM to the server; its exit status."""
        self.process.terminate()
        status = self.process.wait(DEADLINE)
        self._listener.join(DEADLINE)
        return status

    def kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(DEADLINE)
        self._listener.join(DEADLINE)


@contextmanager
def serving(command: tuple[str, ...], record: Path) -> Iterator[Server]:
    server = Server(command, record)
    try:
        yield server
    finally:
        server.kill()


@pytest.mark.parametrize("name", SERVERS)
def test_the_workers_of_a_server_lose_nothing(tmp_path: Path, name: str) -> None:
    record = tmp_path / "telemetry.sqlite"
    with serving(SERVERS[name], record) as server:
        for number in range(16):
            server.get(number)
        if "gunicorn" in name:
            wait_until(lambda: server.workers() == 2, "both workers take signals")
        status = server.end()
        assert sorted(set(statuses(record))) == list(range(16)), "".join(server.lines)
        assert "Retrospan" not in "".join(server.lines)
        assert status in (0, -signal.SIGTERM)
        assert len(read(record, "SELECT DISTINCT run_id FROM http_events")) == 1
