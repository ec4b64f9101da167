"""Live metrics: each value against what the server logged or the test's own count, and no cost while nobody listens."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2
import pybreaker
import pytest
from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from origin import Answer, Origin
from retrospan_instrumentation import api as program
from retrospan_instrumentation import metrics, waits
from retrospan_instrumentation import semconv as sc

from . import breakers
from .conftest import Spans
from .limits import granted, refused
from .scenario import HTTP, call
from .test_hishel import cached

Labels = frozenset[tuple[str, Any]]


class Heard:
    """A reader, and what it has heard by metric and labels."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def points(self, name: str) -> dict[Labels, Any]:
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in (data.resource_metrics if data else ()) for scope in resource.scope_metrics]
        return {
            frozenset((point.attributes or {}).items()): point
            for scope in scopes
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def values(self, name: str, *labels: str) -> dict[Any, Any]:
        """The value, or the number of measurements, by these labels."""
        found = {}
        for key, point in self.points(name).items():
            values = tuple(dict(key).get(label) for label in labels)
            found[values[0] if len(values) == 1 else values] = point.value if hasattr(point, "value") else point.count
        return found


@pytest.fixture
def heard(spans: Spans) -> Iterator[Heard]:
    listening = Heard()
    metrics.use(listening.provider)
    yield listening
    metrics.use(None)
    metrics._state_of.clear()


def test_every_send_is_counted_once_by_host_and_status_as_the_server_logged_it(
    http: HTTP, heard: Heard, origin: Origin
) -> None:
    origin.script("/busy", Answer(429), Answer(503), Answer())

    async def scenario() -> None:
        client = http.client()
        for path in ("/busy", "/busy", "/busy", "/other"):
            await call(client.get(origin.url(path)))
        await call(http.close(client))

    http.run(scenario())
    logged = Counter((line.host, line.status) for line in origin.log)
    name = sc.METRIC_REQUEST_DURATION
    assert heard.values(name, sc.SERVER_ADDRESS, sc.HTTP_RESPONSE_STATUS_CODE) == logged
    (ok,) = (point for labels, point in heard.points(name).items() if (sc.HTTP_RESPONSE_STATUS_CODE, 200) in labels)
    assert 0 < ok.sum < 60
    assert tuple(ok.explicit_bounds) == sc.DURATION_BUCKETS


def test_a_send_that_fails_before_its_answer_is_measured_with_the_errors_class(http: HTTP, heard: Heard) -> None:
    async def scenario() -> None:
        client = http.client()
        with pytest.raises(http.module.ConnectError):
            await call(client.get("http://127.0.0.1:1/"))
        await call(http.close(client))

    http.run(scenario())
    assert heard.values(sc.METRIC_REQUEST_DURATION, sc.ERROR_TYPE) == {"ConnectError": 1}


def test_a_cache_is_counted_by_what_it_answered(heard: Heard, origin: Origin, tmp_path: Path) -> None:
    origin.script("/kept", Answer(headers={"content-type": "application/json", "cache-control": "max-age=60"}))
    origin.script("/asked", Answer(headers={"cache-control": "max-age=0"}, etag='"1"'))
    transport = cached(HTTP("httpx2", "sync"), httpx2.HTTPTransport(), tmp_path / "cache.db")
    with httpx2.Client(transport=transport) as client:
        for path in ("/kept", "/kept", "/kept", "/asked", "/asked"):
            client.get(origin.url(path))
    assert heard.values(sc.METRIC_CACHE_REQUESTS, sc.HTTP_CACHE_RESULT) == {"miss": 2, "hit": 2, "revalidated": 1}
    assert sum(heard.values(sc.METRIC_REQUEST_DURATION, sc.HTTP_RESPONSE_STATUS_CODE).values()) == len(origin.log)


def test_attempts_made_again_are_counted_by_the_error_that_led_to_them(http: HTTP, heard: Heard) -> None:
    async def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        http.run(http.retry(fail))
    assert heard.values(sc.METRIC_RETRY_ATTEMPTS, sc.ERROR_TYPE) == {"LookupError": 2}


@pytest.mark.usefixtures("clock")
def test_waits_and_refusals_are_measured_by_host_and_role(heard: Heard) -> None:
    granted("a.example:metadata", after=300_000_000)
    granted("a.example:metadata")
    refused("b.example:artifact")
    waits.drain(final=True)
    assert heard.values(sc.METRIC_WAIT_DURATION, sc.SERVER_ADDRESS, sc.HTTP_REQUEST_ROLE) == {
        ("a.example", "metadata"): 2
    }
    (point,) = heard.points(sc.METRIC_WAIT_DURATION).values()
    assert point.sum == pytest.approx(0.3)
    assert heard.values(sc.METRIC_BLOCKED, sc.SERVER_ADDRESS, sc.HTTP_REQUEST_ROLE) == {("b.example", "artifact"): 1}


def test_a_breakers_state_is_one_series_a_state_from_its_first_call_on(heard: Heard) -> None:
    def fail() -> None:
        raise OSError

    def states() -> dict[Any, Any]:
        return heard.values(sc.METRIC_BREAKER_STATE, sc.CIRCUIT_BREAKER_NAME, sc.CIRCUIT_BREAKER_STATE)

    breaker = breakers.make("a.example", fail_max=2)
    breaker.call(lambda: None)
    assert states() == {("a.example", "closed"): 1, ("a.example", "half_open"): 0, ("a.example", "open"): 0}
    for error in (OSError, pybreaker.CircuitBreakerError, pybreaker.CircuitBreakerError):
        with pytest.raises(error):
            breaker.call(fail)
    assert states() == {("a.example", "closed"): 0, ("a.example", "half_open"): 0, ("a.example", "open"): 1}
    moves = (sc.CIRCUIT_BREAKER_OLD_STATE, sc.CIRCUIT_BREAKER_NEW_STATE, sc.SERVER_ADDRESS)
    assert heard.values(sc.METRIC_TRANSITIONS, *moves) == {("closed", "open", "a.example"): 1}
    assert heard.values(sc.METRIC_REJECTED, sc.CIRCUIT_BREAKER_NAME) == {"a.example": 1}


def test_attempts_are_counted_and_timed_by_tier_source_and_outcome(heard: Heard) -> None:
    for outcome in ("success", "no_pdf", "no_pdf"):
        with program.attempt(tier="direct", source="unpaywall") as attempt:
            attempt.outcome(outcome)
    labels = (sc.FALLBACK_TIER, sc.FALLBACK_SOURCE, sc.FALLBACK_OUTCOME)
    counted = {("direct", "unpaywall", "success"): 1, ("direct", "unpaywall", "no_pdf"): 2}
    assert heard.values(sc.METRIC_ATTEMPTS, *labels) == counted
    assert heard.values(sc.METRIC_ATTEMPT_DURATION, *labels) == counted


def test_no_instrument_is_made_while_no_reader_listens(spans: Spans) -> None:
    metrics.use(MeterProvider(shutdown_on_exit=False))
    assert metrics.live is None
    metrics.use(api.NoOpMeterProvider())
    assert metrics.live is None
    metrics.use(None)
    assert metrics.live is None  # nobody has set a global provider here


def test_a_reader_that_comes_later_is_found_by_the_next_request(
    spans: Spans, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, reader = MeterProvider(shutdown_on_exit=False), InMemoryMetricReader()
    monkeypatch.setattr(metrics, "_LOOKS_APART", 0)
    monkeypatch.setattr(waits, "SWEEPS_APART", 0)
    metrics.use(provider)
    provider.add_metric_reader(reader)
    try:
        httpx2.get(origin.url("/"))
        assert metrics.live is not None
        assert reader.get_metrics_data() is not None
    finally:
        metrics.use(None)


def test_edges_are_floats_in_order_with_the_objectives_thresholds_among_them() -> None:
    assert all(isinstance(edge, float) for edge in sc.DURATION_BUCKETS)
    assert all(low < high for low, high in pairwise(sc.DURATION_BUCKETS))
    assert {0.25, 3.0, 20.0} <= set(sc.DURATION_BUCKETS)


def test_metrics_are_recorded_without_any_sdk_of_tracing() -> None:
    """The metrics need the API and a meter provider alone: no span is recorded here."""
    program = """
import httpx2, retrospan_instrumentation as r
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
r.instrument_all(meter_provider=MeterProvider([reader]))
try:
    httpx2.get("http://127.0.0.1:1/")
except httpx2.ConnectError:
    pass
(resource,) = reader.get_metrics_data().resource_metrics
print([m.name for s in resource.scope_metrics for m in s.metrics])
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "['http.client.request.duration']"
