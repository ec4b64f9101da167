"""What instrumenting adds to one request on the caller's thread, side by side with the official instrumentation.

    make bench-hot

One process, `client.get` on a real HTTPTransport over a pool that answers at once, bodies read, spans discarded in another
thread, URLs unique. Blocks of requests of every contender come in random order; what counts is the caller's own CPU time
(`thread_time`). Printed is each contender's addition over the bare client, as a ratio to the official instrumentation's.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import httpcore2
import httpx2
import pybreaker
import tenacity
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor as OfficialInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from pyrate_limiter import Duration, Limiter, Rate

import retrospan_instrumentation

BODY = b'{"ok": true}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"12")]


class Discarding(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Pool:
    """Answers at once."""

    def handle_request(self, request: Any) -> Any:
        return httpcore2.Response(200, headers=HEADERS, content=iter([BODY]), extensions={"http_version": b"HTTP/1.1"})

    def close(self) -> None:
        pass


def make_client() -> httpx2.Client:
    transport = httpx2.HTTPTransport()
    transport._pool.close()
    transport._pool = Pool()  # type: ignore[assignment]
    return httpx2.Client(transport=transport)


def http_only(client: httpx2.Client) -> Callable[[str], object]:
    return client.get


def whole_stack(client: httpx2.Client) -> Callable[[str], object]:
    """Retry, breaker and limiter around it: their own cost is in the baseline too."""
    limiter = Limiter(Rate(10**9, Duration.SECOND))
    breaker = pybreaker.CircuitBreaker(name="api.example.org")
    retrying = tenacity.Retrying(stop=tenacity.stop_after_attempt(3))

    def guarded(url: str) -> object:
        limiter.try_acquire("api.example.org:metadata")
        return client.get(url)

    return lambda url: retrying(breaker.call, guarded, url)


def contenders(provider: TracerProvider) -> dict[str, tuple[Callable[[], AbstractContextManager[None]], Any]]:
    @contextmanager
    def official() -> Iterator[None]:
        OfficialInstrumentor().instrument(tracer_provider=provider)
        try:
            yield
        finally:
            OfficialInstrumentor().uninstrument()

    @contextmanager
    def ours() -> Iterator[None]:
        retrospan_instrumentation.instrument_all(tracer_provider=provider)
        try:
            yield
        finally:
            retrospan_instrumentation.uninstrument_all()

    return {
        "bare client": (nullcontext, http_only),
        "official, HTTP": (official, http_only),
        "retrospan, HTTP": (ours, http_only),
        "bare stack": (nullcontext, whole_stack),
        "retrospan, whole stack": (ours, whole_stack),
    }


def block(call: Callable[[str], object], urls: Iterator[str], requests: int) -> float:
    """Caller's CPU a request, seconds."""
    mine = [next(urls) for _ in range(requests)]
    for url in mine[:10]:
        call(url)
    start = time.thread_time()
    for url in mine:
        call(url)
    return (time.thread_time() - start) / requests


def span_seconds(provider: TracerProvider, spans: int) -> float:
    """A bare SDK span with 12 attributes."""
    tracer = provider.get_tracer("benchmark")
    attributes: dict[str, str | int] = {f"key.{number}": number for number in range(6)}
    attributes |= {f"key.{number}": "value" for number in range(6, 12)}
    start = time.thread_time()
    for _ in range(spans):
        tracer.start_span("GET", kind=trace.SpanKind.CLIENT, attributes=attributes).end()
    return (time.thread_time() - start) / spans


def compare(provider: TracerProvider, blocks: int, requests: int) -> dict[str, float]:
    """What each adds to a request, µs."""
    urls = (f"https://api.example.org/works/{number}?page={number % 7}" for number in iter(range(10**9)))
    measured: dict[str, list[float]] = {name: [] for name in contenders(provider)}
    bare_spans = []
    for _ in range(blocks):
        bare_spans.append(span_seconds(provider, requests))
        for name, (instrumented, shape) in random.sample(sorted(contenders(provider).items()), len(measured)):
            with instrumented():
                measured[name].append(block(shape(make_client()), urls, requests))
    cost = {name: statistics.median(values) * 1e6 for name, values in measured.items()}
    return {
        "official, HTTP": cost["official, HTTP"] - cost["bare client"],
        "retrospan, HTTP": cost["retrospan, HTTP"] - cost["bare client"],
        "retrospan, whole stack": cost["retrospan, whole stack"] - cost["bare stack"],
        "a bare span, 12 attributes": statistics.median(bare_spans) * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--requests", type=int, default=300)
    wanted = parser.parse_args()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Discarding(), max_queue_size=2**17, schedule_delay_millis=200))
    alone = compare(provider, wanted.blocks, wanted.requests)
    with provider.get_tracer("benchmark").start_as_current_span("a resolution"):
        inside = compare(provider, wanted.blocks, wanted.requests)
    print(
        f"{'adds to a request, caller thread':34} {'alone, µs':>10} {'× official':>11} {'in a span, µs':>14} {'× official':>11}"
    )
    for name in alone:
        ratios = alone[name] / alone["official, HTTP"], inside[name] / inside["official, HTTP"]
        print(f"{name:34} {alone[name]:10.1f} {ratios[0]:11.2f} {inside[name]:14.1f} {ratios[1]:11.2f}")


if __name__ == "__main__":
    main()
