"""Promises about attempts: what the program says of them, and how they are judged when it says nothing."""

import asyncio
import enum
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
import tenacity

from retrospan_instrumentation import api
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.api import attempt, download, resolution

from .conftest import Spans
from .test_api import IDS, STORED, Text, answering

ATTEMPT = (sc.FALLBACK_TIER, sc.FALLBACK_SOURCE, sc.FALLBACK_OUTCOME, sc.FALLBACK_REASON, sc.FALLBACK_STATUS)
OUTCOME = (sc.FALLBACK_OUTCOME, sc.FALLBACK_REASON, sc.FALLBACK_STATUS)


def test_an_attempt_holds_what_the_program_said(spans: Spans) -> None:
    with resolution("A1", "W1"), attempt("direct_oa", "unpaywall", host="a.example") as one:
        one.outcome("no_pdf", "no_location", 200)
    assert spans.facts("fallback.attempt", *IDS, *ATTEMPT, sc.SERVER_ADDRESS) == [
        ("A1", "W1", "direct_oa", "unpaywall", "no_pdf", "no_location", 200, "a.example")
    ]


def test_the_last_word_about_an_attempt_counts_even_over_an_exception(spans: Spans) -> None:
    with pytest.raises(Text), attempt("tier", "source") as one:
        one.outcome("error")
        one.outcome("skipped", "breaker_open", host="b.example")
        raise Text
    assert spans.facts("fallback.attempt", *OUTCOME, sc.SERVER_ADDRESS) == [
        ("skipped", "breaker_open", None, "b.example")
    ]


def timeout() -> None:
    raise TimeoutError


def read_timeout() -> None:
    raise httpx2.ReadTimeout("SECRET")


def connect_error() -> None:
    raise httpx2.ConnectError("SECRET")


def broken_pipe() -> None:
    raise BrokenPipeError


def free_error() -> None:
    raise Text


def cancelled() -> None:
    raise asyncio.CancelledError


def status_error(status: int) -> Callable[[], None]:
    return lambda: answering(status).get("http://a.example/").raise_for_status() and None


def answered(*statuses: int) -> Callable[[], None]:
    def run() -> None:
        client = answering(*statuses)
        for _ in statuses:
            client.get("http://a.example/")

    return run


def stored() -> None:
    answered(404)()
    with download() as one:
        one.stored(**STORED)


def retried(function: Callable[[], Any], **policy: Any) -> Callable[[], None]:
    return lambda: tenacity.Retrying(stop=tenacity.stop_after_attempt(2), **policy)(function)


def retried_results() -> None:
    client = answering(429, 429)
    policy = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(2), retry=tenacity.retry_if_result(lambda r: r.status_code == 429)
    )
    policy(client.get, "http://a.example/")


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [
        (timeout, ("timeout", "TimeoutError", None)),
        (read_timeout, ("timeout", "ReadTimeout", None)),
        (status_error(429), ("retryable", "http_429", 429)),
        (status_error(500), ("retryable", "http_500", 500)),
        (status_error(503), ("retryable", "http_503", 503)),
        (connect_error, ("retryable", "ConnectError", None)),
        (broken_pipe, ("retryable", "BrokenPipeError", None)),
        (status_error(400), ("nonretryable", "http_400", 400)),
        (status_error(404), ("nonretryable", "http_404", 404)),
        (free_error, ("error", "Text", None)),
        (cancelled, ("error", "CancelledError", None)),
        (stored, ("success", None, 404)),
        (answered(200), ("no_pdf", None, 200)),
        (answered(404, 200), ("no_pdf", None, 200)),
        (answered(200, 404), ("nonretryable", "http_404", 404)),
        (answered(429), ("retryable", "http_429", 429)),
        (answered(502), ("retryable", "http_502", 502)),
        (answered(), ("no_pdf", None, None)),
        (retried(timeout), ("timeout", "TimeoutError", None)),
        (retried(connect_error), ("retryable", "ConnectError", None)),
        (retried(retried(read_timeout)), ("timeout", "ReadTimeout", None)),
        (retried_results, ("retryable", "http_429", 429)),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_an_attempt_left_without_a_word_is_judged_by_how_it_ends(
    spans: Spans, ends: Callable[[], None], outcome: tuple[str, str | None, int | None]
) -> None:
    try:
        with attempt("tier", "source"):
            ends()
    except BaseException:
        pass
    assert spans.facts("fallback.attempt", *OUTCOME) == [outcome]


def test_an_attempt_hears_of_responses_in_a_pool_inside(spans: Spans) -> None:
    with ThreadPoolExecutor(1) as pool, attempt("tier", "source"):
        pool.submit(answering(503).get, "http://a.example/").result()
    assert spans.facts("fallback.attempt", *OUTCOME, sc.SERVER_ADDRESS) == [("retryable", "http_503", 503, "a.example")]


class Outcome(enum.Enum):
    SUCCESS = "success"


class OutcomeText(enum.StrEnum):
    SUCCESS = "success"


@pytest.mark.parametrize("said", ["success", Outcome.SUCCESS, OutcomeText.SUCCESS])
def test_an_outcome_may_be_an_enums(spans: Spans, said: Any) -> None:
    with attempt("tier", "source") as one:
        one.outcome(said)
    (found,) = spans.facts("fallback.attempt", sc.FALLBACK_OUTCOME)
    assert found == "success"
    assert type(found) is str


def test_an_outcome_that_is_none_of_the_known_ones_is_an_error(spans: Spans) -> None:
    with attempt("tier", "source") as one:
        one.outcome("SECRET outcome")
    assert spans.facts("fallback.attempt", sc.FALLBACK_OUTCOME) == ["error"]


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (None, None),
        ("not_found", "not_found"),
        ("http_404", "http_404"),
        ("E.12:a+b-c", "E.12:a+b-c"),
        ("could not open the file", "other"),
        ("https://a.example/secret", "other"),
        ("x" * 65, "other"),
        ("", "other"),
        ("a\n", "other"),
        (404, "404"),
        (Outcome.SUCCESS, "success"),
        (Text(), "other"),
    ],
)
def test_a_reason_is_a_code_or_other(reason: object, code: str | None) -> None:
    assert api.code(reason) == code
