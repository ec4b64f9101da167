"""Every function of the libraries that carries a hook."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hishel.httpx2
import httpx
import httpx2
import pybreaker
import pyrate_limiter
import tenacity

PATCHED = [
    *((library.Client, "_send_single_request") for library in (httpx, httpx2)),
    *((library.AsyncClient, "_send_single_request") for library in (httpx, httpx2)),
    *((library.HTTPTransport, "handle_request") for library in (httpx, httpx2)),
    *((library.AsyncHTTPTransport, "handle_async_request") for library in (httpx, httpx2)),
    *((library._client.BoundSyncStream, "__iter__") for library in (httpx, httpx2)),
    *((library._client.BoundAsyncStream, "__aiter__") for library in (httpx, httpx2)),
    (hishel.httpx2.CacheTransport, "handle_request"),
    (hishel.httpx2.AsyncCacheTransport, "handle_async_request"),
    (tenacity.Retrying, "__call__"),
    (tenacity.AsyncRetrying, "__call__"),
    (tenacity.BaseRetrying, "iter"),
    (tenacity.AsyncRetrying, "iter"),
    (tenacity.RetryCallState, "prepare_for_next_attempt"),
    (tenacity.AttemptManager, "__enter__"),
    (tenacity.AttemptManager, "__exit__"),
    (tenacity.AttemptManager, "__aenter__"),
    (pyrate_limiter.Limiter, "_try_acquire"),
    (pyrate_limiter.Limiter, "try_acquire_async"),
    (pybreaker.CircuitBreakerState, "call"),
    (pybreaker.CircuitOpenState, "call"),
    *((pybreaker.CircuitBreaker, name) for name in ("open", "half_open", "close")),
    (threading.Thread, "start"),
    (ThreadPoolExecutor, "submit"),
]


def placed() -> list[Any]:
    return [vars(owner)[name] for owner, name in PATCHED]
