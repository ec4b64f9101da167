"""The PDFs: sound copies, and first addresses that deliver as the plan says.

    routes = files(world)       # {"publisher-a": [...], "publisher-b": [...], "repository": [...], "cdn": [...], ...}

What goes wrong goes wrong with GET; HEAD tells the truth, but for what is no file at all (gone, wall, the outage).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .breakage import cut, reset
from .pdf import pdf_of
from .plan import VERSIONS, artifact_of
from .world import World, publisher_of, received

LOGIN = "<!doctype html><html><body><h1>Please log in</h1></body></html>"
SLOW_S = 0.4
DROP_BYTES = 8_192
PDF = "application/pdf"

_content = lru_cache(maxsize=512)(pdf_of)


def files(world: World) -> dict[str, list[Route]]:
    """The routes of everything that holds PDFs."""

    async def first_address(request: Request) -> Response:
        artifact = request.path_params["artifact"]
        work, version = divmod(artifact, len(VERSIONS))
        service = publisher_of(work) if version < 2 else "repository"
        await received(request, service, work, artifact)
        if service == "publisher-b" and world.plan.outage(world.ordinal("publisher-b files")):
            return Response("out of order", 500)
        manner = world.plan.delivery(artifact)
        if manner in _GET_ONLY and request.method == "HEAD":
            manner = "fine"
        if manner in _ONCE and not world.first(manner, artifact):
            manner = "fine"
        return DELIVERIES[manner](world, artifact)

    def sound(service: str) -> Callable[[Request], Awaitable[Response]]:
        async def handler(request: Request) -> Response:
            artifact = request.path_params["artifact"]
            await received(request, service, artifact // len(VERSIONS), artifact)
            return _fine(world, artifact)

        return handler

    async def article(request: Request) -> Response:
        work = request.path_params["work"]
        artifact = artifact_of(work, "vor")
        await received(request, "mirror", work, artifact)
        return _fine(world, artifact)

    delivered = Route("/pdf/{artifact:int}.pdf", first_address)
    return {
        "publisher-a": [delivered],
        "publisher-b": [delivered],
        "repository": [delivered, Route("/copy/{artifact:int}.pdf", sound("repository"))],
        "cdn": [Route("/content/{artifact:int}.pdf", sound("cdn"))],
        "mirror": [Route("/articles/{work:int}", article)],
    }


def _bytes(world: World, artifact: int) -> bytes:
    return _content(world.plan.content(artifact))


def _fine(world: World, artifact: int) -> Response:
    body = _bytes(world, artifact)
    etag = '"' + hashlib.sha256(body).hexdigest()[:16] + '"'
    return Response(body, headers={"ETag": etag, "Cache-Control": "max-age=86400"}, media_type=PDF)


class Slow(Response):
    """A PDF whose headers take a while, and whose body comes in drops."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(SLOW_S)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        for start in range(0, len(body), DROP_BYTES):
            await asyncio.sleep(SLOW_S / 10)
            more = start + DROP_BYTES < len(body)
            await send({"type": "http.response.body", "body": body[start : start + DROP_BYTES], "more_body": more})


def _no_eof(world: World, artifact: int) -> Response:
    return Response(_bytes(world, artifact)[:-300], media_type=PDF)


class Broken(Response):
    """A PDF of which only `sent` bytes come (None: not even the headers) before `end` breaks the connection."""

    def __init__(self, body: bytes, sent: int | None, end: Callable[[Scope], Awaitable[None]]) -> None:
        super().__init__(body, media_type=PDF)
        self.sent, self.end = sent, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.sent is not None:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            body = bytes(self.body)[: self.sent]
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await self.end(scope)


_ONCE = ("throttled", "flaky", "reset", "hang_up")
_GET_ONLY = (*_ONCE, "slow", "cut")
DELIVERIES: dict[str, Callable[[World, int], Response]] = {
    "fine": _fine,
    "moved": lambda world, artifact: RedirectResponse(f"{world.urls['cdn']}/content/{artifact}.pdf", 302),
    "slow": lambda world, artifact: Slow(_bytes(world, artifact), media_type=PDF),
    "throttled": lambda world, artifact: world.throttled(artifact),
    "flaky": lambda world, artifact: Response("try again", 503),
    "reset": lambda world, artifact: Broken(_bytes(world, artifact), 1_000, reset),
    "hang_up": lambda world, artifact: Broken(b"", None, reset),
    "cut": lambda world, artifact: Broken(_bytes(world, artifact), 1_000, cut),
    "no_eof": _no_eof,
    "html": lambda world, artifact: Response(LOGIN, media_type=PDF),
    "wall": lambda world, artifact: HTMLResponse(LOGIN),
    "gone": lambda world, artifact: HTMLResponse("<h1>Not here</h1>", 404),
}
