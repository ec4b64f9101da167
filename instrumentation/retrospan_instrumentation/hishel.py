"""Record what a hishel cache answers: from storage, revalidated, stale.

    from retrospan_instrumentation.hishel import HishelInstrumentor
    HishelInstrumentor().instrument()

Hooks `handle_request` of hishel's transports (0.1.5, 1.x, 2.x, for httpx and httpx2) and writes what the response says of
itself into the request's frame. hishel's own word for stale is missing in every version: it follows from Age and lifetime.
"""

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from time import time_ns
from types import ModuleType
from typing import Any

from . import frames
from .frames import CacheAnswer, HTTPFrame
from .hooks import LibraryInstrumentor
from .surround import Call

_CLASSES = ("CacheTransport", "SyncCacheTransport", "AsyncCacheTransport")


class HishelInstrumentor(LibraryInstrumentor):
    """Hooks hishel's cache transports."""

    layer, distribution, versions = "cache", "hishel", ">=0.1.5,<3"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return dict.fromkeys(("hishel", "hishel.httpx", "hishel.httpx2"), self._hook)

    def _hook(self, module: ModuleType) -> None:
        for name in _CLASSES:
            transport = module.__dict__.get(name)
            if transport is not None:
                self.wrap(transport, "handle_request", _enter)
                self.wrap(transport, "handle_async_request", _enter, asynchronous=True)


class _CacheCall(Call):
    def __init__(self, hop: HTTPFrame) -> None:
        self._hop = hop
        hop.cache_started, hop.cache = time_ns(), None

    def returned(self, result: Any) -> Any:
        self._hop.cache = answer_of(result)
        return result

    def raised(self, error: BaseException) -> None:
        pass


def _enter(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
    hop = frames.current_hop()
    return _CacheCall(hop) if hop is not None and hop.is_open else None


def answer_of(response: Any) -> CacheAnswer:
    """What a response says of its cache, by any of hishel's spellings."""
    extensions = response.extensions
    said = extensions.get("caching") or {}
    hit = bool(said.get("from_cache") or extensions.get("hishel_from_cache") or extensions.get("from_cache"))
    confirmed = bool(said.get("revalidated") or extensions.get("hishel_revalidated") or extensions.get("revalidated"))
    # A 200 that answered a conditional request is called revalidated too; only what came from the cache is.
    revalidated = hit and confirmed
    return CacheAnswer(hit, revalidated, is_stale(response.headers) if hit and not revalidated else False)


def is_stale(headers: Any) -> bool | None:
    """Whether a stored response is past its lifetime (RFC 9111, 4.2); None when Age or lifetime are not there."""
    age, lifetime = _whole(headers.get("age")), _lifetime(headers)
    return None if age is None or lifetime is None else age >= lifetime


def _lifetime(headers: Any) -> float | None:
    for directive in (headers.get("cache-control") or "").lower().split(","):
        name, _, value = directive.strip().partition("=")
        if name == "max-age" and (seconds := _whole(value.strip('"'))) is not None:
            return seconds
    try:
        return (parsedate_to_datetime(headers["expires"]) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return None


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
