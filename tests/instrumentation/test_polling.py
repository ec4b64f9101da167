"""Promises about refusals by a limiter: followed by a grant they are polling and one acquire, alone they are one block."""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from retrospan_instrumentation import frames, waits
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.api import attempt

from .conftest import Spans
from .limits import LIMITER, SECOND, delays, granted, refused, sync
from .scenario import HTTP


def test_refusals_followed_by_a_grant_are_one_acquire_timed_from_the_first(spans: Spans, clock: list[int]) -> None:
    refused()
    clock[0] += SECOND // 2
    refused()
    clock[0] += SECOND // 2
    granted()
    sync().get("http://a.example/")
    assert [(action, facts[sc.RATE_LIMITER_DELAY_MS]) for action, facts in spans.waits()] == [("acquire", 1000)]
    assert delays(spans) == [1000]


def test_a_refusal_alone_is_a_block_when_its_frame_closes(spans: Spans) -> None:
    with attempt("tier", "source"):
        refused("a.example:metadata")
        assert spans.waits() == []
    ((action, facts),) = spans.waits()
    assert (action, facts[sc.SERVER_ADDRESS], facts[sc.HTTP_REQUEST_ROLE]) == ("block", "a.example", "metadata")


def test_a_refusal_outside_every_frame_is_a_block_after_a_second(spans: Spans, clock: list[int]) -> None:
    refused()
    clock[0] += SECOND // 2
    waits.drain()
    assert spans.waits() == []
    clock[0] += SECOND
    waits.drain()
    assert [action for action, _ in spans.waits()] == ["block"]


def test_refusals_of_other_keys_limiters_or_tasks_are_not_polling(spans: Spans) -> None:
    with attempt("tier", "source"):
        refused("a")
        granted("b")
        granted("a", limiter=LIMITER + 1)
        other = threading.Thread(target=granted, args=("a",))
        other.start()
        other.join()
    assert sorted((action, facts[sc.RATE_LIMITER_NAME]) for action, facts in spans.waits()) == [
        ("acquire", "a"),
        ("acquire", "a"),
        ("acquire", "b"),
        ("block", "a"),
    ]


def test_tries_more_than_ten_seconds_apart_are_separate(spans: Spans, clock: list[int]) -> None:
    with attempt("tier", "source"):
        refused()
        clock[0] += 11 * SECOND
        granted()
    assert sorted((action, facts[sc.RATE_LIMITER_DELAY_MS]) for action, facts in spans.waits()) == [
        ("acquire", 0),
        ("block", 0),
    ]


def test_a_wait_of_more_than_ten_seconds_right_after_a_refusal_is_the_same_acquire(
    spans: Spans, clock: list[int]
) -> None:
    with attempt("tier", "source"):
        refused()
        asked = waits.time_ns()
        clock[0] += 20 * SECOND
        waits.report(LIMITER, "pyrate", True, asked, None)
    assert [(action, facts[sc.RATE_LIMITER_DELAY_MS]) for action, facts in spans.waits()] == [("acquire", 20_000)]


def retried(form: str, ask: Callable[[], None]) -> None:
    """Three attempts, in this form."""
    retrying = HTTP("httpx2", "sync").retrying_call()
    if form == "call":
        retrying(ask)
    else:
        for one in retrying:
            with one:
                ask()


@pytest.mark.parametrize("form", ["call", "loop"])
def test_a_retry_that_asks_again_is_polling_too(spans: Spans, clock: list[int], form: str) -> None:
    answers = iter([False, False, True])

    def ask() -> None:
        clock[0] += SECOND
        if not next(answers):
            refused()
            raise LookupError
        granted()
        sync().get("http://a.example/")

    retried(form, ask)
    assert [(action, facts[sc.RATE_LIMITER_DELAY_MS]) for action, facts in spans.waits()] == [("acquire", 2000)]
    assert delays(spans) == [2000]


def test_a_retry_that_asks_again_in_a_frame_of_each_attempts_own_is_polling_too(spans: Spans, clock: list[int]) -> None:
    answers = iter([False, True])

    def ask() -> None:
        clock[0] += SECOND
        with attempt("tier", "source"):
            if not next(answers):
                refused()
                raise LookupError
            granted()

    HTTP("httpx2", "sync").retrying_call()(ask)
    assert [(action, facts[sc.RATE_LIMITER_DELAY_MS]) for action, facts in spans.waits()] == [("acquire", 1000)]


@pytest.mark.parametrize("form", ["call", "loop", "left loop"])
def test_a_retry_that_is_never_granted_is_one_block(spans: Spans, form: str) -> None:
    def ask() -> None:
        refused()
        raise LookupError

    if form == "left loop":
        for one in HTTP("httpx2", "sync").retrying_call():
            with one:
                ask()
            if one.retry_state.attempt_number == 3:
                break
        del one
        waits.sweep(time.time_ns())
    else:
        with pytest.raises(LookupError):
            retried(form, ask)
    assert [action for action, _ in spans.waits()] == ["block"]


@pytest.mark.parametrize("line", range(2))
def test_two_threads_that_leave_the_first_refusals_of_a_frame_leave_them_in_one_place(line: int) -> None:
    """Another thread comes just before this line of `own_polls`."""
    frame = frames.RetryFrame(None)
    theirs: list[Any] = []
    lines = 0

    def meanwhile(running: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        if running.f_code is frames.Frame.own_polls.__code__ and event == "line":
            if lines == line:
                theirs.append(frame.own_polls())
            lines += 1
        return meanwhile

    sys.settrace(meanwhile)
    try:
        mine = frame.own_polls()
    finally:
        sys.settrace(None)
        frame.leave()
    assert theirs == [mine]
    assert theirs[0] is mine is frame.polls
