"""Every query of the dashboard, and the rules, asked of a real Prometheus that scraped the record of a real demo.

Truth is what the origin servers logged, what the record holds, and what the gate says of it.
"""

import json
import math
import re
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus import JOB, Prometheus
from scrapes import free_port, listens

from .support import RETROSPAN

pytestmark = [pytest.mark.debian, pytest.mark.timeout(120)]

DEMO = [sys.executable, Path(__file__).parents[2] / "examples" / "downloader" / "demo.py"]
ARTIFACTS = 60
# Beside the built-in objectives, one of a query of its own, which the sidecar is told of as the gate is.
OWN = """
[slo.answered]
good = "SELECT ts AS timestamp, host, id FROM http_events WHERE status < 500"
total = "SELECT ts AS timestamp, host, id FROM http_events"
min = "50%"
"""
VERDICTS = {"fail": 0, "pass": 1, "insufficient": 2}


class Shown:
    """A demo, while and after which its record's metrics were scraped."""

    def __init__(self, out: Path, config: Sequence[str | Path], prometheus: Prometheus, began: float) -> None:
        self.prometheus, self.began, self.ended = prometheus, began, time.time()
        self._record = out / "telemetry.sqlite"
        self.log = [json.loads(line) for line in (out / "access.jsonl").read_text().splitlines()]
        told = subprocess.run(
            [RETROSPAN, "slo", "--db", self._record, "--format", "json", *config], capture_output=True, check=False
        )
        self.slos = {slo["name"]: slo for slo in json.loads(told.stdout)["slos"]}
        board = json.loads(subprocess.run([RETROSPAN, "dashboard", *config], capture_output=True, check=True).stdout)
        self.panels = {panel["title"]: panel for panel in board["panels"] if panel["type"] != "row"}

    def rows(self, query: str) -> list[Any]:
        with closing(sqlite3.connect(self._record)) as connection:
            return connection.execute(query).fetchall()

    def asked(self, expression: str) -> str:
        """The expression as Grafana fills it in, with all jobs, runs and hosts chosen, for the time of the demo."""
        length = f"{math.ceil(self.ended - self.began)}s"
        filled = re.sub(r"\$(job|run|host)\b", ".*", expression)
        return filled.replace("$__range", length).replace("$__rate_interval", "10s")

    def values(self, panel: str, legend: str, *labels: str) -> dict[tuple[str, ...], float]:
        """What a panel's query of that legend comes to by now."""
        (expression,) = (one["expr"] for one in self.panels[panel]["targets"] if one["legendFormat"] == legend)
        return self.prometheus.values(self.asked(expression), *labels)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("shown")
    out, port = folder / "out", free_port()
    out.mkdir()
    (folder / "slo.toml").write_text(OWN)
    config = ["--config", folder / "slo.toml"]
    rules = yaml.safe_load(subprocess.run([RETROSPAN, "slo", "rules", *config], capture_output=True, check=True).stdout)
    rules["groups"][0]["interval"] = "1s"
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    # The record comes after the sidecar, so that all counters are seen at 0.
    options = ["--db", out / "telemetry.sqlite", "--port", port, "--poll", 0.5, "--keep", 600]
    sidecar = subprocess.Popen([RETROSPAN, "metrics", *config, *map(str, options)], stderr=subprocess.PIPE)
    try:
        with Prometheus(folder, [port], "1s", folder / "rules.yml") as prometheus:
            prometheus.until(lambda: listens(port))
            prometheus.until(lambda: bool(prometheus.query("retrospan_slo_events_total")))
            began = time.time()
            # All that is counted from here on has been seen at 0.
            seen = "min(count_over_time(retrospan_slo_events_total[1m]))"
            prometheus.until(lambda: prometheus.values(seen)[()] >= 3)
            demo = subprocess.run(
                [*DEMO, "--artifacts", str(ARTIFACTS), "--out", out],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert demo.returncode == 0, demo.stderr
            with closing(sqlite3.connect(out / "telemetry.sqlite")) as connection:
                ((sends,),) = connection.execute("SELECT COUNT(*) FROM http_events")
            prometheus.until(lambda: prometheus.values("sum(retrospan_http_requests_total)") == {(): sends})
            shown = Shown(out, config, prometheus, began)
            # What needs the whole run is there once the run is known to be over; then all has been scraped in one page.
            counted = {(name,): slo["total"] for name, slo in shown.slos.items() if slo["target"] is not None}
            by_slo = "sum by (slo) (retrospan_slo_events_total)"
            prometheus.until(lambda: counted.items() <= prometheus.values(by_slo, "slo").items())
            shown.ended = time.time()
            yield shown
    finally:
        sidecar.terminate()
        sidecar.communicate(timeout=10)


def test_every_query_has_an_answer_with_the_labels_that_its_legend_names(shown: Shown) -> None:
    empty = []
    for title, panel in shown.panels.items():
        for target in panel["targets"]:
            expression = shown.asked(target["expr"])
            if target["instant"]:
                found = shown.prometheus.query(expression)
                samples = [series["value"] for series in found]
            else:
                found = shown.prometheus.range(expression, shown.began, shown.ended)
                samples = [value for series in found for value in series["values"]]
            assert all(math.isfinite(float(value)) for _, value in samples), (title, found)
            labels = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
            assert all(series["metric"].get(label) for series in found for label in labels), (title, found)
            if not samples:
                empty.append((title, target["legendFormat"]))
    assert empty == []


def test_verdicts_and_budgets_are_the_gates(shown: Shown) -> None:
    judged = {name: VERDICTS[slo["verdict"]] for name, slo in shown.slos.items() if slo["verdict"] in VERDICTS}
    assert len(judged) == len(shown.slos) == 9
    # `increase` makes of the number of events a little more or less: what is near the least one may come out either way.
    near = {name for name in judged if 0.8 < shown.slos[name]["total"] / shown.slos[name]["min_events"] < 1.2}
    assert len(near) <= 2
    shown_as = {name: shown.values("Verdicts", name)[()] for name in judged}
    for name in near:
        met = shown.slos[name]["good"] / shown.slos[name]["total"] >= shown.slos[name]["target"]
        assert shown_as[name] in (VERDICTS["insufficient"], VERDICTS["pass" if met else "fail"])
    assert {name: shown_as[name] for name in judged.keys() - near} == {
        name: judged[name] for name in judged.keys() - near
    }
    for name, slo in shown.slos.items():
        if slo["target"] is not None:
            left = shown.values("Error budget left", name)[()]
            assert left == pytest.approx(1 - slo["budget_consumed"], abs=0.03), name


def test_gauges_are_the_numbers_of_the_gate(shown: Shown) -> None:
    told = {
        "yield": shown.values("Yield", "{{run_id}}"),
        "ttfp_p50": shown.values("Time to first PDF", "p50 {{run_id}}"),
        "ttfp_p95": shown.values("Time to first PDF", "p95 {{run_id}}"),
        "cache_hit": shown.values("Metadata cache hit", "{{run_id}}"),
        "rate_delay_p95": shown.values("Limiter wait", "p95 {{run_id}}"),
    }
    scales = {"yield": 1, "cache_hit": 1}
    for name, value in told.items():
        assert value == {(): shown.slos[name]["value"] / scales.get(name, 1000)}, name


def test_429_by_host_is_what_the_servers_logged(shown: Shown) -> None:
    answers = Counter(line["host"] for line in shown.log)
    refused = Counter(line["host"] for line in shown.log if line["status"] == 429)
    assert sum(refused.values()) > 0
    found = shown.values("429 by host", "{{host}}", "host")
    assert found == {(host,): refused[host] / total for host, total in answers.items()}


def test_breakers_are_in_the_state_of_their_last_transition(shown: Shown) -> None:
    states = {"closed": 0, "half_open": 1, "open": 2}
    last = dict(shown.rows("SELECT host, LOWER(new_state) FROM breaker_transitions ORDER BY id"))
    assert last
    found = shown.values("Breakers", "{{host}}", "host")
    assert {host: found[host,] for host in last} == {host: states[state] for host, state in last.items()}


def test_attempts_by_tier_are_those_of_the_record(shown: Shown) -> None:
    counted = shown.rows("SELECT tier, source, outcome, COUNT(*) FROM fallback_attempts GROUP BY 1, 2, 3")
    attempts = {tuple(row[:3]): row[3] for row in counted}
    assert shown.prometheus.values("retrospan_attempts_total", "tier", "source", "outcome") == attempts
    found = shown.values("Success by source", "{{tier}} {{source}}", "tier", "source")
    assert {(tier, source) for tier, source, outcome in attempts if outcome == "success"} >= found.keys() > set()
    assert all(0 <= share <= 1.001 for share in found.values())


def test_prometheus_evaluates_every_rule_without_an_error(shown: Shown) -> None:
    shown.prometheus.until(lambda: all(rule["health"] != "unknown" for rule in shown.prometheus.rules()))
    rules = shown.prometheus.rules()
    assert len(rules) > 30
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}
    # `increase` extrapolates what is good and what is bad alike.
    missed = {
        (name, JOB): 1 - slo["good"] / slo["total"] for name, slo in shown.slos.items() if slo["target"] is not None
    }

    def shares() -> dict[tuple[str, ...], float]:
        found = shown.prometheus.values("job_slo:retrospan_slo_errors:ratio_increase1h", "slo", "job")
        return {key: found[key] for key in missed}

    shown.prometheus.until(lambda: shares() == pytest.approx(missed))  # once the rules have seen the last scrape
