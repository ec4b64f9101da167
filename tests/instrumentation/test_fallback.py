"""Promises of RETROSPAN_FALLBACK and RETROSPAN_DOWNLOAD: programs that know nothing of us are recorded by a name alone."""

import asyncio
import inspect
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry import trace

from retrospan_instrumentation import frames, surround
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.api import resolution
from retrospan_instrumentation.fallback import DOWNLOAD, FALLBACK, FallbackInstrumentor

from . import orchestrators
from .conftest import Hooked, Spans
from .orchestrators import Outcome, Result

MODULE = orchestrators.__name__
IDS = (sc.DOWNLOAD_ARTIFACT_ID, sc.DOWNLOAD_WORK_ID)
CONTEXT = {"artifact_id": "A1", "work_id": "W1"}
FACTS = (
    sc.FALLBACK_TIER,
    sc.FALLBACK_SOURCE,
    sc.FALLBACK_OUTCOME,
    sc.FALLBACK_REASON,
    sc.FALLBACK_STATUS,
    sc.SERVER_ADDRESS,
)


def answering(*args: Any, **kwargs: Any) -> Callable[[Any, Any], Any]:
    return lambda policy, context: Result(*args, **kwargs)


def attempts(spans: Spans) -> list[Any]:
    return spans.facts("fallback.attempt", *IDS, *FACTS)


# -- orchestrators


@pytest.mark.parametrize("name", ["Base", "Inheriting"])
@pytest.mark.parametrize("by_name", [False, True])
def test_each_adapter_is_an_attempt_of_its_tier(spans: Spans, hooked: Hooked, name: str, by_name: bool) -> None:
    hooked(name)
    adapters = {
        "unpaywall": answering(Outcome.NO_PDF, "no_location", 200, url="https://SECRET@a.example/SECRET"),
        "mirror": answering(Outcome.SUCCESS, status=200, host="files.example"),
    }
    orchestrator = getattr(orchestrators, name)()
    given = {"adapters": adapters, "context": CONTEXT}
    result = orchestrator.resolve(**given) if by_name else orchestrator.resolve(CONTEXT, adapters)
    assert result.outcome is Outcome.SUCCESS
    assert attempts(spans) == [
        ("A1", "W1", "direct", "unpaywall", "no_pdf", "no_location", 200, "a.example"),
        ("A1", "W1", "mirrors", "mirror", "success", None, 200, "files.example"),
    ]
    assert spans.facts("fallback.resolve", *IDS) == [("A1", "W1")]


def test_attempts_are_children_of_their_resolution(spans: Spans, hooked: Hooked) -> None:
    hooked("Pooled")
    orchestrators.Pooled().resolve_all(CONTEXT, {f"s{n}": answering(Outcome.NO_PDF) for n in range(4)})
    (resolve,) = spans.all("fallback.resolve")
    assert resolve.context is not None
    assert [s.parent.span_id for s in spans.all("fallback.attempt") if s.parent] == [resolve.context.span_id] * 4
    assert sorted(source for _, _, _, source, *_ in attempts(spans)) == ["s0", "s1", "s2", "s3"]


def test_the_programs_own_adapters_are_left_as_they_are(spans: Spans, hooked: Hooked) -> None:
    hooked("Base")
    adapters = {"mirror": answering(Outcome.SUCCESS)}
    before = dict(adapters)
    orchestrators.Base().resolve(CONTEXT, adapters)
    assert adapters == before
    assert type(adapters["mirror"]) is type(before["mirror"])


def test_threads_may_outlive_the_call(spans: Spans, hooked: Hooked) -> None:
    import threading

    hooked("Threaded")
    go_on = threading.Event()

    def slow(policy: Any, context: Any) -> Result:
        go_on.wait(10)
        return Result(Outcome.RETRYABLE, "late")

    orchestrator = orchestrators.Threaded()
    orchestrator.resolve(CONTEXT, {"fast": answering(Outcome.SUCCESS), "slow": slow})
    assert [source for _, _, _, source, *_ in attempts(spans)] == ["fast"]
    go_on.set()
    for thread in orchestrator.threads:
        thread.join()
    assert attempts(spans)[1][:6] == ("A1", "W1", None, "slow", "retryable", "late")


def test_workers_that_were_there_before_know_whose_attempt_it_is(spans: Spans, hooked: Hooked) -> None:
    hooked("Queued")
    with resolution("other", "other"):
        orchestrator = orchestrators.Queued()  # its worker has this context for good
    orchestrator.resolve(CONTEXT, {"one": answering(Outcome.SUCCESS)})
    orchestrator.resolve({"artifact_id": "A2"}, {"one": answering(Outcome.NO_PDF)})
    orchestrator.close()
    assert [facts[:2] for facts in attempts(spans)] == [("A1", "W1"), ("A2", None)]
    resolves = [s.context.span_id for s in spans.all("fallback.resolve")[1:] if s.context]
    assert [s.parent.span_id for s in spans.all("fallback.attempt") if s.parent] == resolves


@pytest.mark.parametrize("method", ["resolve", "resolve_in_order"])
def test_asynchronous_ones_too(spans: Spans, hooked: Hooked, method: str) -> None:
    hooked("Asynchronous")

    async def first(policy: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        return {"outcome": "no_pdf", "reason": "none_found", "status": 404, "url": "http://b.example:8080/x"}

    class Second:
        async def __call__(self, policy: Any, context: Any) -> Any:
            await asyncio.sleep(0)
            return Result(Outcome.SUCCESS)

    adapters = {"first": first, "second": Second()}
    if method == "resolve_in_order":
        adapters["down"] = first
    asyncio.run(getattr(orchestrators.Asynchronous(), method)(CONTEXT, adapters))
    made = [facts for facts in attempts(spans) if facts[3] != "down"]
    assert sorted(made, key=str) == sorted(
        [
            ("A1", "W1", None, "first", "no_pdf", "none_found", 404, "b.example"),
            ("A1", "W1", None, "second", "success", None, None, None),
        ],
        key=str,
    )
    assert [facts for facts in attempts(spans) if facts[3] == "down"] == (
        [("A1", "W1", None, "down", "retryable", "cooling_down", None, "a.example")]
        if method == "resolve_in_order"
        else []
    )
    assert len(spans.all("fallback.resolve")) == 1


def test_a_source_that_the_health_gate_turned_away_was_skipped(spans: Spans, hooked: Hooked) -> None:
    hooked("Base")
    context = {**CONTEXT, "down": ["crossref"]}
    orchestrators.Base().resolve(
        context, {"crossref": answering(Outcome.SUCCESS), "mirror": answering(Outcome.SUCCESS)}
    )
    assert [facts[2:6] for facts in attempts(spans)] == [
        ("direct", "crossref", "skipped", "breaker_open"),
        ("mirrors", "mirror", "success", None),
    ]


def test_a_gate_called_by_names_in_any_order_is_understood(spans: Spans, hooked: Hooked) -> None:
    hooked("Base")
    orchestrators.Base()._health_gate(context={**CONTEXT, "down": ["mirror"], "key": "SECRET"}, source="mirror")
    assert attempts(spans) == [("A1", "W1", "mirrors", "mirror", "skipped", "breaker_open", None, None)]


def test_an_adapter_that_says_nothing_is_judged_by_how_it_ends(spans: Spans, hooked: Hooked) -> None:
    hooked("Base")

    def asks(policy: Any, context: Any) -> None:
        transport = httpx2.MockTransport(lambda request: httpx2.Response(503))
        httpx2.Client(transport=transport).get("http://a.example/")

    def fails(policy: Any, context: Any) -> None:
        raise TimeoutError("SECRET")

    with pytest.raises(TimeoutError, match="SECRET"):
        orchestrators.Base().resolve(CONTEXT, {"unpaywall": asks, "mirror": fails})
    assert [facts[4:] for facts in attempts(spans)] == [
        ("retryable", "http_503", 503, "a.example"),
        ("timeout", "TimeoutError", None, None),
    ]
    assert frames.current() is None


def test_free_text_in_a_result_is_not_recorded(spans: Spans, hooked: Hooked) -> None:
    hooked("Base")

    def speaks(policy: Any, context: Any) -> Any:
        return {"outcome": "no_pdf", "reason": "SECRET reason", "host": "SECRET/host", "status": "SECRET"}

    orchestrators.Base().resolve({**CONTEXT, "key": "SECRET"}, {"mirror": speaks})
    assert [facts[4:] for facts in attempts(spans)] == [("no_pdf", "other", None, None)]
    assert "SECRET" not in "".join(span.to_json() for span in spans.all())


def module_level(policy: Any, context: Any) -> Result:
    return Result(Outcome.SUCCESS)


def test_an_adapter_seems_the_programs_own_to_the_program(
    spans: Spans, hooked: Hooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Adapter:
        timeout = 7

        def __call__(self, policy: Any, context: Any) -> Result:
            return Result(Outcome.SUCCESS)

    class Curious(orchestrators.Pooled):
        def resolve_all(self, context: Any, adapters: Any) -> list[Any]:
            seen.append(adapters)
            return super().resolve_all(context, adapters)

    monkeypatch.setattr(orchestrators, "Curious", Curious, raising=False)
    hooked("Curious")
    adapter = Adapter()
    Curious().resolve_all(CONTEXT, {"one": adapter, "two": module_level})
    (adapters,) = seen
    assert (adapters["one"].timeout, adapters["one"] == adapter, isinstance(adapters["one"], Adapter)) == (
        7,
        True,
        True,
    )
    assert pickle.loads(pickle.dumps(adapters["two"])) is module_level
    assert len(attempts(spans)) == 2
    with pytest.raises(TypeError):
        Curious().resolve_all(CONTEXT)


def test_an_asynchronous_adapter_still_shows_that_it_is_one(spans: Spans, hooked: Hooked) -> None:
    hooked("Asynchronous")
    seen: list[bool] = []

    class Curious(dict[str, Any]):
        def values(self) -> Any:
            seen.extend(inspect.iscoroutinefunction(adapter) for adapter in super().values())
            return super().values()

    async def adapter(policy: Any, context: Any) -> None:
        pass

    asyncio.run(orchestrators.Asynchronous().resolve(CONTEXT, Curious(one=adapter)))
    assert set(seen) == {True}
    assert len(attempts(spans)) == 1


def test_the_class_has_its_own_methods_back_afterwards(spans: Spans, hooked: Hooked) -> None:
    before = {name: dict(vars(getattr(orchestrators, name))) for name in ("Base", "Inheriting", "Store")}
    hooked("Inheriting", "Store.keep")
    assert vars(orchestrators.Base)["resolve"] is not before["Base"]["resolve"]
    FallbackInstrumentor().uninstrument()
    assert {name: dict(vars(getattr(orchestrators, name))) for name in before} == before
    FallbackInstrumentor().instrument()


# -- wrong names


@pytest.mark.parametrize(
    "variables",
    [
        {"fallback": f"{MODULE}:Missing"},
        {"fallback": f"{MODULE}:store"},
        {"fallback": f"{MODULE}:NothingToHook"},
        {"fallback": MODULE},
        {"download": f"{MODULE}:missing"},
        {"download": f"{MODULE}:RESULTS"},
        {"download": f"{MODULE}:Missing.keep"},
        {"download": f"{MODULE}:"},
    ],
)
def test_a_wrong_name_is_one_clear_line_and_nothing_else(
    spans: Spans, hooked: Hooked, variables: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "retrospan"):
        hooked(**variables)
    (record,) = caplog.records
    (name,) = variables.values()
    assert name.partition(":")[0] in record.getMessage()
    assert record.getMessage().startswith(FALLBACK if "fallback" in variables else DOWNLOAD)
    assert not surround.faults


@pytest.mark.parametrize("name", ["late:Missing", "late.sub:Orchestrator", ":", "  ", "late"])
def test_a_wrong_name_never_breaks_the_import_of_its_module(tmp_path: Path, name: str) -> None:
    (tmp_path / "late.py").write_text("VALUE = 7\n")
    program = (
        "import os, retrospan_instrumentation\n"
        f"os.environ['{FALLBACK}'] = os.environ['{DOWNLOAD}'] = {name!r}\n"
        "retrospan_instrumentation.instrument_all()\n"
        "import late\nprint(late.VALUE)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "7\n"), ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.splitlines()) == {"late:Missing": 2, "late": 2}.get(name, 0)


def test_the_current_span_in_an_adapter_is_its_attempt(spans: Spans, hooked: Hooked) -> None:
    hooked("Base")
    seen: list[int] = []

    def adapter(policy: Any, context: Any) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    orchestrators.Base().resolve(CONTEXT, {"mirror": adapter})
    assert seen == [span.context.span_id for span in spans.all("fallback.attempt") if span.context]


def test_a_plain_function_that_hands_on_a_coroutine_is_an_attempt_until_that_is_done(
    spans: Spans, hooked: Hooked
) -> None:
    hooked("Promising")
    inside: list[Any] = []

    async def fetch() -> Result:
        await asyncio.sleep(0)
        inside.append(trace.get_current_span().get_span_context().span_id)
        return Result(Outcome.NO_PDF, "no_location")

    async def main() -> None:
        before = trace.get_current_span()
        await orchestrators.Promising().resolve(CONTEXT, {"unpaywall": lambda policy, context: fetch()})
        assert trace.get_current_span() is before

    asyncio.run(main())
    (attempt,) = spans.all("fallback.attempt")
    assert inside == [attempt.context.span_id]
    assert spans.facts("fallback.attempt", sc.FALLBACK_SOURCE, sc.FALLBACK_OUTCOME) == [("unpaywall", "no_pdf")]


def test_a_module_that_is_named_but_never_imported_is_told_at_the_end() -> None:
    program = """
import retrospan_instrumentation as r
from retrospan_instrumentation import waits
r.instrument_all()
waits.drain(final=True)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, FALLBACK: "misspelt.module:Orchestrator", DOWNLOAD: "logging:getLogger"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stderr.count("misspelt.module, named for a hook, was never imported") == 1
    assert "logging" not in ran.stderr
