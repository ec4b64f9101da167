"""The HTTP clients: one with a cache for questions, one without for PDFs; httpx2 or httpx, sync or async.

    library = load(settings)                            # the module httpx2 or httpx
    with sync_clients(library, settings) as clients:
        clients.cached.get(url); clients.plain.get(pdf_url)

The cache (hishel, SQLite) follows RFC 9111 and outlives the run. The chosen library alone is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import hishel

from .settings import Settings

if TYPE_CHECKING:
    import httpx2  # stands for httpx too: the same shapes

CACHE_FILE = "http-cache.sqlite"

ClientT = TypeVar("ClientT")


@dataclass(frozen=True)
class Clients(Generic[ClientT]):
    """`cached` for APIs and landing pages, `plain` for PDFs, which a cache would only hold twice."""

    cached: ClientT
    plain: ClientT


def load(settings: Settings) -> Any:
    """The HTTP library."""
    return importlib.import_module(settings.client)


@contextmanager
def sync_clients(library: Any, settings: Settings) -> Iterator[Clients[httpx2.Client]]:
    """Both clients, open."""
    caching = importlib.import_module(f"hishel.{settings.client}")
    storage = hishel.SqliteStorage(database_path=_cache_file(settings))
    options = _options(library, settings)
    with caching.CacheClient(storage=storage, rfc=True, **options) as cached, library.Client(**options) as plain:
        yield Clients(cached, plain)


@asynccontextmanager
async def async_clients(library: Any, settings: Settings) -> AsyncIterator[Clients[httpx2.AsyncClient]]:
    """Both clients, open."""
    caching = importlib.import_module(f"hishel.{settings.client}")
    storage = hishel.AsyncSqliteStorage(database_path=_cache_file(settings))
    options = _options(library, settings)
    async with (
        caching.AsyncCacheClient(storage=storage, rfc=True, **options) as cached,
        library.AsyncClient(**options) as plain,
    ):
        yield Clients(cached, plain)


def _options(library: Any, settings: Settings) -> dict[str, Any]:
    connections = 2 * settings.concurrency  # one for each thread that may ask, kept open between its requests
    return {
        "headers": {"User-Agent": settings.user_agent},
        "timeout": library.Timeout(settings.timeout),
        "limits": library.Limits(max_connections=connections, max_keepalive_connections=connections),
        "follow_redirects": False,  # each hop is another host's request: `fetch` follows, under that host's guards
    }


def _cache_file(settings: Settings) -> Path:
    settings.out.mkdir(parents=True, exist_ok=True)
    return settings.out.resolve() / CACHE_FILE
