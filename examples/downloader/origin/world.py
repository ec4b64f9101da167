"""What every handler shares: the plan, the addresses, and what was asked before.

    world = World(Plan(300, 7), {"unpaywall": "http://127.0.0.2:4001", ...})
    world.first("reset", 12)    # True the first time only

What is to happen is said in `plan`, made to happen by the handlers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from email.utils import formatdate
from time import time

from starlette.requests import Request
from starlette.responses import Response

from .access_log import note
from .plan import VERSIONS, Plan

ADDRESSES = {
    "unpaywall": "127.0.0.2",
    "crossref": "127.0.0.3",
    "doi": "127.0.0.4",
    "publisher-a": "127.0.0.5",
    "publisher-b": "127.0.0.6",
    "cdn": "127.0.0.7",
    "repository": "127.0.0.8",
    "mirror": "127.0.0.9",
}
THINKING_S = 0.02  # what an answer costs a server at least


class World:
    """The plan, the base URL of every service, and the counts behind what happens once."""

    def __init__(self, plan: Plan, urls: Mapping[str, str]) -> None:
        self.plan, self.urls = plan, urls
        self._asked: Counter[tuple[str, int]] = Counter()

    def ordinal(self, what: str, number: int = 0) -> int:
        """How often this was asked before."""
        before = self._asked[what, number]
        self._asked[what, number] += 1
        return before

    def first(self, what: str, number: int) -> bool:
        return self.ordinal(what, number) == 0

    def file_url(self, artifact: int) -> str:
        """The first address of an artifact: the publisher's for `vor` and `cvor`, else the repository's."""
        work, version = divmod(artifact, len(VERSIONS))
        return f"{self.urls[publisher_of(work) if version < 2 else 'repository']}/pdf/{artifact}.pdf"

    def throttled(self, number: int) -> Response:
        """429 with one of the forms of Retry-After."""
        wanted = self.plan.retry_after(number)
        value = formatdate(time() + 1, usegmt=True) if wanted == "date" else wanted
        return Response("slow down", 429, {"Retry-After": value})


async def received(request: Request, service: str, work: int | None, artifact: int | None = None) -> None:
    """Every handler's first line: tells the access log what this is about, and takes a server's time."""
    note(request.scope, service=service, work=work, artifact=artifact)
    await asyncio.sleep(THINKING_S)


def publisher_of(work: int) -> str:
    return "publisher-b" if work % 2 else "publisher-a"
