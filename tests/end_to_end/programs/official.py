"""Three requests by each library that an official instrumentation watches: one answered, one not found, one refused.

Each library asks a host of its own; the last argument is a URL where nobody listens.
"""

import asyncio
import contextlib
import sys

import aiohttp
import httpx
import requests
import urllib3

by_requests, by_urllib3, by_aiohttp, by_httpx, nobody = sys.argv[1:]
PATHS = ("/found?key=planted", "/missing")

for path in PATHS:
    requests.get(by_requests + path, timeout=5)
with contextlib.suppress(requests.ConnectionError):
    requests.get(nobody.replace("HOST", "127.0.0.2"), timeout=5)

pool = urllib3.PoolManager(retries=False)
for path in PATHS:
    pool.request("GET", by_urllib3 + path)
with contextlib.suppress(urllib3.exceptions.HTTPError):
    pool.request("GET", nobody.replace("HOST", "127.0.0.3"))


async def ask() -> None:
    async with aiohttp.ClientSession() as session:
        for path in PATHS:
            async with session.get(by_aiohttp + path) as response:
                await response.read()
        with contextlib.suppress(aiohttp.ClientError):
            await session.get(nobody.replace("HOST", "127.0.0.4"))


asyncio.run(ask())

with httpx.Client() as client:
    for path in PATHS:
        client.get(by_httpx + path)
    with contextlib.suppress(httpx.TransportError):
        client.get(nobody.replace("HOST", "127.0.0.5"))
