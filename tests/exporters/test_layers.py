"""What a collector is told of the layers that a process entered."""

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from retrospan_exporters import layers
from retrospan_exporters.layers import LayersToo
from retrospan_exporters.run import entered_layers
from retrospan_instrumentation import emit, surround
from retrospan_instrumentation import semconv as sc


@pytest.fixture
def provider(monkeypatch):
    monkeypatch.setattr(surround, "layers", {"http"})
    provider = TracerProvider(shutdown_on_exit=False)
    emit.use(provider)
    yield provider
    provider.shutdown()
    emit.use(None)


def told(kept):
    return [span.attributes[sc.RETROSPAN_LAYERS] for span in kept.get_finished_spans() if span.name == sc.SPAN_LAYERS]


def test_layers_are_told_with_the_first_span_and_when_there_is_one_more(provider):
    kept = InMemorySpanExporter()
    provider.add_span_processor(LayersToo(kept))
    tracer = provider.get_tracer("test")
    for entered in ("http", "http", "limiter", "limiter"):
        surround.layers.add(entered)
        tracer.start_span("GET").end()
    provider.force_flush()
    assert told(kept) == ["http", "http,limiter"]


def test_what_was_entered_is_looked_at_when_there_is_one_more_and_not_for_each_span(provider, monkeypatch):
    asked = []
    monkeypatch.setattr(layers, "entered_layers", lambda: asked.append(1) or entered_layers())
    kept = InMemorySpanExporter()
    provider.add_span_processor(LayersToo(kept))
    for name in ("http", "no layer of a record", "limiter"):
        surround.layers.add(name)
        for _ in range(20):
            provider.get_tracer("test").start_span("GET").end()
    provider.force_flush()
    assert len(asked) == 3
    assert told(kept) == ["http", "http,limiter"]


def test_a_layer_entered_after_the_last_span_is_told_at_the_end(provider):
    kept = InMemorySpanExporter()
    provider.add_span_processor(LayersToo(kept))
    provider.get_tracer("test").start_span("GET").end()
    surround.layers.add("breaker")
    provider.shutdown()
    assert told(kept) == ["http", "http,breaker"]


def test_a_process_without_a_span_tells_nothing(provider):
    kept = InMemorySpanExporter()
    provider.add_span_processor(LayersToo(kept))
    provider.shutdown()
    assert kept.get_finished_spans() == ()
