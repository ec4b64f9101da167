"""A real Prometheus on loopback, with a configuration of the test.

with Prometheus(folder, {"retrospan": port}) as prometheus:
    prometheus.query('up{job="retrospan"}')         # {(("instance", …), ("job", …)): 1.0}
"""

import json
import subprocess
import time
import urllib.parse
from pathlib import Path
from typing import Any

from scrapes import free_port, scrape

_DEADLINE = 30.0


class Prometheus:
    """The server, while it runs; it scrapes each job's port once a second."""

    def __init__(self, folder: Path, jobs: dict[str, int], rules: Path | None = None) -> None:
        self._folder, self.port = folder, free_port()
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [] if rules is None else [str(rules)],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in jobs.items()
            ],
        }
        folder.mkdir(parents=True, exist_ok=True)
        # YAML takes JSON as it is.
        (folder / "prometheus.yml").write_text(json.dumps(configuration))

    def __enter__(self) -> "Prometheus":
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [
                    "/usr/bin/prometheus",
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _DEADLINE
        while not self._is_ready():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.05)
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(_DEADLINE)
        finally:
            self._process.kill()

    def query(self, text: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The instant vector of a query, now; its series by their labels but for job, instance and name."""
        found = self._ask("query", query=text)["result"]
        return {_labels(series["metric"]): float(series["value"][1]) for series in found}

    def samples(self, selector: str, seconds: int = 600) -> list[float]:
        """Every sample of a selector in the last seconds, those that mark it stale not among them."""
        found = self._ask("query", query=f"{selector}[{seconds}s]")["result"]
        return [float(value) for series in found for _, value in series["values"]]

    def errors(self) -> list[str]:
        """What went wrong with the last scrape of each job."""
        return [target["lastError"] for target in self._ask("targets")["activeTargets"] if target["lastError"]]

    def _ask(self, what: str, **parameters: str) -> Any:
        answer = scrape(self.port, f"/api/v1/{what}?{urllib.parse.urlencode(parameters)}")
        told = json.loads(answer.body)
        assert told["status"] == "success", told
        return told["data"]

    def _is_ready(self) -> bool:
        try:
            return scrape(self.port, "/-/ready").status == 200
        except OSError:
            return False


def _labels(metric: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(pair for pair in metric.items() if pair[0] not in ("__name__", "job", "instance")))
