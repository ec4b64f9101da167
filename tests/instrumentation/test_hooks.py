"""Promises of the hooks as such: on once, off again, waiting for imports, and no fault of theirs in anybody's call."""

import asyncio
import logging
import subprocess
import sys
import textwrap
from types import FunctionType
from typing import Any

import httpx2
import pybreaker
import pyrate_limiter
import pytest
import tenacity

import retrospan_instrumentation
from origin import Answer, Origin
from retrospan_instrumentation import frames, hooks, surround
from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.httpx import HTTPX2ClientInstrumentor
from retrospan_instrumentation.pybreaker import PybreakerInstrumentor
from retrospan_instrumentation.tenacity import TenacityInstrumentor

from .conftest import Spans
from .patches import PATCHED, placed


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter, where nothing is imported yet."""
    import os

    prelude = """
        import sys
        import retrospan_instrumentation
        from retrospan_exporters.provider import provider_class
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        exporter, provider = InMemorySpanExporter(), provider_class()()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        def names(): return [span.name for span in exporter.get_finished_spans()]
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env={**os.environ, **environment},
    )


# -- on and off


def test_uninstrumented_classes_have_their_own_functions_back() -> None:
    before = placed()
    retrospan_instrumentation.instrument_all()
    assert all(now is not then for now, then in zip(placed(), before, strict=True))
    retrospan_instrumentation.uninstrument_all()
    assert all(now is then for now, then in zip(placed(), before, strict=True))


def test_each_hook_and_each_kind_of_frame_has_code_of_its_own(spans: Spans) -> None:
    """Else the interpreter would find attributes of several classes at one place, where it looks each up the slow way."""
    codes = [hook.__code__ for hook in placed() if isinstance(hook, FunctionType)]
    assert len(codes) > 15
    # Compared by identity: to be equal is not enough.
    assert len({id(code) for code in codes}) == len(codes)
    for name in ("begin", "leave", "close"):
        found = [vars(kind)[name].__code__ for kind in (frames.RetryFrame, frames.BreakerFrame, frames.AttemptFrame)]
        assert len({id(code) for code in found}) == 3


def test_instrumenting_twice_is_once(spans: Spans, origin: Origin) -> None:
    once = placed()
    retrospan_instrumentation.instrument_all(tracer_provider=spans.provider)
    HTTPX2ClientInstrumentor().instrument(tracer_provider=spans.provider)
    assert placed() == once
    with httpx2.Client() as client:
        client.get(origin.url("/"))
    assert len(spans.all()) == 1


def test_what_was_made_before_the_hooks_is_reached(origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))
    client, limiter = httpx2.Client(), pyrate_limiter.Limiter(pyrate_limiter.Rate(9, 1000))
    breaker = pybreaker.CircuitBreaker(name="a.example", throw_new_error_on_trip=False)
    get, acquire, guard = client.get, limiter.try_acquire, breaker.call  # bound before

    @tenacity.retry(stop=tenacity.stop_after_attempt(2))
    def fetch() -> Any:
        acquire("127.0.0.1")
        return guard(lambda: get(url).raise_for_status())

    recorded = Spans()
    retrospan_instrumentation.instrument_all(tracer_provider=recorded.provider)
    fetch()
    retrospan_instrumentation.uninstrument_all()
    fetch()
    client.close()
    facts = (sc.HTTP_REQUEST_RESEND_COUNT, sc.CIRCUIT_BREAKER_RECORDED)
    assert recorded.sends(*facts) == [(0, "failure"), (1, "success")]
    assert None not in recorded.sends(sc.RATE_LIMITER_DELAY_MS)


def test_a_hook_under_another_patch_lets_every_call_through_and_comes_back_once(origin: Origin) -> None:
    import wrapt

    before = vars(httpx2.Client)["_send_single_request"]
    first, second = Spans(), Spans()
    with httpx2.Client() as client:
        HTTPX2ClientInstrumentor().instrument(tracer_provider=first.provider)
        wrapt.wrap_function_wrapper(
            httpx2.Client, "_send_single_request", lambda w, i, args, kwargs: w(*args, **kwargs)
        )
        HTTPX2ClientInstrumentor().uninstrument()
        client.get(origin.url("/"))
        assert first.started == []
        HTTPX2ClientInstrumentor().instrument(tracer_provider=second.provider)
        client.get(origin.url("/"))
        assert len(second.clients()) == 1
        httpx2.Client._send_single_request = vars(httpx2.Client)["_send_single_request"].__wrapped__
        HTTPX2ClientInstrumentor().uninstrument()
    assert vars(httpx2.Client)["_send_single_request"] is before


@pytest.mark.parametrize("variable", ["RETROSPAN_DISABLED", "OTEL_SDK_DISABLED"])
def test_the_environment_switches_all_off(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    before = placed()
    monkeypatch.setenv(variable, "true")
    retrospan_instrumentation.instrument_all()
    try:
        assert all(now is then for now, then in zip(placed(), before, strict=True))
    finally:
        retrospan_instrumentation.uninstrument_all()


# -- modules that are not imported yet


def test_instrumenting_imports_none_of_the_libraries() -> None:
    ran = python("""
        retrospan_instrumentation.instrument_all(tracer_provider=provider)
        watched = {"httpx", "httpx2", "hishel", "tenacity", "pyrate_limiter", "pybreaker", "sqlite3", "asyncio"}
        print(sorted(watched & set(sys.modules) - {"asyncio", "sqlite3"}))
    """)
    assert (ran.stdout, ran.stderr) == ("[]\n", "")


def test_a_library_is_hooked_when_it_is_imported() -> None:
    ran = python("""
        retrospan_instrumentation.instrument_all(tracer_provider=provider)
        from httpx2 import Client, MockTransport, Response
        import tenacity, pybreaker
        client = Client(transport=MockTransport(lambda request: Response(200)))
        again = iter((True, False))
        policy = tenacity.Retrying(retry=tenacity.retry_if_result(lambda _: next(again)))
        policy(lambda: client.get("http://a.example/"))
        pybreaker.CircuitBreaker(name="a.example").open()
        print(names())
    """)
    assert (ran.stdout, ran.stderr) == ("['GET', 'GET', 'retry', 'circuit_breaker.state_change']\n", "")


def test_a_library_imported_after_uninstrumenting_is_left_alone() -> None:
    ran = python("""
        retrospan_instrumentation.instrument_all(tracer_provider=provider)
        retrospan_instrumentation.uninstrument_all()
        import httpx2, tenacity
        print(type(vars(httpx2.Client)["_send_single_request"]).__name__, type(vars(tenacity.Retrying)["__call__"]).__name__)
    """)
    assert (ran.stdout, ran.stderr) == ("function function\n", "")


def test_a_fault_while_hooking_does_not_fail_the_import() -> None:
    ran = python("""
        from retrospan_instrumentation.tenacity import TenacityInstrumentor
        def broken(self, module): raise LookupError("SECRET")
        TenacityInstrumentor._hook = broken
        retrospan_instrumentation.instrument_all(tracer_provider=provider)
        import tenacity
        print(tenacity.Retrying()(lambda: 7))
    """)
    assert ran.stdout == "7\n"
    assert "SECRET" not in ran.stderr
    assert ran.stderr.count("LookupError") == 1


def test_a_blocked_library_does_not_stop_the_others() -> None:
    ran = python("""
        sys.modules["httpx"] = sys.modules["tenacity"] = None
        retrospan_instrumentation.instrument_all(tracer_provider=provider)
        import httpx2
        httpx2.Client(transport=httpx2.MockTransport(lambda request: httpx2.Response(200))).get("http://a.example/")
        print(names())
    """)
    assert (ran.stdout, ran.stderr) == ("['GET']\n", "")


ALIASED = """
    import httpx
    client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200)))
    client.get("http://a.example/")
    print(httpx is httpx2, names())
    retrospan_instrumentation.uninstrument_all()
    client.get("http://a.example/")
    print(names(), type(vars(httpx2.Client)["_send_single_request"]).__name__)
"""


@pytest.mark.parametrize(
    "program",
    [
        "retrospan_instrumentation.instrument_all(tracer_provider=provider)\nimport httpx2\nhttpx2.alias_httpx()",
        "import httpx2\nretrospan_instrumentation.instrument_all(tracer_provider=provider)\nhttpx2.alias_httpx()",
        "import httpx2\nhttpx2.alias_httpx()\nretrospan_instrumentation.instrument_all(tracer_provider=provider)",
    ],
)
def test_alias_httpx_works_and_a_send_is_one_span(program: str) -> None:
    ran = python(program + textwrap.dedent(ALIASED))
    assert (ran.stdout, ran.stderr) == ("True ['GET']\n['GET'] function\n", "")


def test_an_unknown_release_is_one_warning_and_no_hook(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks, "faults", set())
    monkeypatch.setattr(TenacityInstrumentor, "versions", ">=99")
    before = placed()
    with caplog.at_level(logging.WARNING, "retrospan"):
        for _ in range(2):
            TenacityInstrumentor().instrument()
            assert placed() == before
            TenacityInstrumentor().uninstrument()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "tenacity" in record.getMessage()
    assert ">=99" in record.getMessage()


def test_the_layers_that_were_called_are_known(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surround, "layers", set())
    tenacity.Retrying()(lambda: None)
    assert surround.layers == {"retry"}
    pybreaker.CircuitBreaker().call(lambda: None)
    asyncio.run(pyrate_limiter.Limiter(pyrate_limiter.Rate(1, 1)).try_acquire_async("k"))
    assert surround.layers == {"retry", "breaker", "limiter"}


def test_an_instrumentor_alone_hooks_its_library_alone() -> None:
    before = placed()
    recorded = Spans()
    PybreakerInstrumentor().instrument(tracer_provider=recorded.provider)
    try:
        changed = {owner for (owner, _), now, then in zip(PATCHED, placed(), before, strict=True) if now is not then}
    finally:
        PybreakerInstrumentor().uninstrument()
    assert changed == {pybreaker.CircuitBreaker, pybreaker.CircuitBreakerState, pybreaker.CircuitOpenState}
