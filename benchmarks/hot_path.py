"""What instrumenting adds to one request on the caller's thread, side by side with the official instrumentation.

    make bench-hot

One process, `client.get` on a real HTTPTransport over a pool that answers at once, bodies read, spans discarded in another
thread, URLs unique. Blocks of requests of every contender come in random order; what counts is the caller's own CPU time
(`thread_time`), in the quieter stretches of a block. Printed is each contender's addition over the bare client (or over the
bare stack of retry, breaker and limiter), as a ratio to what the official instrumentation adds to HTTP alone. The last table
is the CPU time of the whole process, with OTLP encoding behind.

Providers: the SDK's with its own spans; the SDK's, of which the hooks have fast spans, as `configure()` leaves a program's own
provider; and ours, which it sets where there is none.
"""

import argparse
import asyncio
import gc
import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import httpcore2
import httpx2
import pybreaker
import tenacity
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor as OfficialInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from pyrate_limiter import Duration, Limiter, Rate

import retrospan_instrumentation
from retrospan_exporters.processor import RecorderSpanProcessor
from retrospan_exporters.provider import RecorderTracerProvider, use_fast_spans
from retrospan_exporters.run import Run
from retrospan_instrumentation import semconv

BODY = b'{"ok": true}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"12")]
EXTENSIONS = {"http_version": b"HTTP/1.1"}
URLS = (f"https://api.example.org/works/{number}?page={number % 7}" for number in itertools.count())
WARM_UP = 100
# In a block; short ones, since the machine is seldom left alone for long, and few, so that every contender has its turn often.
STRETCHES = 5
# Long enough for each processor's own thread to export, as in a program that runs on. A flush after a few requests has the
# SDK's do it in the caller's, where all that the spans hold is still in the core's cache.
WHOLE_PROCESS_STRETCHES, WHOLE_PROCESS_REQUESTS = 5, 200

Call = Callable[[str], Any]


class Discarding(SpanExporter):
    """Takes spans and forgets them."""

    def export(self, spans: Any) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class Encoding(SpanExporter):
    """Encodes spans as OTLP, and forgets them."""

    def export(self, spans: Any) -> SpanExportResult:
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


class Rows:
    """An exporter as our processor has it: one that may keep rows back; this one never does."""

    run = Run("benchmark")
    has_own_processor = False
    waiting = dropped = 0

    def __init__(self, exporter: SpanExporter) -> None:
        self.export = exporter.export

    def retry(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Pool:
    """Answers at once."""

    def handle_request(self, request: Any) -> Any:
        return httpcore2.Response(200, headers=HEADERS, content=iter([BODY]), extensions=EXTENSIONS)

    def close(self) -> None:
        pass


class AsyncPool:
    """The same for asyncio."""

    async def handle_async_request(self, request: Any) -> Any:
        async def body() -> Any:
            yield BODY

        return httpcore2.Response(200, headers=HEADERS, content=body(), extensions=EXTENSIONS)

    async def aclose(self) -> None:
        pass


def http(is_async: bool) -> Call:
    """A client's `get`."""
    transport: Any = httpx2.AsyncHTTPTransport() if is_async else httpx2.HTTPTransport()
    transport._pool = AsyncPool() if is_async else Pool()
    return (httpx2.AsyncClient if is_async else httpx2.Client)(transport=transport).get


def behind(is_async: bool) -> Call:
    """A client's `get`, its wire behind a transport of the program's own, as behind a cache."""
    base: Any = httpx2.AsyncBaseTransport if is_async else httpx2.BaseTransport
    wire: Any = httpx2.AsyncHTTPTransport() if is_async else httpx2.HTTPTransport()
    wire._pool = AsyncPool() if is_async else Pool()

    class Own(base):  # type: ignore[misc]  # of either kind
        def handle_request(self, request: Any) -> Any:
            return wire.handle_request(request)

        async def handle_async_request(self, request: Any) -> Any:
            return await wire.handle_async_request(request)

    return (httpx2.AsyncClient if is_async else httpx2.Client)(transport=Own()).get


def stack(is_async: bool) -> Call:
    """Retry, breaker and limiter around it: their own cost is in the baseline, too."""
    get = http(is_async)
    limiter = Limiter(Rate(10**9, Duration.SECOND))
    breaker = pybreaker.CircuitBreaker(name="api.example.org")
    stop = tenacity.stop_after_attempt(3)

    def guarded(url: str) -> object:
        limiter.try_acquire("api.example.org:metadata")
        return get(url)

    async def guarded_async(url: str) -> object:
        with breaker.calling():
            await limiter.try_acquire_async("api.example.org:metadata")
            return await get(url)

    retrying, retrying_async = tenacity.Retrying(stop=stop), tenacity.AsyncRetrying(stop=stop)
    return (
        (lambda url: retrying_async(guarded_async, url))
        if is_async
        else (lambda url: retrying(breaker.call, guarded, url))
    )


class Contender(NamedTuple):
    """Who instruments, by which provider, and what is called."""

    instrumentation: str
    provider: str
    shape: Callable[[bool], Call]

    @property
    def baseline(self) -> "Contender":
        return Contender("bare", "", self.shape)


OFFICIAL = Contender("official", "stock", http)
CONTENDERS = (
    *(Contender("bare", "", shape) for shape in (http, behind, stack)),
    OFFICIAL,
    *(Contender("retrospan", provider, http) for provider in ("stock", "mixed", "fast")),
    Contender("retrospan", "fast", behind),
    *(Contender("retrospan", provider, stack) for provider in ("stock", "mixed", "fast")),
)
TITLES = {http: "HTTP", behind: "HTTP behind a transport", stack: "whole stack"}
PROVIDERS = {"stock": "the SDK's provider", "mixed": "the SDK's provider, our spans", "fast": "our provider"}


@contextmanager
def instrumented(by: str, provider: TracerProvider | None) -> Iterator[None]:
    if by == "official":
        OfficialInstrumentor().instrument(tracer_provider=provider)
    elif by == "retrospan":
        retrospan_instrumentation.instrument_all(tracer_provider=provider)
    try:
        yield
    finally:
        if by == "official":
            OfficialInstrumentor().uninstrument()
        elif by == "retrospan":
            retrospan_instrumentation.uninstrument_all()


def block(
    call: Call, is_async: bool, stretches: int, requests: int, clock: Callable[[], float], after: Callable[[], object]
) -> list[float]:
    """CPU a request in each stretch of so many, µs by this clock."""
    chosen = [[next(URLS) for _ in range(count)] for count in (WARM_UP, *[requests] * stretches)]
    taken = []

    async def run_async() -> None:
        for urls in chosen:
            start = clock()
            for url in urls:
                await call(url)
            after()
            taken.append(clock() - start)

    def run() -> None:
        for urls in chosen:
            start = clock()
            for url in urls:
                call(url)
            after()
            taken.append(clock() - start)

    gc.collect()
    asyncio.run(run_async()) if is_async else run()
    return [1e6 * seconds / requests for seconds in taken[1:]]


def compare(
    providers: dict[str, TracerProvider],
    blocks: int,
    stretches: int,
    requests: int,
    *,
    is_async: bool = False,
    within: bool = False,
    whole_process: bool = False,
) -> dict[Contender, list[float]]:
    """What a request costs with each contender in each stretch of its blocks, µs."""
    clock = time.process_time if whole_process else time.thread_time
    cost: dict[Contender, list[float]] = {contender: [] for contender in CONTENDERS}
    for _ in range(blocks):
        for contender in random.sample(CONTENDERS, len(CONTENDERS)):
            provider = providers.get(contender.provider)
            tracer = (provider or trace.NoOpTracerProvider()).get_tracer("benchmark")
            after = provider.force_flush if whole_process and provider is not None else int
            with (
                tracer.start_as_current_span("a resolution") if within else nullcontext(),
                instrumented(contender.instrumentation, provider),
            ):
                cost[contender] += block(contender.shape(is_async), is_async, stretches, requests, clock, after)
            if provider is not None:
                provider.force_flush()
    return cost


def ratio(contender: Contender, cost: dict[Contender, list[float]], stretches: slice) -> tuple[float, float]:
    """What a contender adds to a request in some of the stretches, µs, and as a ratio to what the official one adds.

    By the mean of the least twentieth of them: whatever else runs on the machine only ever adds, for seconds at a time.
    """

    def least(of: Contender) -> float:
        values = sorted(cost[of][stretches])
        return statistics.fmean(values[: max(1, len(values) // 20)])

    added = least(contender) - least(contender.baseline)
    return added, added / (least(OFFICIAL) - least(OFFICIAL.baseline))


def make_providers(exporter: Callable[[], SpanExporter]) -> dict[str, TracerProvider]:
    """The SDK's provider and processor, twice, and ours; the latter two as `configure()` sets them up."""
    stock, mixed, fast = TracerProvider(), TracerProvider(), RecorderTracerProvider()
    for provider in (stock, mixed):
        provider.add_span_processor(BatchSpanProcessor(exporter(), max_queue_size=2**17, schedule_delay_millis=50))
    use_fast_spans(mixed.get_tracer(semconv.SCOPE, semconv.VERSION))  # which the provider keeps for the hooks
    fast.add_span_processor(RecorderSpanProcessor(Rows(exporter())))
    return {"stock": stock, "mixed": mixed, "fast": fast}


def show(columns: dict[str, dict[Contender, list[float]]]) -> None:
    """One row a contender, one column a way of calling: µs, and the ratio to the official one, with those of both halves."""
    print(f"{'':54}" + "".join(f"{title:>26}" for title in columns))
    for contender in (c for c in CONTENDERS if c != c.baseline):
        cells = []
        for cost in columns.values():
            added, of_all = ratio(contender, cost, slice(None))
            middle = len(cost[OFFICIAL]) // 2
            low, high = sorted(ratio(contender, cost, half)[1] for half in (slice(middle), slice(middle, None)))
            cells.append(f"{added:7.1f} {of_all:5.2f} ({low:.2f}–{high:.2f})")
        name = f"{contender.instrumentation}, {TITLES[contender.shape]}, {PROVIDERS[contender.provider]}"
        print(f"{name:54}" + "".join(f"{cell:>26}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=80)
    parser.add_argument("--requests", type=int, default=20, help="in each stretch that is timed")
    parser.add_argument("--quick", action="store_true", help="synchronous calls outside every span only")
    wanted = parser.parse_args()
    providers = make_providers(Discarding)
    ways = {"sync": {}, "sync, in a span": {"within": True}}
    ways |= {"asyncio": {"is_async": True}, "asyncio, in a span": {"is_async": True, "within": True}}
    chosen = dict(list(ways.items())[:1] if wanted.quick else ways.items())
    print("Adds to a request, caller's thread: µs, × official (in either half)\n")
    show({title: compare(providers, wanted.blocks, STRETCHES, wanted.requests, **way) for title, way in chosen.items()})
    if not wanted.quick:
        print("\nAdds to a request, whole process, OTLP encoding behind: µs, × official (in either half)\n")
        encoding = make_providers(Encoding)
        blocks = (wanted.blocks + 3) // 4
        size = WHOLE_PROCESS_STRETCHES, WHOLE_PROCESS_REQUESTS
        show({"sync": compare(encoding, blocks, *size, whole_process=True)})


if __name__ == "__main__":
    main()
