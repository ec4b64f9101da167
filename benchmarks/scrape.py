"""What a scrape of `retrospan metrics` costs, and how soon it is ready: with few and many rows behind it, few and many series.

    make bench-scrape        # 10 k and 10 M rows, 100 and 2 000 series; 1.5 GB of disk, minutes

Wall time in ms of whole answers, as a client on loopback has them: over a kept connection, plain and compressed, and over a new
one. `ready` is from the start of the process to its first page, most of it imports; `evaluated` to the first that shows the
run's numbers.
"""

import argparse
import http.client
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from queries import fill

from retrospan_instrumentation.semconv import OUTCOMES

PORT: Final = 9118
RUN: Final = "RUN000000000"
_CLASSES: Final = (100, 200, 300, 400, 500)


class Endpoint:
    """The endpoint, by a connection that is kept."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._kept = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def kept(self, encoding: str = "identity") -> bytes:
        """One scrape over the kept connection."""
        self._kept.request("GET", "/metrics", headers={"Accept-Encoding": encoding})
        return self._kept.getresponse().read()

    def new(self) -> bytes:
        """One scrape over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            return answer.read() if answer.status == 200 else b""
        finally:
            connection.close()


@contextmanager
def sidecar(record: Path) -> Iterator[tuple[float, float]]:
    """The command, while it runs; yields the seconds from its start to its first page, and the CPU it took till then."""
    started = time.perf_counter()
    command = [Path(sys.executable).with_name("retrospan"), "metrics", "--db", record, "--port", str(PORT)]
    process = subprocess.Popen([*command, "--run", RUN, "--poll", "2", "--max-hosts", "230"], stderr=subprocess.DEVNULL)
    try:
        wait(lambda: Endpoint(PORT).new())
        yield time.perf_counter() - started, cpu_seconds(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def cpu_seconds(process_id: int) -> float:
    """CPU time that a process has taken."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def wait(condition: Callable[[], object], seconds: float = 300.0) -> None:
    """Wait until a condition holds; an endpoint that does not listen yet is none."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except ConnectionError:
            pass
        if time.monotonic() > deadline:
            sys.exit("the endpoint does not say what it must")
        time.sleep(0.002)


def add_series(record: Path, series: int) -> None:
    """Rows that the page needs so many series for: requests of many hosts, and attempts of many sources."""
    sends = [(RUN, time.time(), f"s{number // 5}.example.org", _CLASSES[number % 5]) for number in range(series // 2)]
    tries = [(RUN, time.time(), f"source {number // 7}", OUTCOMES[number % 7]) for number in range(series // 2)]
    with closing(sqlite3.connect(record, timeout=30)) as connection:
        connection.executemany("INSERT INTO http_events (run_id, ts, host, status) VALUES (?, ?, ?, ?)", sends)
        connection.executemany("INSERT INTO fallback_attempts (run_id, ts, source, outcome) VALUES (?, ?, ?, ?)", tries)
        connection.commit()


def count(page: bytes) -> int:
    """The series of a page."""
    return sum(not line.startswith(b"#") for line in page.splitlines())


def told(scrape: Callable[[], bytes], scrapes: int) -> str:
    """Median and 99th percentile of so many scrapes, in ms."""
    times = []
    for _ in range(scrapes):
        started = time.perf_counter()
        scrape()
        times.append(1000 * (time.perf_counter() - started))
    return f"{statistics.median(times):9.2f} {sorted(times)[int(0.99 * (len(times) - 1))]:9.2f}"


def measure(rows: int, more: list[int], scrapes: int) -> None:
    """All figures of a record of so many rows."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "telemetry.sqlite"
        fill(record, 1, rows)
        with sidecar(record) as (ready, cpu):
            endpoint, started = Endpoint(PORT), time.perf_counter()
            wait(lambda: b"retrospan_yield_ratio{" in endpoint.kept())
            evaluated = ready + time.perf_counter() - started
            print(f"{rows:>12,} rows: ready {ready:.2f} s ({cpu:.2f} s of CPU), evaluated {evaluated:.1f} s")
            print(f"{'':16}{'series':>8} {'median':>9} {'99 %':>9}")
            for series in more:
                known = count(endpoint.kept())
                add_series(record, max(0, series - known))
                wait(lambda known=series: count(endpoint.kept()) >= known)  # type: ignore[misc]
                ways: dict[str, Callable[[], bytes]] = {
                    "kept": endpoint.kept,
                    "kept, gzip": lambda: endpoint.kept("gzip"),
                    "new connection": endpoint.new,
                }
                for name, scrape in ways.items():
                    print(f"{name:>16}{count(endpoint.kept()):8} {told(scrape, scrapes)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 10_000_000])
    parser.add_argument("--series", type=int, nargs="+", default=[100, 2000])
    parser.add_argument("--scrapes", type=int, default=500)
    asked = parser.parse_args()
    print(
        f"{platform.platform()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores"
    )
    for rows in asked.rows:
        measure(rows, asked.series, asked.scrapes)


if __name__ == "__main__":
    main()
