"""All services in one process: one uvicorn server, one listening socket an address, one application a host name."""

from __future__ import annotations

import signal
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Host, Router
from starlette.types import ASGIApp

from .access_log import AccessLog
from .apis import apis
from .breakage import Breakable
from .files import files
from .pages import pages
from .plan import VERSIONS, Plan, doi_of
from .world import ADDRESSES, World

BACKLOG = 256


def serve(plan: Plan, *, log: Path, ready: Path | None, dois: Path | None) -> None:
    """Listens on every address, tells `ready` and serves until SIGTERM or SIGINT.

    `log` is appended to; `dois` gets the list of works; `ready` the environment of a downloader that asks these servers
    (`KEY=VALUE` lines), written in one piece once all of them listen.
    """
    with ExitStack() as stack:
        sockets = {service: stack.enter_context(_listening(address)) for service, address in ADDRESSES.items()}
        urls = {service: f"http://{ADDRESSES[service]}:{s.getsockname()[1]}" for service, s in sockets.items()}
        app = application(World(plan, urls), stack.enter_context(log.open("a")))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn stops first, then raises the signal again: that ends well
        if dois:
            _write(dois, "".join(f"{doi_of(work)}\n" for work in range(plan.works)))
        if ready:
            _write(ready, "".join(f"{name}={value}\n" for name, value in environment(urls).items()))
        config = uvicorn.Config(
            app,
            http=Breakable,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="critical",
            backlog=BACKLOG,
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=list(sockets.values()))


def application(world: World, log: TextIO) -> ASGIApp:
    """Every service behind its own host name, all behind the access log."""
    groups = (apis(world), pages(world), files(world))
    routes = {service: [route for group in groups for route in group.get(service, [])] for service in ADDRESSES}
    hosts = [Host(ADDRESSES[service], Starlette(routes=routes[service])) for service in ADDRESSES]
    return AccessLog(Router(hosts), log)


def environment(urls: Mapping[str, str]) -> dict[str, str]:
    """The downloader's environment: where the services are, and the patience that fits a demonstration."""
    return {
        "DOWNLOADER_UNPAYWALL_URL": f"{urls['unpaywall']}/v2",
        "DOWNLOADER_CROSSREF_URL": f"{urls['crossref']}/works",
        "DOWNLOADER_DOI_URL": urls["doi"],
        "DOWNLOADER_MIRROR_URL": f"{urls['mirror']}/europepmc/webservices/rest/search",
        "DOWNLOADER_EMAIL": "demo@example.org",
        "DOWNLOADER_VERSIONS": ",".join(VERSIONS),
        "DOWNLOADER_RATE_METADATA": "40",
        "DOWNLOADER_RATE_LANDING": "20",
        "DOWNLOADER_RATE_ARTIFACT": "20",
        "DOWNLOADER_BACKOFF": "0.1",
        "DOWNLOADER_TRIES": "3",
        "DOWNLOADER_BREAKER_FAILURES": "4",
        "DOWNLOADER_BREAKER_RESET": "1",
        "DOWNLOADER_UNMETERED_HEAD": f"{ADDRESSES['cdn']},{ADDRESSES['repository']}",
    }


def _listening(address: str) -> socket.socket:
    listener = socket.socket()
    listener.bind((address, 0))
    listener.listen(BACKLOG)  # before anybody is told: early clients queue
    return listener


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".part")
    partial.write_text(text)
    partial.replace(path)
