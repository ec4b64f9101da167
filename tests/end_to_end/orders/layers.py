"""Retry, breaker, limiter and cache in any order round a client and in its transport: the real libraries.

    stack = Stack(Order(outside=("retry", "breaker", "limiter")), HTTP("httpx2", "sync"), folder)
    seen = await stack.fetch(FETCHES[0], url, tracer)

Round each call of a layer stands what `seen` makes of it; a bucket and a listener of the tests' own keep the rest.
"""

import gc
import itertools
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from time import sleep, time_ns
from typing import Any

import anyio
import pybreaker
import tenacity
from hishel import AsyncSqliteStorage, SqliteStorage
from instrumentation.scenario import HTTP, call
from opentelemetry.trace import Tracer
from pyrate_limiter import InMemoryBucket, Limiter, Rate, RateItem, SingleBucketFactory

from .fetches import Fetch
from .seen import Seen, calling, here, hop, wire

ATTEMPTS, INTERVAL_MS = 3, 5
KEY = "127.0.0.1:metadata"
Go = Callable[[], Awaitable[Any]]
# No new limiter is to stand at the address of one that has just refused: programs keep theirs.
_kept: deque[Limiter] = deque(maxlen=3000)


@dataclass(frozen=True)
class Order:
    """Which layers are outside the client and which in its transport, outermost first, and how the retry is written."""

    outside: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    # tenacity's `call` or `loop`; or a loop by hand, which makes the request `anew` or sends the `same` object
    retry: str = "call"

    def __str__(self) -> str:
        return "-".join((*self.outside, "client", *self.inside))


class Answered(Exception):
    """An answer that is worth a retry, on its way through the layers of a transport."""

    def __init__(self, response: Any) -> None:
        self.response = response


class Refused(Exception):
    """The limiter gave no permit."""


class _Bucket(InMemoryBucket):
    """Keeps between which times each permit was asked for."""

    def __init__(self, rates: list[Rate]) -> None:
        super().__init__(rates)
        self.asked: list[tuple[int, int]] = []

    def put(self, item: RateItem) -> bool:
        before = time_ns()
        is_granted = super().put(item)
        self.asked.append((before, time_ns()))
        return is_granted


class _Listener(pybreaker.CircuitBreakerListener):
    """Keeps with the call that a breaker judges what it took it for, and where it went."""

    def success(self, cb: Any) -> None:
        self._keep("decided", "success")

    def failure(self, cb: Any, exc: BaseException) -> None:
        self._keep("decided", "failure")

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        seen = here.get()
        if seen is not None:
            seen.facts.setdefault("moves", []).append([_state(old_state.name), _state(new_state.name)])

    def _keep(self, fact: str, value: str) -> None:
        seen = here.get()
        assert seen is not None
        assert seen.layer == "breaker"
        seen.facts[fact] = value


def _state(name: str) -> str:
    return name.replace("-", "_")


class Stack:
    """One program's layers, with a client of its own."""

    def __init__(
        self, order: Order, http: HTTP, folder: Path, through: Callable[[Go], Awaitable[Any]] | None = None
    ) -> None:
        self.order, self.http, self._folder = order, http, folder
        self._through = through or (lambda go: go())  # where the client is called: elsewhere, perhaps
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=ATTEMPTS, reset_timeout=60, name="127.0.0.1", throw_new_error_on_trip=False
        )
        self._breaker.add_listener(_Listener())
        self._client = http.client(transport=self._transport(), follow_redirects=True)

    async def fetch(
        self, fetch: Fetch, url: str, tracer: Tracer, later: Callable[[Any], Awaitable[Any]] | None = None
    ) -> Seen:
        """Fetch once, through all layers, under a span of the program's own; returns what was seen.

        With `later`, the layers see no body: that is what reads it, when they are through.
        """
        self._fetch, self._url, self._times, self._request_kept = fetch, url, 0, None
        self._requests = 0  # that were made
        self._is_later = later is not None and fetch.reading == "all"
        self._limit(fetch)
        with tracer.start_as_current_span("fetch") as span, calling("fetch", **fetch.facts()) as seen:
            ids = span.get_span_context()
            seen.facts |= {"trace": f"{ids.trace_id:032x}", "span": f"{ids.span_id:016x}"}
            self._put_breaker(fetch.breaker)
            go: Go = self._request
            for layer in reversed(self.order.outside):
                go = self._within(layer, go)
            try:
                response = await go()
                if later is not None and self._is_later:
                    await later(response)
                if fetch.reading == "none":
                    began, body = time_ns(), weakref.ref(response)
                    del response
                    await self._collected(body)
                    seen.abandoned(began)
            except (Refused, pybreaker.CircuitBreakerError, self.http.module.HTTPError):
                pass  # a program would log it, and go on
        return seen

    async def close(self) -> None:
        await call(self.http.close(self._client))

    def _put_breaker(self, state: str) -> None:
        breaker = self._breaker
        if _state(breaker.current_state) != state:
            {"closed": breaker.close, "open": breaker.open, "half_open": breaker.half_open}[state]()

    def _limit(self, fetch: Fetch) -> None:
        self._bucket = _Bucket([Rate(1 if fetch.is_limited else 1000, INTERVAL_MS)])
        self._limiter = Limiter(SingleBucketFactory(self._bucket, schedule_leak=False), buffer_ms=1)
        _kept.append(self._limiter)
        if fetch.patience != "block":
            self._bucket.put(RateItem("somebody else", self._bucket.now()))

    # -- the layers: each calls `go`, which raises what is worth a retry

    def _within(self, layer: str, go: Go) -> Go:
        within: Callable[[Go], Awaitable[Any]] = getattr(self, f"_within_{layer}")
        return lambda: within(go)

    async def _within_retry(self, go: Go) -> Any:
        number = 0

        async def attempt() -> Any:
            nonlocal number
            number += 1
            with calling("attempt"):
                try:
                    return await go()
                except Answered as answered:
                    if number < ATTEMPTS:
                        await call(self.http.close(answered.response))
                    raise

        pause = (INTERVAL_MS + 2) / 1000 if self._fetch.patience == "once" else 0
        by_hand = self.order.retry in ("anew", "same")
        with calling("retry", is_known=not by_hand):
            if by_hand:
                return await self._by_hand(attempt, pause)
            policy = {"retry": tenacity.retry_if_exception(self._is_worth_it), "wait": tenacity.wait_fixed(pause)}
            if self.order.retry == "call":
                return await self.http.retry(attempt, **policy)
            return await self._in_a_loop(self.http.retrying_call(**policy), attempt)

    async def _in_a_loop(self, retrying: Any, attempt: Go) -> Any:
        if self.http.is_async:
            async for manager in retrying:
                with manager:
                    return await attempt()
        else:
            for manager in retrying:
                with manager:
                    return await attempt()
        raise AssertionError("a loop that neither returns nor raises")

    async def _by_hand(self, attempt: Go, pause: float) -> Any:
        for _ in range(ATTEMPTS - 1):
            try:
                return await attempt()
            except Exception as error:
                if not self._is_worth_it(error):
                    raise
            await self._sleep(pause)
        return await attempt()

    async def _sleep(self, seconds: float) -> None:
        await call(anyio.sleep(seconds) if self.http.is_async else sleep(seconds))

    async def _collected(self, body: weakref.ref[Any]) -> None:
        """Wait until nothing holds it. It is in a circle, young, and may be an event loop's for one more step."""
        for generation in itertools.chain((0, 1), itertools.repeat(2, 1000)):
            if body() is None:
                return
            await self._sleep(0)
            gc.collect(generation)
        raise AssertionError("somebody keeps a response that the program has dropped")

    def _is_worth_it(self, error: BaseException) -> bool:
        if isinstance(error, self.http.module.HTTPStatusError):
            return error.response.status_code == 429 or error.response.status_code >= 500
        return isinstance(error, (Answered, Refused, self.http.module.TransportError))

    async def _within_breaker(self, go: Go) -> Any:
        with calling("breaker", state=_state(self._breaker.current_state), decided=None):
            if self.http.is_async or self.order.retry == "loop":
                with self._breaker.calling():
                    return await go()
            return self._breaker.call(self.http.function(go))

    async def _within_limiter(self, go: Go) -> Any:
        with calling("limiter", asks=[]) as seen:
            while not await self._ask(seen):
                if self._fetch.patience == "once":
                    raise Refused
                await self._sleep(0.002)
            return await go()

    async def _ask(self, seen: Seen) -> bool:
        """One acquire; kept is when it was called, when the bucket was first and last asked, and when it returned."""
        called, asked, first = time_ns(), self._bucket.asked, len(self._bucket.asked)
        limiter = self._limiter
        acquire = limiter.try_acquire_async if self.http.is_async else limiter.try_acquire
        is_granted: bool = await call(acquire(KEY, blocking=self._fetch.patience == "block"))
        seen.facts["asks"].append([is_granted, called, asked[first][0], asked[-1][1], time_ns()])
        return is_granted

    async def _request(self) -> Any:
        return await self._through(self._request_here)

    async def _request_here(self) -> Any:
        fetch, client = self._fetch, self._client
        is_stream = fetch.reading != "all" or self._is_later
        with calling("client", said=self._times if fetch.says_count else 0) as seen:
            request = self._make_request(seen.facts["said"])
            seen.facts["request"] = self._requests
            auth = _auth(self.http.module) if fetch.asks_who else None
            response = await call(client.send(request, stream=is_stream, auth=auth))
            if fetch.reading == "some":
                async for _ in self.http.chunks(response):
                    break
            if is_stream and (fetch.reading == "some" or response.is_error):
                await call(self.http.close(response))
            return response.raise_for_status()

    def _make_request(self, said: int) -> Any:
        self._times += 1
        if self._request_kept is None or self.order.retry != "same":
            fetch = self._fetch
            self._requests += 1
            self._request_kept = self._client.build_request(
                fetch.method,
                self._url,
                content=fetch.content,
                headers={"X-Retry-Count": str(said)} if said else {},
                extensions={"role": fetch.role} if fetch.role else {},
            )
        return self._request_kept

    # -- the same layers in the client's transport

    def _transport(self) -> Any:
        transport = wire(self.http, is_hop=not self.order.inside)
        if not self.order.inside:
            return transport
        for layer in reversed(self.order.inside):
            transport = self._cached(transport) if layer == "cache" else self._layer(layer, transport)
        return self.http.through(
            lambda request: hop(self.http, request, lambda request: self.http.handle(transport, request)), transport
        )

    def _layer(self, layer: str, inner: Any) -> Any:
        async def handle(request: Any) -> Any:
            async def go() -> Any:
                response = await call(self.http.handle(inner, request))
                if response.status_code == 429 or response.status_code >= 500:
                    raise Answered(response)
                return response

            try:
                return await self._within(layer, go)()
            except Answered as answered:
                return answered.response

        return self.http.through(handle, inner)

    def _cached(self, inner: Any) -> Any:
        module: Any = import_module(f"hishel.{self.http.library}")
        transport = module.AsyncCacheTransport if self.http.is_async else module.CacheTransport
        storage = AsyncSqliteStorage if self.http.is_async else SqliteStorage
        rfc = {"allow_stale": True, "shared": False}
        cache = transport(inner, storage=storage(database_path=self._folder / f"{id(self)}.db"), rfc=rfc)

        async def handle(request: Any) -> Any:
            with calling("cache"):
                return await call(self.http.handle(cache, request))

        return self.http.through(handle, cache)


@cache
def _auth(module: Any) -> Any:
    """Sends the same request again, once, when it is asked who it is."""

    class Auth(module.Auth):  # type: ignore[misc]
        def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
            response = yield request
            if response.status_code == 401:
                request.headers["authorization"] = "Bearer SECRET"
                yield request

    return Auth()
