"""Puts secrets wherever a program has them: URLs, headers, cookies, bodies, exceptions, the command line, reasons."""

import contextlib
import sys

import httpx
import httpx2
import requests
import tenacity

import retrospan

URL = sys.argv[1]


@tenacity.retry(stop=tenacity.stop_after_attempt(2), reraise=True)
def fails() -> None:
    raise RuntimeError("planted-in-an-exception")


for library in (httpx2, httpx):
    headers = {"authorization": "Bearer planted-in-a-header", "x-key": "planted-in-a-header"}
    with library.Client(headers=headers, cookies={"session": "planted-in-a-cookie"}) as client:
        address = URL.replace("http://", "http://planted-user:planted-password@")
        client.get(f"{address}/planted-in-a-path?key=planted-in-a-query#planted-in-a-fragment")
        client.post(f"{URL}/body", content=b"planted-in-a-body")
        with contextlib.suppress(library.ConnectError):
            client.get("http://127.0.0.1:1/planted-in-a-path?key=planted-in-a-query")
        with contextlib.suppress(RuntimeError), retrospan.attempt("tier", "source"):
            fails()
        with retrospan.attempt("tier", "source") as attempt:
            attempt.outcome("error", reason=f"could not get {URL}/planted-in-a-reason")
        with contextlib.suppress(RuntimeError), retrospan.download("artifact"):
            raise RuntimeError("planted-in-an-exception")
requests.get(f"{URL}/planted-in-a-path?key=planted-in-a-query", headers={"x-key": "planted-in-a-header"}, timeout=5)
with contextlib.suppress(requests.ConnectionError):
    requests.get("http://127.0.0.1:1/planted-in-a-path?key=planted-in-a-query", timeout=5)
