"""Finished spans of requests as the hooks make them: what the benchmarks of the exporter, and its long tests, write.

    spans = finished(20_000)                # ReadableSpans of the SDK, in random order of the kinds in KINDS
    endless(tracer)                         # the same without an end, made one by one

Of a downloader with a cache, a limiter and breakers: most requests go well, some come from the cache, few fail.
"""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind, Tracer

START: Final = 1_700_000_000_000_000_000
_PLAIN: Final = {"http.request.hop_last": True, "http.request.resend_count": 0, "http.response.status_code": 200}
_ON_WIRE: Final = {"http.request.wire": True, "http.response.body.size": 4711, "network.protocol.version": "1.1"}
_GUARDED: Final = {"circuit_breaker.state": "closed", "circuit_breaker.recorded": "success"}
_RESENT: Final = {"http.request.resend_count": 1, "retry.source": "frame", "retry.wait_ms": 1200}
_CACHED: Final = {"http.cache.hit": True, "http.cache.stale": False, "http.request.wire": False}

# (share in percent, what such a request's span says beside its address and its times)
KINDS: Final[tuple[tuple[int, dict[str, Any]], ...]] = (
    (50, {**_PLAIN, "http.request.role": "metadata", **_ON_WIRE, **_GUARDED, "rate_limiter.delay_ms": 0}),
    (15, {**_PLAIN, "http.request.role": "artifact", **_ON_WIRE, **_GUARDED}),
    (18, {**_PLAIN, **_CACHED, "http.cache.revalidated": False, "http.request.role": "metadata"}),
    (6, {**_PLAIN, "http.response.status_code": 304, **_CACHED, "http.cache.revalidated": True, **_ON_WIRE}),
    (
        4,
        {**_PLAIN, "http.response.status_code": 429, "error.type": "429", "http.response.retry_after": 2.0, **_ON_WIRE},
    ),
    (5, {**_PLAIN, **_RESENT, "http.request.role": "artifact", **_ON_WIRE, **_GUARDED}),
    (2, {"http.request.hop_last": False, "http.request.resend_count": 0, "error.type": "ReadTimeout", **_GUARDED}),
)

# The spans of the other tables: name and attributes, of which {} is a number.
_OTHERS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    (
        "rate_limiter.acquire",
        {"server.address": "api{}.example.org", "http.request.role": "metadata", "rate_limiter.delay_ms": 120},
    ),
    (
        "circuit_breaker.state_change",
        {
            "server.address": "api{}.example.org",
            "circuit_breaker.scope": "host",
            "circuit_breaker.old_state": "closed",
            "circuit_breaker.new_state": "open",
            "circuit_breaker.reset_timeout": 30.0,
        },
    ),
    ("circuit_breaker.rejected", {"server.address": "api{}.example.org", "circuit_breaker.scope": "host"}),
    (
        "fallback.attempt",
        {
            "download.work_id": "W{}",
            "download.artifact_id": "10.1000/{}",
            "fallback.tier": "direct_oa",
            "fallback.source": "unpaywall",
            "server.address": "api7.example.org",
            "fallback.outcome": "retryable",
            "fallback.reason": "http_503",
            "fallback.status": 503,
        },
    ),
    (
        "download",
        {
            "download.work_id": "W{}",
            "download.artifact_id": "10.1000/{}",
            "download.outcome": "stored",
            "fallback.source": "unpaywall",
            "server.address": "api7.example.org",
            "download.sha256": "0" * 64,
            "download.final_path": "/data/store/10.1000/{}.pdf",
            "download.content_length": 471_100,
            "download.content_type": "application/pdf",
            "download.dedupe_action": "none",
        },
    ),
)


class Kept(SpanProcessor):
    """Keeps the spans that end."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def finished(count: int) -> list[ReadableSpan]:
    """So many spans, each ended."""
    kept, provider = Kept(), TracerProvider()
    provider.add_span_processor(kept)
    for _ in islice(endless(provider.get_tracer("load")), count):
        pass
    return kept.spans


def endless(tracer: Tracer, seed: int = 1) -> Iterator[int]:
    """End span after span; yields their numbers. A trace has eight."""
    rng = random.Random(seed)
    shares, facts = zip(*KINDS, strict=True)
    context, number = None, 0
    while True:
        for kind in rng.choices(facts, shares, k=1000):
            if number % 8 == 0:
                outer = trace.NonRecordingSpan(
                    trace.SpanContext(rng.getrandbits(128), rng.getrandbits(64), False, trace.TraceFlags(1))
                )
                context = trace.set_span_in_context(outer)
            start = START + number * 1_000_000
            span = tracer.start_span(
                "GET",
                context,
                SpanKind.CLIENT,
                {
                    "http.request.method": "GET",
                    "server.address": f"api{rng.randrange(40)}.example.org",
                    "server.port": 443,
                    "url.scheme": "https",
                },
                start_time=start,
            )
            ttfb = rng.randrange(900)
            span.set_attributes({"url.hash": f"{rng.getrandbits(64):016x}", **kind, "http.response.ttfb_ms": ttfb})
            span.end(start + (ttfb + rng.randrange(400)) * 1_000_000)
            yield number
            number += 1


def finished_others(count: int) -> list[ReadableSpan]:
    """So many spans of each kind that is no request."""
    kept, provider = Kept(), TracerProvider()
    provider.add_span_processor(kept)
    tracer = provider.get_tracer("load")
    for number in range(count):
        for name, facts in _OTHERS:
            said = {key: value.format(number) if isinstance(value, str) else value for key, value in facts.items()}
            tracer.start_span(name, attributes=said, start_time=START).end(START + number % 900 * 1_000_000)
    return kept.spans
