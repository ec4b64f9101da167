"""Promises about threads: the caller's context goes along with the work, and nothing of it stays behind."""

import asyncio
import functools
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import ref

import pytest
from opentelemetry.context import Context, attach, detach, get_current, get_value, set_value

from retrospan_instrumentation import frames, owners
from retrospan_instrumentation.api import attempt, resolution
from retrospan_instrumentation.threads import ThreadsInstrumentor

from .conftest import Spans


def here() -> tuple[str | None, Any]:
    """The attempt that the running code is in, and who owns what it does."""
    frame = frames.nearest(frames.AttemptFrame)
    return (None if frame is None else frame.source), owners.owner_ref()


def in_pool(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def in_thread(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def in_subclass(function: Callable[[], Any]) -> Any:
    found: list[Any] = []

    class Own(threading.Thread):
        def run(self) -> None:
            found.append(function())

    thread = Own()
    thread.start()
    thread.join()
    return found[0]


def in_timer(function: Callable[[], Any]) -> Any:
    found: list[Any] = []
    timer = threading.Timer(0, lambda: found.append(function()))
    timer.start()
    timer.join()
    return found[0]


def in_to_thread(function: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await asyncio.to_thread(function)

    return asyncio.run(main())


def in_executor(function: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await asyncio.get_running_loop().run_in_executor(None, function)

    return asyncio.run(main())


def in_nested_pools(function: Callable[[], Any]) -> Any:
    return in_pool(lambda: in_pool(function))


WAYS = [in_pool, in_thread, in_subclass, in_timer, in_to_thread, in_executor, in_nested_pools]


@pytest.mark.parametrize("way", WAYS)
def test_the_callers_frame_goes_along(spans: Spans, way: Callable[..., Any]) -> None:
    before = get_current()
    with attempt("tier", "source"):
        inside = get_current()
        source, owner = way(here)
        assert get_current() is inside
    assert source == "source"
    assert owner != owners.owner_ref()
    assert get_current() == before


def test_a_pools_worker_keeps_no_context_of_the_caller_that_started_it(spans: Spans) -> None:
    with ThreadPoolExecutor(1) as pool:
        with attempt("tier", "first"):
            assert pool.submit(here).result()[0] == "first"
        assert pool.submit(here).result()[0] is None
        with attempt("tier", "second"):
            assert pool.submit(here).result()[0] == "second"
        assert pool.submit(get_current).result() == Context()


def test_a_map_over_a_pool_goes_along_too(spans: Spans) -> None:
    with ThreadPoolExecutor(2) as pool, attempt("tier", "source"):
        assert [source for source, _ in pool.map(lambda _: here(), range(4))] == ["source"] * 4


def test_each_piece_of_work_is_its_own_owner(spans: Spans) -> None:
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(owners.owner_ref).result()
        assert owners.is_over(first)
        assert pool.submit(owners.owner_ref).result() != first


def test_work_that_is_running_is_not_over(spans: Spans) -> None:
    assert in_pool(lambda: owners.is_over(owners.owner_ref())) is False
    assert in_thread(lambda: owners.is_over(owners.owner_ref())) is False
    assert in_thread(lambda: in_pool(lambda: owners.is_over(owners.owner_ref()))) is False


def test_a_finished_thread_and_a_finished_task_are_over(spans: Spans) -> None:
    assert owners.is_over(in_thread(owners.owner_ref))

    async def main() -> Any:
        async def inner() -> Any:
            return owners.owner_ref()

        task = asyncio.create_task(inner())
        inner_owner = await task
        return owners.is_over(inner_owner), owners.is_over(owners.owner_ref())

    assert asyncio.run(main()) == (True, False)


def test_an_attempt_in_a_thread_that_outlives_its_resolution_still_knows_the_artifact(spans: Spans) -> None:
    go_on = threading.Event()

    def late() -> None:
        go_on.wait(10)
        with attempt("tier", "late"):
            pass

    with resolution("10.1000/1", "W1"):
        thread = threading.Thread(target=late)
        thread.start()
    go_on.set()
    thread.join()
    assert spans.facts("fallback.attempt", "download.artifact_id", "download.work_id") == [("10.1000/1", "W1")]


def test_a_users_own_context_values_go_along(spans: Spans) -> None:
    token = attach(set_value("mine", 7))
    try:
        assert in_pool(lambda: get_value("mine")) == 7
        assert in_thread(lambda: get_value("mine")) == 7
    finally:
        detach(token)


def test_exceptions_and_arguments_pass_through(spans: Spans) -> None:
    def divide(a: int, *, by: int) -> float:
        return a / by

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(divide, 6, by=3).result() == 2
        assert pool.submit(functools.partial(divide, 6), by=2).result() == 3
        with pytest.raises(ZeroDivisionError):
            pool.submit(divide, 6, by=0).result()


def test_a_thread_is_not_kept_alive_by_us(spans: Spans) -> None:
    with attempt("tier", "source"):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
    gone = ref(thread)
    del thread
    assert gone() is None


def test_a_pool_keeps_nothing_of_the_context_that_it_was_first_used_in(spans: Spans) -> None:
    class Kept:
        pass

    kept = Kept()
    gone = ref(kept)
    with ThreadPoolExecutor(1) as pool:
        token = attach(set_value("kept", kept))
        pool.submit(lambda: None).result()
        detach(token)
        del kept, token
        pool.submit(lambda: None).result()
        gc.collect()
        assert gone() is None


def test_a_thread_may_be_started_once_as_ever(spans: Spans) -> None:
    with attempt("tier", "source"):
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        with pytest.raises(RuntimeError):
            thread.start()


def test_the_official_threading_instrumentation_may_be_there_too(spans: Spans) -> None:
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor

    official = ThreadingInstrumentor()
    official.instrument()
    try:
        with attempt("tier", "source"):
            assert [way(here)[0] for way in WAYS] == ["source"] * len(WAYS)
    finally:
        official.uninstrument()


def test_threads_have_their_own_methods_back_afterwards() -> None:
    before = threading.Thread.__dict__["start"], ThreadPoolExecutor.__dict__["submit"]
    ThreadsInstrumentor().instrument()
    ThreadsInstrumentor().uninstrument()
    assert (threading.Thread.__dict__["start"], ThreadPoolExecutor.__dict__["submit"]) == before
