"""What is fetched, and what the server answers: a table in which every column of a row takes what it can.

script(origin)                         # the answers, at their paths
for fetch in FETCHES:
    origin.url(fetch.path)
"""

from dataclasses import dataclass
from typing import Any

from origin import Answer, Origin

JSON, HTML, PDF = (
    {"content-type": kind} for kind in ("application/json", "text/html; charset=utf-8", "application/pdf")
)
BODY = b"%PDF-1.7 " + b"0123456789" * 400
NOBODY = "http://127.0.0.1:9/"  # where nothing listens


@dataclass(frozen=True)
class Fetch:
    """One request of a program, and what is special about it."""

    path: str
    method: str = "GET"
    content: bytes | None = None
    role: str | None = None  # that the program says
    reading: str = "all"  # all | some | none: dropped unread and unclosed
    is_stale: bool = False  # what a cache has of it is past its lifetime
    # The limiter grants one in a while; `once`, `poll`: somebody else was first, and so the program gives up, or asks on.
    is_limited: bool = False
    patience: str = "block"  # block | once | poll
    breaker: str = "closed"  # the breaker's state before
    says_count: bool = False  # the program writes into a header how often it has asked, as SDKs do
    asks_who: bool = False  # answers a 401 by sending the request again, as an auth flow does

    def facts(self) -> dict[str, Any]:
        return {"method": self.method, "role": self.role, "is_stale": self.is_stale}


def _busy(status: int, **headers: str) -> Answer:
    return Answer(
        status, body=b'{"busy": true}', headers={**JSON, **{k.replace("_", "-"): v for k, v in headers.items()}}
    )


def _kept(control: str, etag: str = '"v1"') -> Answer:
    return Answer(body=b'{"work": 1}', headers={**JSON, "cache-control": control}, etag=etag)


_PDF, _MUST_ASK = Answer(body=BODY, headers=PDF), _kept("max-age=0, must-revalidate")

ANSWERS = {
    "/busy": [_busy(429, retry_after="2"), _busy(503, retry_after="1"), Answer(headers=JSON)],
    "/kept": [_kept("max-age=60")],
    "/confirmed": [_MUST_ASK, _busy(503), _MUST_ASK],
    "/stale": [_kept("max-age=0")],
    "/broken": [Answer(body=BODY, headers=PDF, cut=20), _PDF],
    "/reset": [Answer(body=BODY, headers=PDF, cut=20, reset=True), _PDF],
    "/moved": [Answer(302, body=b"there", headers={**HTML, "location": "landing"})],
    "/landing": [Answer(body=b"<html>", headers=HTML)],
    "/gone": [Answer(404, body=b"<html>", headers=HTML)],
    "/asked": [_busy(503), _PDF],
    "/counted": [_busy(503), Answer(headers=JSON)],
    "/guarded": [Answer(401, headers=JSON), Answer(headers=JSON)],
    "/guarded-and-down": [Answer(401, headers=JSON), _busy(503), Answer(headers=JSON)],
    "/empty": [Answer(204)],
    "/posted": [_busy(503), Answer(201, headers=JSON)],
    "/down": [_busy(503)],
    "/file": [_PDF],
    **{key: [Answer(headers=JSON)] for key in ("/polled", "/refused", "/open", "/tried")},
}

FETCHES = (
    Fetch("/busy", is_limited=True),
    Fetch("/kept"),
    Fetch("/kept"),
    Fetch("/confirmed"),
    Fetch("/confirmed"),
    Fetch("/stale"),
    Fetch("/stale", is_stale=True),
    Fetch("/broken"),
    Fetch("/reset", role="artifact"),
    Fetch("/moved"),
    Fetch("/gone"),
    Fetch("/file", method="HEAD"),
    Fetch("/asked", method="HEAD"),
    Fetch("/counted", says_count=True),
    Fetch("/guarded", asks_who=True),
    Fetch("/guarded-and-down", asks_who=True),
    Fetch("/empty"),
    Fetch("/posted", method="POST", content=b'{"question": 1}', role="metadata"),
    Fetch("/file?page=1&key=SECRET", reading="some"),
    Fetch("/file?page=2", reading="none"),
    Fetch("/polled", is_limited=True, patience="poll"),
    Fetch("/refused", is_limited=True, patience="once"),
    Fetch(NOBODY),
    Fetch("/down"),
    Fetch("/open", breaker="open"),
    Fetch("/tried", breaker="half_open"),
)


def script(origin: Origin, name: str) -> str:
    """Answer so under this name's own paths; returns their base URL."""
    for path, answers in ANSWERS.items():
        origin.script(f"/{name}{path}", *answers)
    return origin.url(f"/{name}")
