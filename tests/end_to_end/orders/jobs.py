"""A job: one program's stack, which fetches all there is.

done = await job(stack, base, tracer)
done[0].url, done[0].seen
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from opentelemetry.trace import Tracer

from .fetches import FETCHES
from .layers import Go, Stack
from .seen import Seen

Elsewhere = Callable[[Go], Awaitable[Any]]


class Done(NamedTuple):
    """A fetch of this URL, and what was seen of it."""

    url: str
    seen: Seen


async def job(
    stack: Stack, base: str, tracer: Tracer, later: Elsewhere | None = None, by: Elsewhere = lambda go: go()
) -> list[Done]:
    """Fetch all from the server scripted at this base URL; `later` reads bodies elsewhere, `by` does each fetch elsewhere."""

    async def read(response: Any) -> None:
        assert later is not None
        await later(lambda: stack.http.read(response))

    done = []
    for fetch in FETCHES:
        url = fetch.path if "://" in fetch.path else base + fetch.path
        seen = await by(lambda: stack.fetch(fetch, url, tracer, read if later else None))  # noqa: B023  # awaited at once
        done.append(Done(url, seen))
    await stack.close()
    return done
