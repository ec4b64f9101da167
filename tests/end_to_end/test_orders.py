"""Every column of every send's row, in every order of the layers, against what a server logged and the tests' own code saw.

The axes: 34 orders of the layers (outside the client, in its transport, mixed), twelve places where the stacks run (by sync
and asyncio), two libraries, four ways to write a retry. The whole product, 3 264 cases, is `make test-long`'s; `make test`
has each order in each place, with library and retry so dealt that any two values of two axes meet, and two different orders
at once where a place runs two stacks. What serves trio runs under it, too.
"""

import gc
from collections.abc import Iterator
from itertools import combinations, permutations, product
from pathlib import Path
from typing import Any

import pytest
from instrumentation.scenario import HTTP
from opentelemetry.context import get_current
from providers import TracerProvider

import retrospan_instrumentation
from origin import Origin
from retrospan_exporters.processor import RecorderSpanProcessor
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_instrumentation import surround

from .orders.fetches import script
from .orders.held import Record, hold
from .orders.jobs import Done, job
from .orders.layers import INTERVAL_MS, Order, Stack
from .orders.places import AT_ONCE, NAMES, PLACES

LAYERS = [
    *(Order(outside=order) for order in permutations(("retry", "breaker", "limiter"))),
    *(Order(inside=order) for order in permutations(("cache", "retry", "breaker", "limiter"))),
    *(Order(outside=("retry",), inside=order) for order in permutations(("cache", "limiter"))),
    *(Order(outside=("breaker",), inside=order) for order in permutations(("limiter", "retry"))),
]
# pyrate-limiter waits by asyncio's sleep, and so serves no trio.
UNDER_TRIO = [
    *(Order(outside=order) for order in permutations(("retry", "breaker"))),
    *(Order(inside=order) for order in permutations(("cache", "retry", "breaker"))),
    Order(outside=("retry",), inside=("cache",)),
    Order(outside=("breaker",), inside=("retry",)),
]
TRIO = ("trio", "plain")
LIBRARIES, RETRIES = ("httpx2", "httpx"), ("call", "loop", "anew", "same")
Case = tuple[Order, tuple[str, str], str, str]
PLACED = [place for place in PLACES if place != TRIO]
PAIRWISE: dict[tuple[str, str], list[Case]] = {
    place: [(order, place, LIBRARIES[(i + j) % 2], RETRIES[(i // 2 + j) % 4]) for i, order in enumerate(LAYERS)]
    for j, place in enumerate(PLACED)
}
PRODUCT: list[Case] = list(product(LAYERS, PLACED, LIBRARIES, RETRIES))


def together(number: int, place: tuple[str, str]) -> list[tuple[Case, ...]]:
    """The cases of this place, two by two where two stacks run at once: with others in each such place."""
    cases = PAIRWISE[place]
    half = len(cases) // 2
    if place not in AT_ONCE:
        return [(case,) for case in cases]
    return [(case, cases[half + (i + number) % half]) for i, case in enumerate(cases[:half])]


CHOSEN = [cases for number, place in enumerate(PLACED) for cases in together(number, place)]


def named(cases: tuple[Case, ...]) -> str:
    (_, (mode, place), _, _), *_ = cases
    return f"{' and '.join(f'{order}, {retry}, {library}' for order, _, library, retry in cases)}, {mode}: {place}"


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Record]:
    """A record that all hooks write to."""
    path = tmp_path_factory.mktemp("orders") / "telemetry.sqlite"
    provider, before = TracerProvider(shutdown_on_exit=False), get_current()
    with Origin() as origin, pytest.MonkeyPatch.context() as environment:
        for name in (
            "RETROSPAN_DB",
            "RETROSPAN_RUN_ID",
            "RETROSPAN_BEGUN_RUN",
        ):  # what the recorder sets is unset again
            environment.setenv(name, "")
            environment.delenv(name)
        provider.add_span_processor(RecorderSpanProcessor(SQLiteSpanExporter(path, run_id="orders")))
        retrospan_instrumentation.instrument_all(tracer_provider=provider)
        surround.faults.clear()
        gc.freeze()  # what is there already need not be looked at by each collection
        yield Record(path, provider, origin)
        gc.unfreeze()
        retrospan_instrumentation.uninstrument_all()
        provider.shutdown()
    assert get_current() == before
    assert not surround.faults


def run(record: Record, cases: tuple[Case, ...], folder: Path) -> list[Done]:
    """Run cases of one place at once, or a case as often as its place runs stacks; returns what was seen of each fetch."""
    (_, (mode, place), _, _), *_ = cases
    tracer = record.provider.get_tracer("program")

    async def run_job(name: str, **where: Any) -> list[Done]:
        order, _, library, retry = cases[NAMES.index(name) % len(cases)]
        order, http = Order(order.outside, order.inside, retry), HTTP(library, mode)
        stack = Stack(order, http, folder / name, where.pop("through", None))
        return await job(stack, script(record.origin, name), tracer, **where)

    jobs = PLACES[mode, place](run_job)
    assert len(jobs) == (len(NAMES) if (mode, place) in AT_ONCE else 1) >= len(cases)
    return [done for job in jobs for done in job]


def check(record: Record, cases: tuple[Case, ...], folder: Path) -> list[dict[str, Any]]:
    """Run cases, and fail unless all is as it must be; returns the rows of the sends."""
    record.origin.log.clear()
    try:
        return hold(record, run(record, cases, folder))
    except AssertionError as error:
        error.add_note(named(cases))
        raise


@pytest.mark.parametrize("cases", CHOSEN, ids=named)
def test_every_column_is_what_the_server_and_the_program_saw(
    record: Record, cases: tuple[Case, ...], tmp_path: Path
) -> None:
    check(record, cases, tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("number", range(len(UNDER_TRIO)), ids=lambda number: str(UNDER_TRIO[number]))
def test_every_column_is_so_under_trio(record: Record, number: int, library: str, tmp_path: Path) -> None:
    retry = RETRIES[(number + 2 * LIBRARIES.index(library)) % len(RETRIES)]
    check(record, ((UNDER_TRIO[number], TRIO, library, retry),), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("place", PLACED, ids=": ".join)
@pytest.mark.parametrize("order", LAYERS, ids=str)
def test_every_column_is_so_in_the_whole_product(
    record: Record, order: Order, place: tuple[str, str], tmp_path: Path
) -> None:
    for number, (library, retry) in enumerate(product(LIBRARIES, RETRIES)):
        check(record, ((order, place, library, retry),), tmp_path / str(number))


def test_any_two_values_of_two_axes_meet_in_the_chosen_cases() -> None:
    chosen = [case for cases in CHOSEN for case in cases]
    for one, other in combinations(range(4), 2):
        assert {(case[one], case[other]) for case in chosen} == {(case[one], case[other]) for case in PRODUCT}


# What a column takes in some of these cases, beside what is nowhere in doubt.
TAKEN = {
    "status": {None, 200, 201, 204, 302, 304, 401, 404, 429, 503},
    "error": {None, "ConnectError", "RemoteProtocolError", "ReadError", "CircuitBreakerError", "Refused"},
    "role": {None, "metadata", "landing", "artifact"},
    "method": {"GET", "HEAD", "POST"},
    "retry_count": {0, 1, 2},
    "retry_source": {None, "frame", "transport", "request", "header", "inferred"},
    "retry_after_s": {None, 1.0, 2.0},
    "breaker_state": {None, "closed", "half_open", "open"},
    "breaker_recorded": {None, "success", "failure", "none"},
    "from_cache": {None, 0, 1},
    "revalidated": {None, 0, 1},
    "stale": {None, 0, 1},
    "wire": {None, 0, 1},
    "hop_last": {0, 1},
    "body_end": {None, "closed", "abandoned"},
}


def test_the_fetches_make_every_column_take_what_it_can(record: Record, tmp_path: Path) -> None:
    orders = (
        Order(outside=("retry", "breaker", "limiter")),
        Order(inside=("cache", "retry", "breaker", "limiter")),
        Order(inside=("breaker", "cache", "limiter", "retry")),
    )
    rows = []
    for number, (order, retry) in enumerate(product(orders, RETRIES)):
        rows += check(record, ((order, ("sync", "plain"), "httpx2", retry),), tmp_path / str(number))
    assert {name: {row[name] for row in rows} for name in TAKEN} == TAKEN
    assert any(row["rate_delay_ms"] >= INTERVAL_MS for row in rows if row["rate_delay_ms"] is not None)
    assert {row["rate_delay_ms"] for row in rows} >= {None, 0}
