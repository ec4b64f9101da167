"""The endpoint of the watched process, without the process: what it is asked for, and what it says when it cannot serve."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from scrapes import free_port, scrape

from origin import Origin
from retrospan.prometheus import endpoint
from retrospan_instrumentation import metrics, waits
from retrospan_instrumentation.httpx import HTTPX2ClientInstrumentor

HOST, PORT = "OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT"


@pytest.fixture
def provider() -> Iterator[MeterProvider]:
    provider = MeterProvider(shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.mark.parametrize(
    ("asked", "inside", "is_asked"),
    [
        (None, None, False),
        ("", "", False),
        ("otlp", "otlp", False),
        ("prometheus_remote_write", "prometheus_remote_write", False),
        ("prometheus", "none", True),
        (" prometheus , otlp", "otlp", True),
        ("console,prometheus,,otlp", "console,otlp", True),
    ],
)
def test_the_sdk_does_not_see_what_is_served_here(
    monkeypatch: pytest.MonkeyPatch, asked: str | None, inside: str | None, is_asked: bool
) -> None:
    if asked is None:
        monkeypatch.delenv("OTEL_METRICS_EXPORTER", raising=False)
    else:
        monkeypatch.setenv("OTEL_METRICS_EXPORTER", asked)
    with pytest.raises(LookupError), endpoint.asked_for() as found:
        assert (found, os.environ.get("OTEL_METRICS_EXPORTER")) == (is_asked, inside)
        raise LookupError
    assert os.environ.get("OTEL_METRICS_EXPORTER") == asked


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({HOST: "192.0.2.1", PORT: "9464"}, "192.0.2.1:9464: Cannot assign requested address ("),
        ({HOST: "no host"}, f"{HOST}='no host' is no address of this machine."),
        ({HOST: "a" * 70 + ".example"}, f"{HOST}='{'a' * 70}.example' is no address of this machine."),
        ({PORT: "http"}, f"{PORT}='http' is no port, which is a number from 1 to 65535."),
        ({PORT: "0"}, f"{PORT}='0' is no port,"),
        ({PORT: "65536"}, f"{PORT}='65536' is no port,"),
        ({PORT: "-1"}, f"{PORT}='-1' is no port,"),
    ],
)
def test_where_nothing_can_be_served_one_warning_says_why(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    provider: MeterProvider,
    variables: dict[str, str],
    told: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert endpoint.serve(provider) is None
    (message,) = caplog.messages
    assert message.startswith(f"The metrics endpoint cannot be opened: {told}")
    assert message.endswith("This process has none.")


def test_a_provider_of_another_kind_is_told_and_takes_no_port(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    monkeypatch.setenv(PORT, str(port))
    assert endpoint.serve(NoOpMeterProvider()) is None
    assert "has set a meter provider that takes no reader" in caplog.text
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


def test_the_hooks_see_an_endpoint_that_comes_after_the_first_request(
    monkeypatch: pytest.MonkeyPatch, provider: MeterProvider, origin: Origin
) -> None:
    import httpx2

    port = free_port()
    monkeypatch.setenv(PORT, str(port))
    monkeypatch.setattr(metrics, "_LOOKS_APART", 0)
    monkeypatch.setattr(waits, "SWEEPS_APART", 0)
    hooks: Any = HTTPX2ClientInstrumentor()
    hooks.instrument()
    metrics.use(provider)
    try:
        httpx2.get(origin.url("/unheard"))
        assert metrics.live is None
        server = endpoint.serve(provider)
        assert server is not None
        httpx2.get(origin.url("/heard"))
        assert scrape(port).of("http_client_request_duration_seconds_count", "server_address") == {("127.0.0.1",): 1}
        server.shutdown()
        server.server_close()
    finally:
        metrics.use(None)
        hooks.uninstrument()
