"""The origin's own account: one JSON line a request received, flushed at once, written when its answer has ended.

    app = AccessLog(app, open("access.jsonl", "a"))

Keys: `start`, `finish` (wall clock, s), `service`, `host`, `port` (the address the request came in at), `method`,
`path`, `status` (null when no header was sent), `end` (complete, cut, reset or gone: the client left), `bytes` of
body sent, `traceparent` (the request's header or null), `work` and `artifact` (numbers, null where there is none).
Handlers add what they know by `note(scope, ...)`.
"""

from __future__ import annotations

import json
import time
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_NOTES = "origin.notes"


def note(scope: Scope, **facts: Any) -> None:
    """Adds facts to the line of this request."""
    scope[_NOTES].update(facts)


class AccessLog:
    """ASGI middleware; outermost, so that it sees what is really sent."""

    def __init__(self, app: ASGIApp, stream: TextIO) -> None:
        self.app, self.stream = app, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host, port = scope["server"]
        traceparent = dict(scope["headers"]).get(b"traceparent")
        line: dict[str, Any] = {
            "start": time.time(),
            "finish": None,
            "service": None,
            "host": host,
            "port": port,
            "method": scope["method"],
            "path": scope["path"],
            "status": None,
            "end": "gone",
            "bytes": 0,
            "traceparent": traceparent.decode("latin-1") if traceparent else None,
            "work": None,
            "artifact": None,
        }
        scope[_NOTES] = line

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                line["status"] = message["status"]
            else:
                line["bytes"] += len(message.get("body", b"")) if scope["method"] != "HEAD" else 0
                if not message.get("more_body", False):
                    line["end"] = "complete"
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            line["finish"] = time.time()
            self.stream.write(json.dumps(line) + "\n")
            self.stream.flush()
