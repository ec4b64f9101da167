"""A record that does not hold every row: which numbers stay as they are, and what is said where they cannot."""

import json
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from retrospan.record import read
from retrospan.slo.gate import judge_run
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_instrumentation import semconv as sc

from .commands import retrospan
from .records import RUN, healthy, making


@pytest.fixture
def spans():
    """A run in which every layer had something to do: 120 artifacts, a few waits, a refusal, an opened breaker."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("tests")

    def emit(name, kind=SpanKind.INTERNAL, delays=(), **attributes):
        made = tracer.start_span(name, kind=kind, attributes=attributes)
        for delay in delays:
            made.add_event(sc.RATE_LIMITER_ACQUIRE, {sc.RATE_LIMITER_DELAY_MS: delay, sc.HTTP_REQUEST_ROLE: "metadata"})
        made.end()

    for number in range(120):
        artifact = {sc.DOWNLOAD_ARTIFACT_ID: f"10.1/{number}"}
        delay = 400 if number % 10 == 0 else 0
        emit(
            "GET",
            SpanKind.CLIENT,
            (0, delay),
            **{
                sc.HTTP_REQUEST_METHOD: "GET",
                sc.HTTP_RESPONSE_STATUS_CODE: 429 if number == 7 else 200,
                sc.HTTP_REQUEST_ROLE: "metadata",
                sc.HTTP_CACHE_HIT: number % 3 == 0,
                sc.HTTP_REQUEST_WIRE: number % 3 != 0,
                sc.HTTP_REQUEST_HOP_LAST: True,
                sc.RATE_LIMITER_DELAY_MS: delay,
            },
        )
        emit(sc.SPAN_FALLBACK_ATTEMPT, **artifact, **{sc.FALLBACK_OUTCOME: "success"})
        stored = {sc.DOWNLOAD_SHA256: f"{number:064x}", sc.DOWNLOAD_FINAL_PATH: f"{number}.pdf"}
        emit(sc.SPAN_DOWNLOAD, **artifact, **stored, **{sc.DOWNLOAD_OUTCOME: "stored", sc.DOWNLOAD_CONTENT_LENGTH: 9})
    emit(sc.RATE_LIMITER_BLOCK, **{sc.HTTP_REQUEST_ROLE: "metadata"})
    emit(sc.BREAKER_STATE_CHANGE, **{sc.CIRCUIT_BREAKER_OLD_STATE: "closed", sc.CIRCUIT_BREAKER_NEW_STATE: "open"})
    return kept.get_finished_spans()


def write(path, spans):
    exporter = SQLiteSpanExporter(path, "R")
    exporter.has_own_processor = True
    exporter.export(spans)
    exporter.release()


def test_the_eight_indicators_are_the_same_when_rate_events_are_thinned(path, tmp_path, spans, monkeypatch):
    write(path, spans)
    thinned = tmp_path / "thinned.sqlite"
    monkeypatch.setenv("RETROSPAN_SAMPLE", "rate_events:0.05")
    write(thinned, spans)
    counts = [
        read(file, lambda record: record.rows("SELECT COUNT(*) FROM rate_events")[0][0]) for file in (path, thinned)
    ]
    assert counts[0] == 241
    assert 13 <= counts[1] < 60  # what waited or was refused, and a few of the others
    full, sampled = (judge_run(file, "R").results for file in (path, thinned))
    assert [result.slo.name for result in full if result.verdict in ("pass", "fail")] == [
        "yield", "ttfp_p50", "ttfp_p95", "cache_hit", "rate_delay_p95", "breaker_opens", "corruption",
    ]  # fmt: skip
    assert sampled == full


def test_a_verdict_on_a_sampled_run_warns_and_says_by_which_sampler(path):
    with making(path) as record:
        record.run(sampler="ParentBased{root:TraceIdRatioBased{0.1}}")
        healthy(record)
    text, js = (retrospan("slo", "--db", path, "--format", form) for form in ("text", "json"))
    warning = (
        f"retrospan: {path}: run {RUN} holds what the sampler ParentBased{{root:TraceIdRatioBased{{0.1}}}} let through: counts"
        " are too low, and shares and percentiles those of a sample\n"
    )
    assert text.stderr == js.stderr == warning
    assert json.loads(js.stdout)["sampler"] == "ParentBased{root:TraceIdRatioBased{0.1}}"
    assert text.returncode == 0  # a warning is no verdict


def test_a_verdict_on_a_run_of_which_all_was_kept_warns_of_nothing(path):
    with making(path) as record:
        record.run()
        healthy(record)
    finished = retrospan("slo", "--db", path, "--format", "json")
    assert finished.stderr == ""
    assert json.loads(finished.stdout)["sampler"] is None


def test_the_launcher_warns_too(path, tmp_path):
    (tmp_path / "program.py").write_text("pass")
    sampled = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}
    finished = retrospan("run", "--db", path, "--slo", "--", sys.executable, tmp_path / "program.py", **sampled)
    assert "holds what the sampler TraceIdRatioBased{0.25} let through" in finished.stderr
