"""An application for gunicorn and uvicorn that ends a span for every request: of `/7`, with 7 as its status."""

from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind


def end_span(path: str) -> None:
    attributes = {"http.request.method": "GET", "http.response.status_code": int(path.strip("/"))}
    trace.get_tracer("served").start_span("GET", kind=SpanKind.CLIENT, attributes=attributes).end()


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    end_span(environ["PATH_INFO"])
    return [b""]


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    end_span(scope["path"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
