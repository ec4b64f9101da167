"""A real Prometheus on loopback, for the tests.

with Prometheus(folder, [9108], every="1s") as prometheus:
    prometheus.query("up")
"""

import http.client
import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from scrapes import free_port

JOB = "retrospan"
DEADLINE = 30.0
_CONFIGURATION = """
global: {{scrape_interval: {every}, evaluation_interval: {every}}}
rule_files: [{rules}]
scrape_configs:
  - job_name: {job}
    static_configs: [{{targets: [{targets}]}}]
"""


class Prometheus:
    """The server, while it runs, scraping ports of loopback `every` so often; with `rules`, a file of them."""

    def __init__(self, folder: Path, ports: Sequence[int], every: str, rules: Path | None = None) -> None:
        self._folder = folder
        self._port = free_port()
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        self._configuration = _CONFIGURATION.format(every=every, rules=rules or "", job=JOB, targets=targets)

    def __enter__(self) -> "Prometheus":
        self._folder.mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "prometheus.yml"
        configuration.write_text(self._configuration)
        options = [f"--config.file={configuration}", f"--storage.tsdb.path={self._folder / 'data'}"]
        options += [f"--web.listen-address=127.0.0.1:{self._port}", "--storage.tsdb.retention.time=1h"]
        self._log = (self._folder / "prometheus.log").open("wb")
        self._server = subprocess.Popen(["/usr/bin/prometheus", *options], stdout=self._log, stderr=self._log)
        try:
            self.until(lambda: self._get("/-/ready")[0] == 200)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.terminate()
        self._server.wait(10)
        self._log.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query, each with `metric` and `value`; a scalar has none."""
        return self._data("query", query=expression)["result"]

    def range(self, expression: str, start: float, end: float, step: float = 1) -> list[dict[str, Any]]:
        """The series of a range query, each with `metric` and `values`."""
        return self._data("query_range", query=expression, start=start, end=end, step=step)["result"]

    def values(self, expression: str, *labels: str) -> dict[tuple[str, ...], float]:
        """An instant query's values by these labels."""
        found = self.query(expression)
        values = {tuple(one["metric"].get(label, "") for label in labels): float(one["value"][1]) for one in found}
        assert len(values) == len(found), found
        return values

    def ups(self, port: int) -> str:
        """How each scrape of a port went that was made so far: 1, or 0 when it failed."""
        found = self.query(f'up{{instance="127.0.0.1:{port}"}}[10m]')
        return "".join(str(int(float(up))) for series in found for _, up in series["values"])

    def errors(self) -> list[str]:
        """What went wrong with the last scrape of each port."""
        return [target["lastError"] for target in self._data("targets")["activeTargets"] if target["lastError"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule with its `health` and `lastError`."""
        return [rule for group in self._data("rules")["groups"] for rule in group["rules"]]

    def until(self, holds: Callable[[], bool], seconds: float = DEADLINE) -> None:
        """Wait for a condition."""
        deadline = time.monotonic() + seconds
        while not _holds(holds):
            log = (self._folder / "prometheus.log").read_text()
            assert self._server.poll() is None, log
            assert time.monotonic() < deadline, log[-2000:]
            time.sleep(0.05)

    def _data(self, what: str, **parameters: object) -> Any:
        status, body = self._get(f"/api/v1/{what}?{urlencode(parameters)}")
        answer = json.loads(body)
        assert status == 200, answer
        assert not answer.get("warnings"), answer
        return answer["data"]

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _holds(condition: Callable[[], bool]) -> bool:
    try:
        return condition()
    except OSError:  # it does not listen yet
        return False
