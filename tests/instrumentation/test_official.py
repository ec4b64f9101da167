"""Promise: with the official HTTP instrumentation active too, each send is still one span."""

from typing import Any

import pytest
from opentelemetry.instrumentation import httpx as official_package

import retrospan_instrumentation
from origin import Origin

from .conftest import Spans
from .patches import placed
from .scenario import HTTP, call


def official_for(http: HTTP) -> Any:
    name = "HTTPX2ClientInstrumentor" if http.library == "httpx2" else "HTTPXClientInstrumentor"
    return getattr(official_package, name)()


@pytest.mark.parametrize("ours_first", [True, False])
def test_with_the_official_instrumentation_a_send_is_still_one_span(
    http: HTTP, origin: Origin, ours_first: bool
) -> None:
    official = official_for(http)
    recorded, before = Spans(), placed()

    def ours() -> None:
        retrospan_instrumentation.instrument_all(tracer_provider=recorded.provider)

    def theirs() -> None:
        official.instrument(tracer_provider=recorded.provider)

    async def scenario() -> None:
        client = http.client()
        await call(client.get(origin.url("/")))
        with pytest.raises(http.module.ConnectError):
            await call(client.get("http://127.0.0.1:9/"))
        await call(http.close(client))

    for instrument in (ours, theirs) if ours_first else (theirs, ours):
        instrument()
    try:
        http.run(scenario())
    finally:
        official.uninstrument()
        retrospan_instrumentation.uninstrument_all()
    assert [span.instrumentation_scope.name for span in recorded.clients() if span.instrumentation_scope] == [
        "retrospan_instrumentation"
    ] * 2
    assert origin.log[0].span_id == f"{recorded.clients()[0].context.span_id:016x}"
    if ours_first:
        assert all(now is then for now, then in zip(placed(), before, strict=True))


def test_a_raw_transport_suppresses_an_official_instrumentation_under_it(http: HTTP, origin: Origin) -> None:
    official = official_for(http)
    recorded = Spans()

    async def scenario() -> None:
        transport = http.wire()
        response = await call(http.handle(transport, http.module.Request("GET", origin.url("/"))))
        await http.read(response)
        await call(http.close(response))
        await call(http.close(transport))

    official.instrument(tracer_provider=recorded.provider)
    retrospan_instrumentation.instrument_all(tracer_provider=recorded.provider)
    try:
        http.run(scenario())
    finally:
        official.uninstrument()
        retrospan_instrumentation.uninstrument_all()
    assert [span.instrumentation_scope.name for span in recorded.clients() if span.instrumentation_scope] == [
        "retrospan_instrumentation"
    ]
