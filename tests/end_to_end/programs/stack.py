"""A downloader's whole stack, run under a launcher: attempt > retry > breaker > limiter > client with a cache.

    opentelemetry-instrument python stack.py '{"mode": "sync", "library": "httpx2", "retries": "outside", ...}'

It keeps its own counters, outside of what is under test, and prints them as JSON. `retries: "inside"` has them in a transport
under the cache. The settings name the servers and a folder for files and cache.
"""

import asyncio
import hashlib
import importlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pybreaker
import tenacity
from hishel import AsyncSqliteStorage, SqliteStorage
from pyrate_limiter import Duration, Limiter, Rate

import retrospan

SETTINGS = json.loads(sys.argv[1])
IS_ASYNC = SETTINGS["mode"] == "asyncio"
httpx = importlib.import_module(SETTINGS["library"])
cache = importlib.import_module(f"hishel.{SETTINGS['library']}")
FOLDER = Path(SETTINGS["folder"])
seen: dict[str, Counter[str]] = {
    "attempts": Counter(),
    "refusals": Counter(),
    "openings": Counter(),
    "granted": Counter(),
}
stored: set[str] = set()


class Refused(Exception):
    pass


class Counting(pybreaker.CircuitBreakerListener):
    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        if new_state.name == "open":
            seen["openings"][cb.name] += 1


def is_worth_a_retry(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


POLICY: dict[str, Any] = {
    "stop": tenacity.stop_after_attempt(4),
    "wait": tenacity.wait_fixed(0.01),
    "retry": tenacity.retry_if_exception(is_worth_a_retry),
    "reraise": True,
}
ATTEMPTS_INSIDE = 3


class RetryTransport(httpx.BaseTransport):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def handle_request(self, request: Any) -> Any:
        for _ in range(ATTEMPTS_INSIDE - 1):
            response = self.inner.handle_request(request)
            if response.status_code != 429 and response.status_code < 500:
                return response
            response.close()
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


class AsyncRetryTransport(httpx.AsyncBaseTransport):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def handle_async_request(self, request: Any) -> Any:
        for _ in range(ATTEMPTS_INSIDE - 1):
            response = await self.inner.handle_async_request(request)
            if response.status_code != 429 and response.status_code < 500:
                return response
            await response.aclose()
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


def make_client() -> Any:
    inside = SETTINGS["retries"] == "inside"
    path = FOLDER / "cache.db"
    if IS_ASYNC:
        wire: Any = httpx.AsyncHTTPTransport()
        wire = AsyncRetryTransport(wire) if inside else wire
        storage = AsyncSqliteStorage(database_path=path)
        return httpx.AsyncClient(transport=cache.AsyncCacheTransport(wire, storage=storage, rfc=True))
    wire = httpx.HTTPTransport()
    wire = RetryTransport(wire) if inside else wire
    return httpx.Client(transport=cache.CacheTransport(wire, storage=SqliteStorage(database_path=path), rfc=True))


limiter = Limiter(Rate(200, Duration.SECOND))
quota = Limiter(Rate(6, Duration.DAY))
breakers: dict[str, pybreaker.CircuitBreaker] = {}


def breaker(host: str) -> pybreaker.CircuitBreaker:
    if host not in breakers:
        breakers[host] = pybreaker.CircuitBreaker(fail_max=4, reset_timeout=60, name=host, listeners=[Counting()])
    return breakers[host]


def acquire_quota(key: str) -> None:
    if not quota.try_acquire(key, blocking=False):
        seen["refusals"][key] += 1
        raise Refused
    seen["granted"][key] += 1


def fetch(client: Any, host: str, key: str, url: str) -> Any:
    def guarded() -> Any:
        limiter.try_acquire(key)
        seen["granted"][key] += 1
        response = client.get(url)
        response.raise_for_status()
        return response

    call = tenacity.Retrying(**POLICY) if SETTINGS["retries"] == "outside" else lambda function: function()
    return call(lambda: breaker(host).call(guarded))


async def fetch_async(client: Any, host: str, key: str, url: str) -> Any:
    async def guarded() -> Any:
        with breaker(host).calling():
            await limiter.try_acquire_async(key)
            seen["granted"][key] += 1
            response = await client.get(url)
            response.raise_for_status()
            return response

    if SETTINGS["retries"] == "outside":
        return await tenacity.AsyncRetrying(**POLICY)(guarded)
    return await guarded()


def keep(artifact: str, body: bytes) -> None:
    with retrospan.download() as download:
        digest = hashlib.sha256(body).hexdigest()
        path = FOLDER / f"{artifact}.pdf"
        path.write_bytes(body)
        stored.add(digest)
        download.stored(sha256=digest, final_path=path, content_length=len(body), content_type="application/pdf")


async def get(client: Any, host: str, role: str, url: str) -> Any:
    key = f"{host}:{role}"
    with retrospan.role(role):
        return await fetch_async(client, host, key, url) if IS_ASYNC else fetch(client, host, key, url)


async def resolve(client: Any, number: int) -> None:
    """Three sources: a catalogue, asked twice (the cache's turn), files, and a mirror that is down."""
    hosts, work, artifact = SETTINGS["hosts"], f"w{number // 2}", f"a{number}"
    with retrospan.resolution(artifact, work):
        with retrospan.attempt("metadata", "catalogue") as attempt:
            for _ in range(2):
                await get(
                    client, hosts["catalogue"], "metadata", f"{SETTINGS['catalogue']}/works/{work}?key=SECRET-IN-QUERY"
                )
            attempt.outcome("no_pdf", reason="metadata_only")
        seen["attempts"]["no_pdf"] += 1
        try:
            with retrospan.attempt("direct", "files"):
                response = await get(client, hosts["files"], "artifact", f"{SETTINGS['files']}/files/{artifact}")
                keep(artifact, response.content)
            seen["attempts"]["success"] += 1
        except httpx.HTTPStatusError as error:
            kind = "nonretryable" if error.response.status_code == 404 else "retryable"
            seen["attempts"][kind] += 1
        except httpx.TransportError:
            seen["attempts"]["retryable"] += 1
        if number % 3 == 0:
            try:
                with retrospan.attempt("mirror", "mirror"):
                    acquire_quota(f"{hosts['mirror']}:artifact")
                    await get(client, hosts["mirror"], "artifact", f"{SETTINGS['mirror']}/down/{artifact}")
            except httpx.HTTPStatusError:
                seen["attempts"]["retryable"] += 1
            except (Refused, pybreaker.CircuitBreakerError):
                seen["attempts"]["error"] += 1


async def main() -> None:
    client = make_client()
    for number in range(SETTINGS["artifacts"]):
        await resolve(client, number)
    if IS_ASYNC:
        await client.aclose()
    else:
        client.close()


def run_to_the_end(coroutine: Any) -> None:
    """A coroutine that awaits nothing needs no event loop: so the sync half runs as plain code."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("something was awaited")


if IS_ASYNC:
    asyncio.run(main())
else:
    run_to_the_end(main())
print(json.dumps({"stored": sorted(stored), **{name: dict(counts) for name, counts in seen.items()}}))
