"""Promises of the pyrate-limiter hooks, with the real limiter."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from pyrate_limiter import Duration, InMemoryBucket, Limiter, Rate, RateItem, SingleBucketFactory

from origin import Origin
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation import waits
from retrospan_instrumentation.api import attempt
from retrospan_instrumentation.pyrate_limiter import PyrateLimiterInstrumentor

from .conftest import WITHOUT_TRIO, Spans
from .scenario import HTTP, call

DAY = Rate(1, Duration.DAY)
SHORT = Rate(1, 100)


def acquire(http: HTTP, limiter: Limiter, name: str = "api", **options: Any) -> Any:
    return limiter.try_acquire_async(name, **options) if http.is_async else limiter.try_acquire(name, **options)


@pytest.fixture(params=WITHOUT_TRIO)
def http(request: pytest.FixtureRequest) -> HTTP:
    """pyrate-limiter waits with asyncio alone."""
    return HTTP(*request.param.split("-"))


@pytest.fixture
def limited(http: HTTP, origin: Origin) -> Callable[..., None]:
    """Acquire with each of these options, then request."""

    def run(limiter: Limiter, *options: dict[str, Any]) -> None:
        async def scenario() -> None:
            client = http.client()
            for option in options:
                await call(acquire(http, limiter, **option))
            await call(client.get(origin.url("/")))
            await call(http.close(client))

        http.run(scenario())

    return run


@pytest.fixture
def time_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing takes time: on a busy machine even a grant at once may wait for its thread."""
    now = time.time_ns()
    for module in ("surround", "waits"):
        monkeypatch.setattr(f"retrospan_instrumentation.{module}.time_ns", lambda: now)


@pytest.mark.usefixtures("time_stands")
def test_a_grant_at_once_is_an_event_of_0_ms(spans: Spans, limited: Callable[..., None]) -> None:
    limited(Limiter(DAY), {"name": "127.0.0.1:metadata"})
    ((_, facts),) = spans.events("rate_limiter.acquire")
    assert facts == {
        sc.RATE_LIMITER_NAME: "127.0.0.1:metadata",
        sc.RATE_LIMITER_DELAY_MS: 0,
        sc.SERVER_ADDRESS: "127.0.0.1",
        sc.HTTP_REQUEST_ROLE: "metadata",
    }
    assert spans.sends(sc.RATE_LIMITER_DELAY_MS) == [0]


def test_a_wait_is_a_span_with_the_time_that_it_took(http: HTTP, spans: Spans, origin: Origin) -> None:
    limiter = Limiter(SHORT)
    times = []

    async def scenario() -> None:
        client = http.client()
        times.append(time.time_ns())
        await call(acquire(http, limiter))
        times.append(time.time_ns())
        await call(acquire(http, limiter))
        times.append(time.time_ns())
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    began, granted, ended = times
    wait = spans.all("rate_limiter.acquire")[-1]  # on a slow machine the grant at once is a span too
    assert wait.start_time is not None
    assert wait.end_time is not None
    assert granted <= wait.start_time
    assert granted + 90_000_000 < wait.end_time <= ended
    waited = wait.end_time - wait.start_time
    # The grant at once took its time, too.
    (delay, *_) = spans.sends(sc.RATE_LIMITER_DELAY_MS)
    assert waits.milliseconds(waited) <= delay <= waits.milliseconds(waited + granted - began)
    assert len(spans.waits()) == 2


@pytest.mark.parametrize(
    ("options", "longest"), [({"blocking": False}, 0), ({"timeout": 0.05}, 50), ({"timeout": 0}, 0)]
)
def test_a_refusal_is_a_block_with_the_longest_wait_that_was_accepted(
    http: HTTP, spans: Spans, options: dict[str, Any], longest: int
) -> None:
    limiter = Limiter(DAY)

    async def scenario() -> None:
        with attempt("tier", "source"):
            assert await call(acquire(http, limiter))
            assert not await call(acquire(http, limiter, **options))

    http.run(scenario())
    assert [(action, facts.get(sc.RATE_LIMITER_MAX_DELAY_MS)) for action, facts in spans.waits()] in (
        [("acquire", None), ("block", longest)],
        [("block", longest), ("acquire", None)],
    )


def test_polling_is_one_acquire_from_the_first_refusal(http: HTTP, spans: Spans, origin: Origin) -> None:
    limiter = Limiter(SHORT)
    start: list[int] = []

    async def scenario() -> None:
        client = http.client()
        await call(acquire(http, limiter))
        start.append(time.time_ns())
        while not await call(acquire(http, limiter, blocking=False)):
            await call(asyncio.sleep(0.01) if http.is_async else time.sleep(0.01))
        await call(client.get(origin.url("/")))
        await call(http.close(client))

    http.run(scenario())
    wait = spans.all("rate_limiter.acquire")[-1]  # on a slow machine the grant at once is a span too
    assert wait.start_time is not None
    assert wait.end_time is not None
    assert start[0] <= wait.start_time
    assert wait.end_time - wait.start_time > 80_000_000
    assert [action for action, _ in spans.waits()].count("acquire") == 2
    assert len(spans.waits()) == 2


def test_an_async_limiter_used_from_sync_code_is_told_when_it_is_awaited(spans: Spans) -> None:
    class AsyncBucket(InMemoryBucket):
        async def put(self, item: Any) -> bool:
            await asyncio.sleep(0.05)
            return super().put(item)

    limiter = Limiter(AsyncBucket([DAY]))

    async def scenario() -> None:
        with attempt("tier", "source"):
            pending = limiter.try_acquire("api")
            assert spans.waits() == []
            assert await pending

    asyncio.run(scenario())
    ((action, facts),) = spans.waits()
    assert action == "acquire"
    assert facts[sc.RATE_LIMITER_DELAY_MS] >= 45


@pytest.mark.usefixtures("time_stands")
def test_both_decorators_are_hooked(spans: Spans, origin: Origin) -> None:

    limiter = Limiter(Rate(5, Duration.DAY))

    @limiter.as_decorator(name="sync")
    def fetch() -> None:
        with httpx2.Client() as client:
            client.get(origin.url("/"))

    @limiter.as_decorator(name="async")
    async def fetch_async() -> None:
        async with httpx2.AsyncClient() as client:
            await client.get(origin.url("/"))

    fetch()
    asyncio.run(fetch_async())
    assert [facts[sc.RATE_LIMITER_NAME] for _, facts in spans.events("rate_limiter.acquire")] == ["sync", "async"]
    assert spans.sends(sc.RATE_LIMITER_DELAY_MS) == [0, 0]


def test_a_wait_that_is_cancelled_was_not_granted(spans: Spans) -> None:
    limiter = Limiter(DAY)

    async def scenario() -> None:
        with attempt("tier", "source"):
            await limiter.try_acquire_async("api")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await limiter.try_acquire_async("api")

    asyncio.run(scenario())
    assert sorted(action for action, _ in spans.waits()) == ["acquire", "block"]


def test_an_error_is_no_refusal(http: HTTP, spans: Spans) -> None:
    async def scenario() -> None:
        with attempt("tier", "source"), pytest.raises(ValueError, match="timeout"):
            await call(acquire(http, Limiter(DAY), timeout=-5))

    http.run(scenario())
    assert spans.waits() == []


def test_a_limiter_that_refuses_by_an_exception_has_refused(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    class BucketFullException(Exception):
        """As 3.x raises it."""

    class Old:
        max_delay = 250

        def try_acquire(self, name: str, weight: int = 1) -> bool:
            raise BucketFullException

    instrumentor = PyrateLimiterInstrumentor()
    instrumentor._hook(type("module", (), {"Limiter": Old}))
    with attempt("tier", "source"), pytest.raises(BucketFullException):
        Old().try_acquire("api")
    ((action, facts),) = spans.waits()
    assert (action, facts[sc.RATE_LIMITER_MAX_DELAY_MS]) == ("block", 250)


def test_limiters_made_before_the_hooks_are_reached(http: HTTP, origin: Origin) -> None:
    limiter = Limiter(DAY)
    recorded = Spans()
    PyrateLimiterInstrumentor().instrument(tracer_provider=recorded.provider)
    try:
        http.run(call(acquire(http, limiter)))
        waits.drain()
    finally:
        PyrateLimiterInstrumentor().uninstrument()
    assert [action for action, _ in recorded.waits()] == ["acquire"]


def test_a_new_limiter_in_the_place_of_a_collected_one_is_another(spans: Spans, origin: Origin) -> None:
    def made(*items: RateItem) -> Limiter:
        bucket = InMemoryBucket([DAY])
        for item in items:
            bucket.put(item)
        return Limiter(SingleBucketFactory(bucket, schedule_leak=False))

    def place_of_one_that_refuses() -> int:
        limiter = made(RateItem("taken", int(time.monotonic() * 1000)))
        assert not limiter.try_acquire("127.0.0.1", blocking=False)
        return id(limiter)

    places = {place_of_one_that_refuses() for _ in range(50)}
    time.sleep(0.003)  # what would be taken for its wait
    limiter = next(limiter for limiter in (made() for _ in range(200)) if id(limiter) in places)
    before = time.time_ns()
    assert limiter.try_acquire("127.0.0.1")
    took = waits.milliseconds(time.time_ns() - before)
    with httpx2.Client() as client:
        client.get(origin.url("/"))
    assert spans.sends(sc.RATE_LIMITER_DELAY_MS)[0] <= took
