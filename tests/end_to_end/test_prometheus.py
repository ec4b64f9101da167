"""A real Prometheus scrapes both endpoints while the demo's downloader runs, and PromQL answers what the gate says."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus import Prometheus
from scrapes import free_port, scrape

from retrospan.prometheus.command import metrics

from .support import DEADLINE, RETROSPAN, environment, read, wait_until
from .test_metrics_command import sidecar

ROOT = Path(__file__).parents[2]
SECONDS = {"ttfp_p50": 1000, "ttfp_p95": 1000, "rate_delay_p95": 1000}
GAUGES = {
    "yield": "retrospan_yield_ratio",
    "ttfp_p50": "retrospan_ttfp_p50_seconds",
    "ttfp_p95": "retrospan_ttfp_p95_seconds",
    "cache_hit": "retrospan_cache_hit_ratio",
    "rate_delay_p95": "retrospan_limiter_delay_p95_seconds",
}


@contextmanager
def demo(out: Path, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """The demo, while it runs."""
    command = [sys.executable, ROOT / "examples" / "downloader" / "demo.py", "--artifacts", "150", "--out", out]
    kept = environment(out / "telemetry.sqlite", **variables)
    process = subprocess.Popen(
        command, env=kept, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=out.parent
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE)


def judged(record: Path) -> dict[str, Any]:
    """What `retrospan slo` says of the latest run, by objective."""
    command = [RETROSPAN, "slo", "--db", record, "--format", "json"]
    ran = subprocess.run(command, env=environment(record), capture_output=True, text=True, timeout=60, check=False)
    return {slo["name"]: slo for slo in json.loads(ran.stdout)["slos"]}


@pytest.mark.debian
def test_the_examples_configuration_is_one() -> None:
    example = ROOT / "examples" / "prometheus" / "prometheus.yml"
    checked = subprocess.run(
        ["/usr/bin/promtool", "check", "config", example], capture_output=True, timeout=30, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_the_examples_unit_starts_the_command_as_it_is() -> None:
    unit = (ROOT / "examples" / "prometheus" / "retrospan-metrics.service").read_text()
    (line,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    program, command, *options = shlex.split(line.partition("=")[2])
    assert (Path(program).name, command) == ("retrospan", "metrics")
    assert metrics.make_context("metrics", options).params["records"] == ("telemetry.sqlite",)


@pytest.mark.debian
@pytest.mark.timeout(120)
def test_promql_says_what_the_gate_says_of_a_demo_that_was_scraped_while_it_ran(tmp_path: Path) -> None:
    out, live_port, port = tmp_path / "out", free_port(), free_port()
    out.mkdir()
    record = out / "telemetry.sqlite"
    asked = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": str(live_port)}
    with ExitStack() as running:
        running.enter_context(sidecar(record, port, "--keep", "6"))
        prometheus = running.enter_context(Prometheus(tmp_path / "prometheus", [live_port, port], "1s"))
        # It begins to scrape some seconds after it is ready.
        wait_until(lambda: prometheus.query("up"), "Prometheus scrapes")
        downloader = running.enter_context(demo(out, **asked))
        live = "sum(http_client_request_duration_seconds_count)"
        wait_until(lambda: prometheus.query(live), "the program is scraped")
        wait_until(lambda: prometheus.query("retrospan_yield_ratio"), "its run is scraped")
        assert prometheus.errors() == []
        assert downloader.wait(60) == 0
        ((run_id,),) = read(record, "SELECT run_id FROM run_summary")
        gate = judged(record)
        expected = {name: gate[name]["value"] / SECONDS.get(name, 1) for name in GAUGES}

        def shown() -> dict[str, float | None]:
            return {name: prometheus.values(metric, "run_id").get((run_id,)) for name, metric in GAUGES.items()}

        wait_until(lambda: shown() == expected, f"PromQL says {expected}")
        by_host = read(
            record,
            "SELECT host, 1.0 * sum(status = 429) / count(*) FROM http_events"
            " WHERE status IS NOT NULL AND wire = 1 AND (from_cache = 0 OR revalidated = 1) GROUP BY host",
        )
        ratios = {(host, run_id): pytest.approx(ratio) for host, ratio in by_host}
        assert prometheus.values("retrospan_http_429_ratio", "host", "run_id") == ratios
        events = prometheus.values("retrospan_slo_events_total", "slo", "verdict")
        for name, slo in gate.items():
            good, bad = (events[name, verdict] for verdict in ("good", "bad"))
            assert (good, good + bad) == (slo["good"], slo["total"]), name
        ((sends, opens, attempts),) = read(
            record,
            "SELECT (SELECT count(*) FROM http_events),"
            " (SELECT count(*) FROM breaker_transitions WHERE new_state = 'open' AND old_state <> 'open'),"
            " (SELECT count(*) FROM fallback_attempts)",
        )
        assert prometheus.values("sum(retrospan_http_requests_total)") == {(): sends}
        assert prometheus.values("sum(retrospan_breaker_opens_total)") == {(): opens}
        assert prometheus.values("sum(retrospan_attempts_total)") == {(): attempts}
        assert prometheus.values("retrospan_corruptions_total") == {(): gate["corruption"]["value"]}
        # The run's series go, and are stale with the next scrape instead of five minutes later; one may be under way.
        wait_until(
            lambda: (page := scrape(port)).status == 200 and run_id not in page.text, "the run's series are gone"
        )
        before = len(prometheus.ups(port))
        wait_until(lambda: len(prometheus.ups(port)) >= before + 2, "they were scraped without it")
        assert prometheus.query("retrospan_yield_ratio") == []
        assert prometheus.values("sum(retrospan_http_requests_total)") == {(): sends}
        assert set(prometheus.ups(port)) == {"1"}
        # Of the program itself every scrape succeeded, from its first to its last.
        ups = prometheus.ups(live_port)
        assert "1" in ups
        assert "0" not in ups.strip("0")
