"""What must hold with every supported release of every library; run by nox over sets of them.

It uses nothing but what all releases have, and asks each library what it is where their spellings differ.
"""

import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pybreaker
import pyrate_limiter
import pytest
import tenacity
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from providers import TracerProvider

import retrospan_instrumentation
from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation import surround

from .conftest import said


def installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


LIBRARIES = [name for name in ("httpx", "httpx2") if installed(name)]


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> Any:
    return importlib.import_module(request.param)


@pytest.fixture
def sends() -> Any:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    surround.faults.clear()
    retrospan_instrumentation.instrument_all(tracer_provider=provider)

    def facts(*keys: str) -> list[tuple[Any, ...]]:
        spans = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [said(span, keys) for span in spans if span.kind is trace.SpanKind.CLIENT]

    facts.named = lambda name: [s for s in exporter.get_finished_spans() if s.name == name]  # type: ignore[attr-defined]
    yield facts
    retrospan_instrumentation.uninstrument_all()
    assert not surround.faults


def limiter(per_second: int) -> Any:
    rate = pyrate_limiter.Rate(per_second, pyrate_limiter.Duration.SECOND)
    old = "raise_when_fail" in inspect.signature(pyrate_limiter.Limiter.__init__).parameters
    return pyrate_limiter.Limiter(rate, max_delay=5000) if old else pyrate_limiter.Limiter(rate)


def cache_transport(library: Any, inner: Any, folder: Path) -> Any:
    """hishel's synchronous transport, by any of its names."""
    hishel = importlib.import_module("hishel")
    if hasattr(hishel, "FileStorage"):  # 0.1.5, for httpx only
        return hishel.CacheTransport(transport=inner, storage=hishel.FileStorage(base_path=folder))
    module = importlib.import_module(f"hishel.{library.__name__}")
    if hasattr(module, "CacheTransport"):
        return module.CacheTransport(inner, storage=hishel.SqliteStorage(database_path=folder / "cache.db"), rfc=True)
    storage = hishel.SyncSqliteStorage(database_path=folder / "cache.db")
    return module.SyncCacheTransport(next_transport=inner, storage=storage)


def stack(client: Any, url: str, library: Any) -> Callable[[], Any]:
    """retry > breaker > limiter > client."""
    breaker = pybreaker.CircuitBreaker(name="127.0.0.1:metadata", fail_max=5)
    permits = limiter(100)

    def send() -> Any:
        permits.try_acquire("127.0.0.1:metadata")
        response = client.get(url)
        response.raise_for_status()
        return response

    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(4), wait=tenacity.wait_none(), reraise=True)
    return lambda: policy(breaker.call, send)


def test_the_usual_stack_is_a_row_a_send_with_every_layers_fact(sends: Any, library: Any) -> None:
    with Origin() as origin:
        url = origin.script("/flaky", Answer(429, headers={"retry-after": "2"}), Answer(503), Answer(200))
        with library.Client() as client:
            assert stack(client, url, library)().status_code == 200
        assert [entry.status for entry in origin.log] == [429, 503, 200]
    facts = (sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_RESEND_COUNT, sc.RETRY_SOURCE, sc.CIRCUIT_BREAKER_RECORDED)
    assert sends(*facts) == [(429, 0, None, "failure"), (503, 1, "frame", "failure"), (200, 2, "frame", "success")]
    assert sends(sc.CIRCUIT_BREAKER_STATE, sc.HTTP_REQUEST_WIRE) == [("closed", True)] * 3
    assert all(delay is not None for (delay,) in sends(sc.RATE_LIMITER_DELAY_MS))
    assert sends(sc.HTTP_RESPONSE_RETRY_AFTER)[0] == (2.0,)


def test_a_limiter_that_makes_one_wait_tells_how_long(sends: Any, library: Any) -> None:
    permits = limiter(1)
    with Origin() as origin, library.Client() as client:
        for _ in range(2):
            permits.try_acquire("127.0.0.1")
            client.get(origin.url("/"))
    (first,), (second,) = sends(sc.RATE_LIMITER_DELAY_MS)
    assert first < second
    assert second >= 500
    assert second in map(_milliseconds, sends.named("rate_limiter.acquire"))


def _milliseconds(span: ReadableSpan) -> int:
    return ((span.end_time or 0) - (span.start_time or 0) + 500_000) // 1_000_000


def test_a_breaker_that_opens_and_refuses_is_told(sends: Any) -> None:
    breaker = pybreaker.CircuitBreaker(name="api.example.org", fail_max=1)
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(lambda: 1 / 0)
    with pytest.raises(pybreaker.CircuitBreakerError):
        breaker.call(lambda: None)
    (opened,) = sends.named("circuit_breaker.state_change")
    attributes = opened.attributes
    assert [attributes[k] for k in (sc.CIRCUIT_BREAKER_OLD_STATE, sc.CIRCUIT_BREAKER_NEW_STATE)] == ["closed", "open"]
    assert len(sends.named("circuit_breaker.rejected")) == 1


def test_a_cache_tells_hit_and_revalidation(sends: Any, library: Any, tmp_path: Path) -> None:
    if library.__name__ == "httpx2" and version("hishel").startswith("0."):
        with pytest.raises(ImportError):
            importlib.import_module("hishel.httpx2")  # that release knows httpx only
        return
    json = {"content-type": "application/json"}
    with Origin() as origin:
        kept = origin.script("/kept", Answer(headers={**json, "cache-control": "max-age=60"}))
        asked = origin.script("/asked", Answer(headers={**json, "cache-control": "max-age=0"}, etag='"1"'))
        with library.Client(transport=cache_transport(library, library.HTTPTransport(), tmp_path)) as client:
            for url in (kept, kept, asked, asked):
                assert client.get(url).status_code == 200
        assert [entry.status for entry in origin.log] == [200, 200, 304]
    facts = (sc.HTTP_RESPONSE_STATUS_CODE, sc.HTTP_REQUEST_WIRE, sc.HTTP_CACHE_HIT, sc.HTTP_CACHE_REVALIDATED)
    assert sends(*facts) == [
        (200, True, False, False),
        (200, False, True, False),
        (200, True, False, False),
        (304, True, True, True),
    ]


def test_taken_off_again_every_class_has_its_own_functions(library: Any) -> None:
    watched = [
        (library.Client, "_send_single_request"),
        (library.AsyncClient, "_send_single_request"),
        (library.HTTPTransport, "handle_request"),
        (library.AsyncHTTPTransport, "handle_async_request"),
        (tenacity.Retrying, "__call__"),
        (tenacity.BaseRetrying, "iter"),
        (tenacity.RetryCallState, "prepare_for_next_attempt"),
        (
            pyrate_limiter.Limiter,
            "try_acquire_async" if hasattr(pyrate_limiter.Limiter, "try_acquire_async") else "try_acquire",
        ),
        (pybreaker.CircuitBreakerState, "call"),
    ]
    before = [owner.__dict__[name] for owner, name in watched]
    retrospan_instrumentation.instrument_all()
    assert all(owner.__dict__[name] is not own for (owner, name), own in zip(watched, before, strict=True))
    retrospan_instrumentation.uninstrument_all()
    assert [owner.__dict__[name] for owner, name in watched] == before
