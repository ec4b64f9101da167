"""Every column of every send's row, in every order of the layers, against what a server logged and the tests' own code saw.

The axes: 34 orders of the layers (outside the client, in its transport, mixed), twelve places where the stacks run (by sync
and asyncio), two libraries, four ways to write a retry. The whole product, 3 264 cases, is `make test-long`'s; `make test`
has each order in each place, with library and retry so dealt that any two values of two axes meet. What serves trio
runs under it, too.
"""

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
from retrospan_instrumentation import hooks

from .orders.fetches import script
from .orders.held import Record, hold
from .orders.jobs import Done, job
from .orders.layers import INTERVAL_MS, Order, Stack
from .orders.places import PLACES

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
PAIRWISE: list[Case] = [
    (order, place, LIBRARIES[(i + j) % 2], RETRIES[(i // 2 + j) % 4])
    for (i, order), (j, place) in product(enumerate(LAYERS), enumerate(place for place in PLACES if place != TRIO))
]
PRODUCT: list[Case] = list(product(LAYERS, (place for place in PLACES if place != TRIO), LIBRARIES, RETRIES))


def named(case: Case) -> str:
    order, (mode, place), library, retry = case
    return f"{order}, {retry}, {library}, {mode}: {place}"


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
        hooks._faults.clear()
        yield Record(path, provider, origin)
        retrospan_instrumentation.uninstrument_all()
        provider.shutdown()
    assert get_current() == before
    assert not hooks._faults


def run(record: Record, case: Case, folder: Path) -> list[Done]:
    """Run a case; returns what was seen of each fetch."""
    order, (mode, place), library, retry = case
    http, tracer = HTTP(library, mode), record.provider.get_tracer("program")

    async def run_job(name: str, **where: Any) -> list[Done]:
        stack = Stack(Order(order.outside, order.inside, retry), http, folder / name, where.pop("through", None))
        return await job(stack, script(record.origin, name), tracer, **where)

    return [done for jobs in PLACES[mode, place](run_job) for done in jobs]


def check(record: Record, case: Case, folder: Path) -> list[dict[str, Any]]:
    """Run a case, and fail unless all is as it must be; returns the rows of the sends."""
    record.origin.log.clear()
    return hold(record, run(record, case, folder))


@pytest.mark.parametrize("case", PAIRWISE, ids=named)
def test_every_column_is_what_the_server_and_the_program_saw(record: Record, case: Case, tmp_path: Path) -> None:
    check(record, case, tmp_path)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("number", range(len(UNDER_TRIO)), ids=lambda number: str(UNDER_TRIO[number]))
def test_every_column_is_so_under_trio(record: Record, number: int, library: str, tmp_path: Path) -> None:
    retry = RETRIES[(number + 2 * LIBRARIES.index(library)) % len(RETRIES)]
    check(record, (UNDER_TRIO[number], TRIO, library, retry), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("case", sorted(set(PRODUCT) - set(PAIRWISE), key=named), ids=named)
def test_every_column_is_so_in_the_whole_product(record: Record, case: Case, tmp_path: Path) -> None:
    check(record, case, tmp_path)


def test_any_two_values_of_two_axes_meet_in_the_chosen_cases() -> None:
    for one, other in combinations(range(4), 2):
        assert {(case[one], case[other]) for case in PAIRWISE} == {(case[one], case[other]) for case in PRODUCT}


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
        rows += check(record, (order, ("sync", "plain"), "httpx2", retry), tmp_path / str(number))
    assert {name: {row[name] for row in rows} for name in TAKEN} == TAKEN
    assert any(row["rate_delay_ms"] >= INTERVAL_MS for row in rows if row["rate_delay_ms"] is not None)
    assert {row["rate_delay_ms"] for row in rows} >= {None, 0}
