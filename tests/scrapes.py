"""What the tests of both metrics endpoints share: a scrape, its samples as prometheus_client parses them, promtool.

samples = scrape(port).samples()
samples[("retrospan_yield_ratio", (("run_id", "R1"),))]       # 0.9
"""

import gzip
import http.client
import socket
import subprocess
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Sample = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Scrape:
    """One answer of an endpoint."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body, unpacked."""
        plain = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return plain.decode()

    def samples(self) -> dict[Sample, float]:
        """Every sample by its name and sorted labels; each is there once."""
        found: dict[Sample, float] = {}
        for family in text_string_to_metric_families(self.text):
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                assert key not in found, key
                found[key] = sample.value
        return found

    def of(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of one metric by these labels; of series that differ in others alone, their sum."""
        found: dict[tuple[str, ...], float] = {}
        for (sample, pairs), value in self.samples().items():
            if sample == name:
                key = tuple(dict(pairs).get(label, "") for label in labels)
                found[key] = found.get(key, 0) + value
        return found


def scrape(port: int, path: str = "/metrics", host: str = "127.0.0.1", method: str = "GET", **headers: str) -> Scrape:
    """Ask an endpoint once, over a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return Scrape(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def complaints(text: str) -> str:
    """What `promtool check metrics` has to say of a page."""
    checked = subprocess.run(
        ["/usr/bin/promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )
    return checked.stdout + checked.stderr
