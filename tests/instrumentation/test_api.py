"""Promises of the application API: one row each, in every form, judged by how it ends, and no fault of its own."""

import asyncio
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry import trace

from retrospan_instrumentation import frames, surround
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.api import attempt, download, head_skip, resolution, role

from .conftest import Spans

IDS = (sc.DOWNLOAD_ARTIFACT_ID, sc.DOWNLOAD_WORK_ID)
STORED = {"sha256": "0" * 64, "final_path": "/papers/a.pdf", "content_length": 3}


class Text(Exception):
    def __str__(self) -> str:
        return "SECRET text"


def answering(*statuses: int) -> httpx2.Client:
    answers = iter(statuses)
    return httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(next(answers))))


# -- every form of every scope

SCOPES: dict[str, Callable[[], Any]] = {
    "fallback.resolve": lambda: resolution("A1", "W1"),
    "fallback.attempt": lambda: attempt("tier", "source"),
    "download": lambda: download("A1", "W1"),
}


def by_with(scope: Any, body: Callable[[], Any]) -> Any:
    with scope:
        return body()


def by_async_with(scope: Any, body: Callable[[], Any]) -> Any:
    async def main() -> Any:
        async with scope:
            return body()

    return asyncio.run(main())


def by_decorator(scope: Any, body: Callable[[], Any]) -> Any:
    return scope(body)()


def by_async_decorator(scope: Any, body: Callable[[], Any]) -> Any:
    async def function() -> Any:
        return body()

    decorated = scope(function)
    assert inspect.iscoroutinefunction(decorated)
    return asyncio.run(decorated())


FORMS = [by_with, by_async_with, by_decorator, by_async_decorator]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SCOPES)
def test_every_form_of_a_scope_is_one_span_around_its_body(spans: Spans, name: str, form: Callable[..., Any]) -> None:
    inside = form(SCOPES[name](), lambda: trace.get_current_span().get_span_context().span_id)
    (span,) = spans.all()
    assert span.name == name
    assert span.context is not None
    assert span.context.span_id == inside


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SCOPES)
def test_an_exception_goes_through_every_form_as_it_is(spans: Spans, name: str, form: Callable[..., Any]) -> None:
    error = Text()

    def fail() -> None:
        raise error

    with pytest.raises(Text) as raised:
        form(SCOPES[name](), fail)
    assert raised.value is error
    (span,) = spans.all()
    assert "SECRET" not in span.to_json()


@pytest.mark.parametrize("form", FORMS)
def test_a_role_in_every_form_is_the_requests_inside(spans: Spans, form: Callable[..., Any]) -> None:
    client = answering(200, 200)
    form(role("artifact"), lambda: client.get("http://a.example/"))
    client.get("http://a.example/")
    assert spans.sends(sc.HTTP_REQUEST_ROLE) == ["artifact", None]


@pytest.mark.parametrize("made", [lambda: attempt("tier", "source"), lambda: role("metadata")])
def test_a_decorated_function_keeps_its_name_and_may_be_called_at_once_from_itself(
    spans: Spans, made: Callable[[], Any]
) -> None:
    @made()
    def countdown(number: int) -> int:
        """Doc."""
        return number if number == 0 else countdown(number - 1)

    assert countdown(3) == 0
    assert (countdown.__name__, countdown.__doc__) == ("countdown", "Doc.")
    assert len(spans.all()) in (0, 4)


def test_a_decorator_takes_ids_from_the_arguments_of_that_name(spans: Spans) -> None:
    @resolution()
    def resolve(artifact_id: str, work_id: str = "W0") -> None:
        pass

    @download()
    def store(folder: str, *, artifact_id: str) -> None:
        pass

    resolve("A1")
    resolve("A2", work_id="W2")
    store("x", artifact_id="A3")
    # a default that the call does not give is not an argument of the call
    assert spans.facts("fallback.resolve", *IDS) == [("A1", None), ("A2", "W2")]
    assert spans.facts("download", sc.DOWNLOAD_ARTIFACT_ID) == ["A3"]


def test_a_call_that_does_not_fit_the_function_raises_its_own_error(spans: Spans) -> None:
    @resolution()
    def resolve(artifact_id: str) -> None:
        pass

    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        resolve()


def test_a_callable_without_a_signature_may_be_decorated(spans: Spans) -> None:
    assert attempt("tier", "source")(dict.fromkeys)(["a"]) == {"a": None}
    assert len(spans.all("fallback.attempt")) == 1


# -- downloads


def test_a_stored_file_is_recorded_as_the_program_said(spans: Spans) -> None:
    with resolution("A1", "W1"), attempt("tier", "mirror"), download() as one:
        answering(200).get("http://files.example/")
        one.stored(
            sha256="ab" * 32,
            final_path=Path("/papers/a.pdf"),
            content_length=7,
            content_type="application/pdf",
            dedupe_action="hardlink",
        )
    (span,) = spans.all("download")
    assert dict(span.attributes or {}) == {
        sc.DOWNLOAD_ARTIFACT_ID: "A1",
        sc.DOWNLOAD_WORK_ID: "W1",
        sc.DOWNLOAD_OUTCOME: "stored",
        sc.DOWNLOAD_SHA256: "ab" * 32,
        sc.DOWNLOAD_FINAL_PATH: "/papers/a.pdf",
        sc.DOWNLOAD_CONTENT_LENGTH: 7,
        sc.DOWNLOAD_CONTENT_TYPE: "application/pdf",
        sc.DOWNLOAD_DEDUPE_ACTION: "hardlink",
        sc.FALLBACK_SOURCE: "mirror",
        sc.SERVER_ADDRESS: "files.example",
    }


@pytest.mark.parametrize(
    ("said", "recorded"), [("copy", "copy"), ("skipped", "skipped"), ("none", "none"), ("SECRET thing", "none")]
)
def test_a_dedupe_action_is_one_of_the_known_ones(spans: Spans, said: str, recorded: str) -> None:
    with download() as one:
        one.stored(**STORED, dedupe_action=said)
    assert spans.facts("download", sc.DOWNLOAD_DEDUPE_ACTION) == [recorded]


def test_a_download_left_without_a_word_has_failed(spans: Spans) -> None:
    with download("A1"):
        pass
    with pytest.raises(Text), download("A1"):
        raise Text
    assert spans.facts("download", sc.DOWNLOAD_OUTCOME, sc.DOWNLOAD_REASON) == [
        ("failed", "unknown"),
        ("failed", "Text"),
    ]


def test_a_failed_download_has_a_code_and_its_attempt_no_success(spans: Spans) -> None:
    with attempt("tier", "mirror"), download() as one:
        one.failed("truncated", host="a.example")
    assert spans.facts("download", sc.DOWNLOAD_OUTCOME, sc.DOWNLOAD_REASON, sc.SERVER_ADDRESS, sc.FALLBACK_SOURCE) == [
        ("failed", "truncated", "a.example", "mirror")
    ]
    assert spans.facts("fallback.attempt", sc.FALLBACK_OUTCOME) == ["no_pdf"]


def test_ids_are_the_downloads_own_else_the_resolutions_else_the_last_ones(spans: Spans) -> None:
    with resolution("A1", "W1"):
        with download("A2", "W2"):
            pass
        with download():
            pass
    with download():
        pass
    assert spans.facts("download", *IDS) == [("A2", "W2"), ("A1", "W1"), ("A1", "W1")]


def test_gathered_resolutions_keep_their_own_ids(spans: Spans) -> None:
    async def one(number: int) -> None:
        async with resolution(f"A{number}"):
            await asyncio.sleep(0)
            with attempt("tier", "source"):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one(number) for number in range(5)))

    asyncio.run(main())
    assert sorted(spans.facts("fallback.attempt", sc.DOWNLOAD_ARTIFACT_ID)) == [f"A{n}" for n in range(5)]


def test_ids_may_be_any_object(spans: Spans) -> None:
    with resolution(17, Path("w")):
        pass
    assert spans.facts("fallback.resolve", *IDS) == [("17", "w")]


def test_a_head_skip_has_host_and_role(spans: Spans) -> None:
    head_skip("a.example", "artifact")
    with role("landing"):
        head_skip("b.example")
    assert spans.facts("rate_limiter.head_skip", sc.SERVER_ADDRESS, sc.HTTP_REQUEST_ROLE) == [
        ("a.example", "artifact"),
        ("b.example", "landing"),
    ]


@pytest.mark.parametrize(
    ("host", "recorded"),
    [("a.example", "a.example"), ("https://SECRET@a.example/SECRET", "a.example"), ("a.example/SECRET", None)],
)
def test_of_a_host_that_is_a_url_the_host_alone_is_recorded(spans: Spans, host: str, recorded: str | None) -> None:
    with attempt("tier", "source", host=host):
        pass
    with attempt("tier", "source") as one:
        one.outcome("success", host=host)
    with download() as file:
        file.failed("gone", host=host)
    head_skip(host, "artifact")
    assert [(span.attributes or {}).get(sc.SERVER_ADDRESS) for span in spans.all()] == [recorded] * 4


# -- no fault of its own


def test_no_fault_of_the_api_reaches_the_program(
    spans: Spans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spans.faults_are_forced = True

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise Text

    class Broken:
        def start_span(self, *args: Any, **kwargs: Any) -> Any:
            raise Text

    monkeypatch.setattr("retrospan_instrumentation.emit.tracer", Broken())
    monkeypatch.setattr("retrospan_instrumentation.api.set_value", broken)
    with caplog.at_level(logging.ERROR, "retrospan"):
        for _ in range(3):
            with resolution("A1"), attempt("tier", "source") as one, download() as file, role("artifact"):
                one.outcome("success")
                file.stored(**STORED)
            head_skip("a.example")
            assert attempt("tier", "source")(lambda: 7)() == 7
    assert frames.current() is None
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == len(set(messages)) == len(surround.faults)
    assert "SECRET" not in caplog.text


class Unspeakable:
    def __str__(self) -> str:
        raise Text


def test_values_that_cannot_be_written_do_not_reach_the_program(spans: Spans) -> None:
    spans.faults_are_forced = True
    with resolution(Unspeakable(), Unspeakable()), attempt(Unspeakable(), Unspeakable(), Unspeakable()) as one:
        one.outcome(Unspeakable(), Unspeakable(), host=Unspeakable())
        with download(Unspeakable()) as file:
            file.stored(sha256=Unspeakable(), final_path=Unspeakable(), content_type=Unspeakable())
            file.failed(Unspeakable(), source=Unspeakable())
    assert len(spans.all()) == 3
