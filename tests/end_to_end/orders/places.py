"""Where the stacks run: each place runs a few jobs, a job fetching all there is, and returns what they saw.

    PLACES["sync", "pool"](job)        # [[Done, ...], ...]: of each job

A job is `job(name, through, later, by)`: `through` calls the client elsewhere, `later` reads a body elsewhere and when the
layers are through, `by` does each fetch elsewhere.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import trio
from instrumentation.scenario import drive

from .jobs import Done
from .seen import carried

Job = Callable[..., Coroutine[Any, Any, list[Done]]]
NAMES = ("a", "b")


def _run(job: Job, name: str, is_async: bool, **options: Any) -> list[Done]:
    seen: list[Done] = (asyncio.run if is_async else drive)(job(name, **options))
    return seen


def _plain(is_async: bool) -> Callable[[Job], list[list[Done]]]:
    return lambda job: [_run(job, "a", is_async)]


def _in_trio(job: Job) -> list[list[Done]]:
    return [trio.run(job, "a")]


def _pool(is_async: bool) -> Callable[[Job], list[list[Done]]]:
    def run(job: Job) -> list[list[Done]]:
        with ThreadPoolExecutor(2) as pool:
            works = [pool.submit(carried(_run), job, name, is_async) for name in NAMES]
            return [work.result() for work in works]

    return run


def _elsewhere(pool: ThreadPoolExecutor) -> Callable[[Callable[[], Any]], Any]:
    """Do what a synchronous scenario awaits in another thread, and wait for it."""

    async def do(go: Callable[[], Awaitable[Any]]) -> Any:
        return pool.submit(carried(lambda: drive(go()))).result()  # type: ignore[arg-type]

    return do


def _in_a_pool(what: str) -> Callable[[Job], list[list[Done]]]:
    def run(job: Job) -> list[list[Done]]:
        with ThreadPoolExecutor(2) as pool:
            return [_run(job, "a", False, **{what: _elsewhere(pool)})]

    return run


def _nested(job: Job) -> list[list[Done]]:
    with ThreadPoolExecutor(2) as inner, ThreadPoolExecutor(2) as outer:
        works = [outer.submit(carried(lambda n: _run(job, n, False, by=_elsewhere(inner))), name) for name in NAMES]
        return [work.result() for work in works]


def _awaited_threads(start: Callable[..., Awaitable[list[Done]]]) -> Callable[[Job], list[list[Done]]]:
    """Synchronous stacks under an event loop."""

    def run(job: Job) -> list[list[Done]]:
        async def main() -> list[list[Done]]:
            return await asyncio.gather(*(start(carried(_run), job, name, False) for name in NAMES))

        return asyncio.run(main())

    return run


async def _in_executor(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


def _gathered(job: Job) -> list[list[Done]]:
    async def main() -> list[list[Done]]:
        return await asyncio.gather(*(job(name) for name in NAMES))

    return asyncio.run(main())


async def _as_task(go: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return await asyncio.create_task(go())


def _in_tasks(what: str) -> Callable[[Job], list[list[Done]]]:
    return lambda job: [_run(job, "a", True, **{what: _as_task})]


PLACES: dict[tuple[str, str], Callable[[Job], list[list[Done]]]] = {
    ("sync", "plain"): _plain(False),
    ("sync", "pool"): _pool(False),
    ("sync", "nested pools"): _nested,
    ("sync", "to_thread"): _awaited_threads(asyncio.to_thread),
    ("sync", "run_in_executor"): _awaited_threads(_in_executor),
    ("sync", "client in a pool"): _in_a_pool("through"),
    ("sync", "read later in a thread"): _in_a_pool("later"),
    ("asyncio", "plain"): _plain(True),
    ("asyncio", "gather"): _gathered,
    ("asyncio", "pool"): _pool(True),
    ("asyncio", "client in a task"): _in_tasks("through"),
    ("asyncio", "read later in a task"): _in_tasks("later"),
    ("trio", "plain"): _in_trio,
}
# Where two jobs run at once, "a" and "b".
AT_ONCE = {
    *(("sync", place) for place in ("pool", "nested pools", "to_thread", "run_in_executor")),
    *(("asyncio", place) for place in ("gather", "pool")),
}
