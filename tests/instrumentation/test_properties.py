"""Whatever is nested in whatever, raises, is cancelled or given up: every span ends exactly once, and nothing is kept."""

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pybreaker
import pyrate_limiter
import pytest
import tenacity
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.context import get_current

from retrospan_instrumentation import frames, waits
from retrospan_instrumentation.api import attempt, download, resolution, role

from .conftest import Spans, recording
from .scenario import HTTP, call

Node = tuple[Any, ...]


class Trouble(Exception):
    pass


# What may stand around something else, outside a client or inside its transport; and what a program does at the innermost.
LAYERS = ("retry", "loop", "breaker", "grant", "refuse", "attempt", "resolution", "download", "role", "cancel")
INSIDE = ("retry", "resend", "breaker", "grant", "refuse")
ANSWERS = (200, 503, "broken", 404, 429, "error")
LEAVES = ("request", "request", "request", "request", "raise", "hang")


@st.composite
def programs(draw: Any, depth: int = 2) -> Node:
    """Layers around a request, an exception or a pause, or around several such programs."""
    kind = draw(st.sampled_from(LEAVES + (("sequence", "gather", "pool") * 2 if depth else ())))
    node: Node = (kind,)
    if kind == "request":
        answers = draw(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=3))
        then = draw(st.sampled_from(["read", "close", "drop", "pass on"]))
        node = (kind, answers, then, draw(st.lists(st.sampled_from(INSIDE), max_size=3)))
    elif kind in ("sequence", "gather", "pool"):
        node = (kind, draw(st.lists(programs(depth - 1), min_size=2, max_size=3)))
    for layer in draw(st.lists(st.sampled_from(LAYERS), min_size=depth // 2, max_size=4)):
        node = (layer, node)
    return node


class World:
    """Runs programs: the real libraries over wire transports whose connection pool answers as the program says."""

    def __init__(self, mode: str) -> None:
        self.http = HTTP("httpx2", mode)
        self.seen: WeakSet[Any] = WeakSet()
        self._shared = pybreaker.CircuitBreaker(fail_max=2, reset_timeout=0, name="a.example")

    @property
    def breaker(self) -> pybreaker.CircuitBreaker:
        # `call` holds a lock as long as the call lasts: a pool inside that calls the same breaker would wait for ever.
        return self._shared if self.http.is_async else pybreaker.CircuitBreaker(fail_max=1, reset_timeout=0)

    def run(self, program: Node) -> None:
        async def whole() -> None:
            self.be_quiet()
            before = get_current()
            try:
                await self.do(program)
            except (Trouble, pybreaker.CircuitBreakerError, self.http.module.HTTPStatusError):  # of the program
                pass
            assert get_current() is before
            assert frames.current() is None

        self.http.run(whole())

    def be_quiet(self) -> None:
        if self.http.is_async:  # what gathered siblings still raise would be logged, and so kept
            asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

    async def do(self, node: Node) -> Any:
        return await getattr(self, f"do_{node[0].replace(' ', '_')}")(*node[1:])

    # -- around something

    async def do_retry(self, inner: Node) -> Any:
        return await self.http.retry(lambda: self.do(inner), stop=tenacity.stop_after_attempt(2))

    async def do_loop(self, inner: Node) -> Any:
        policy: Any = self.http.retrying_call(stop=tenacity.stop_after_attempt(2))
        if self.http.is_async:
            async for one in policy:
                with one:
                    return await self.do(inner)
        else:
            for one in policy:
                with one:
                    return await self.do(inner)
        return None

    async def do_breaker(self, inner: Node) -> Any:
        if self.http.is_async:
            with self.breaker.calling():
                return await self.do(inner)
        return self.breaker.call(self.http.function(lambda: self.do(inner)))

    async def do_grant(self, inner: Node) -> Any:
        waits.report(1, "a.example", True, 0, None)
        return await self.do(inner)

    async def do_refuse(self, inner: Node) -> Any:
        limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(1, pyrate_limiter.Duration.DAY))
        for _ in range(2):
            limiter.try_acquire("key", blocking=False)
        return await self.do(inner)

    async def do_attempt(self, inner: Node) -> Any:
        with attempt("tier", "source"):
            return await self.do(inner)

    async def do_resolution(self, inner: Node) -> Any:
        async with resolution("A1"):
            return await self.do(inner)

    async def do_download(self, inner: Node) -> Any:
        with download():
            return await self.do(inner)

    async def do_role(self, inner: Node) -> Any:
        with role("artifact"):
            return await self.do(inner)

    async def do_cancel(self, inner: Node) -> Any:
        if not self.http.is_async:
            return await self.do(inner)
        task = asyncio.create_task(self.do(inner))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # or asyncio logs, and so keeps, it
        await asyncio.sleep(0)
        task.cancel()
        return await asyncio.gather(task, return_exceptions=True)

    # -- several

    async def do_sequence(self, several: list[Node]) -> None:
        for node in several:
            await self.do(node)

    async def do_gather(self, several: list[Node]) -> None:
        if self.http.is_async:
            await asyncio.gather(*(self.do(node) for node in several))
        else:
            await self.do_sequence(several)

    async def do_pool(self, several: list[Node]) -> None:
        async def one(node: Node) -> None:
            self.be_quiet()
            await self.do(node)

        with ThreadPoolExecutor(2) as pool:
            work = [pool.submit(self.http.run, one(node)) for node in several]
            for done in work:
                done.result()

    # -- at the innermost

    async def do_raise(self) -> None:
        raise Trouble

    async def do_hang(self) -> None:
        await call(asyncio.sleep(0.001) if self.http.is_async else None)

    async def do_request(self, answers: list[Any], then: str, inside: list[str]) -> None:
        client = self.client(answers, inside)
        try:
            response = await self.http.open(client, "http://a.example/")
            self.seen.add(response)
            if then == "read":
                await self.http.read(response)
                response.raise_for_status()
            elif then == "close":
                await call(self.http.close(response))
            elif then == "pass on":
                async for _ in self.http.chunks(response):
                    break
            del response
        finally:
            await call(self.http.close(client))

    def client(self, answers: list[Any], inside: list[str]) -> Any:
        wire = self.http.wire()
        wire._pool = Pool(self.http, answers)
        transport = wire
        for layer in inside:
            transport = getattr(self, f"inside_{layer}")(transport)

        def note(request: Any) -> None:
            self.seen.add(request)

        async def note_async(request: Any) -> None:
            self.seen.add(request)

        hooks = {"request": [note_async if self.http.is_async else note]}
        return self.http.client(transport=transport, event_hooks=hooks)

    # -- inside a transport

    def inside_resend(self, inner: Any) -> Any:
        return self.http.retrying(inner, 2)

    def inside_retry(self, inner: Any) -> Any:
        return self.http.through(lambda request: self.http.retry(lambda: self.sent(inner, request)), inner)

    def inside_breaker(self, inner: Any) -> Any:
        async def handle(request: Any) -> Any:
            if self.http.is_async:
                with self.breaker.calling():
                    return await self.sent(inner, request)
            return self.breaker.call(self.http.function(lambda: self.sent(inner, request)))

        return self.http.through(handle, inner)

    def inside_grant(self, inner: Any) -> Any:
        async def handle(request: Any) -> Any:
            waits.report(2, "key", True, 0, None)
            return await self.sent(inner, request)

        return self.http.through(handle, inner)

    def inside_refuse(self, inner: Any) -> Any:
        async def handle(request: Any) -> Any:
            waits.report(3, "key", False, 0, 0)
            raise Trouble

        return self.http.through(handle, inner)

    async def sent(self, inner: Any, request: Any) -> Any:
        return await call(self.http.handle(inner, request))


class Body:
    def __init__(self, broken: bool) -> None:
        self._broken = broken

    def __iter__(self) -> Any:
        yield b"ab"
        if self._broken:
            raise Trouble
        yield b"cd"

    async def __aiter__(self) -> Any:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


class Pool:
    """In place of a transport's connections: answers in order, the last one for ever."""

    def __init__(self, http: HTTP, answers: list[Any]) -> None:
        self._http, self._answers, self._next = http, answers, 0

    def handle_request(self, request: Any) -> Any:
        answer = self._answers[min(self._next, len(self._answers) - 1)]
        self._next += 1
        if answer == "error":
            raise Trouble
        status = 200 if answer == "broken" else answer
        return SimpleNamespace(status=status, headers=[], stream=Body(answer == "broken"), extensions={})

    async def handle_async_request(self, request: Any) -> Any:
        await asyncio.sleep(0)
        return self.handle_request(request)

    def close(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


def check(mode: str, program: Node) -> None:
    world = World(mode)
    with recording() as spans:  # at its end: every span ended once, the context as it was, no hook at fault
        world.run(program)
        gc.collect()
        waits.drain(final=True)
        assert list(world.seen) == []
        _has_consistent_times(spans)


def _has_consistent_times(spans: Spans) -> None:
    for span in spans.all():
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


QUICK = settings(
    max_examples=75, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
LONG = settings(QUICK, max_examples=750, derandomize=False)


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
@QUICK
@given(programs())
def test_whatever_is_nested_every_span_ends_once_and_nothing_is_kept(mode: str, program: Node) -> None:
    check(mode, program)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["sync", "asyncio"])
@LONG
@given(programs())
def test_the_same_at_length(mode: str, program: Node) -> None:
    check(mode, program)
