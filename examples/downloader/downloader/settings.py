"""Every setting, declared once: a field is an option (`--rate-metadata`) and a variable (`DOWNLOADER_RATE_METADATA`).

    Settings(out=Path("papers"), email="you@example.org")

The defaults are the public services, asked politely.
"""

from __future__ import annotations

from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .artifacts import VERSIONS


def names(text: str) -> tuple[str, ...]:
    """A comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def versions(text: str) -> tuple[str, ...]:
    """A comma-separated list of version names."""
    return tuple(one_of(*VERSIONS)(name) for name in names(text)) or VERSIONS[:1]


def one_of(*choices: str) -> Callable[[str], str]:
    """A parser that takes these words only."""

    def choice(text: str) -> str:
        if text not in choices:
            raise ArgumentTypeError(f"{text!r} is none of {', '.join(choices)}")
        return text

    return choice


def count(text: str) -> int:
    """A whole number over 0."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number over 0")
    return int(text)


def number(text: str) -> float:
    """A number over 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no number over 0")
    return value


def _option(default: Any, meaning: str, parse: Callable[[str], Any] = str) -> Any:
    return field(default=default, metadata={"meaning": meaning, "parse": parse})


@dataclass(frozen=True)
class Settings:
    """What the user decides. Times in seconds, rates in requests a second and host, sizes in bytes."""

    out: Path = _option(Path("papers"), "directory for everything kept", Path)  # noqa: RUF009  it is a field()
    mode: str = _option("threads", "how to run concurrently: threads or asyncio", one_of("threads", "asyncio"))
    client: str = _option("httpx2", "HTTP library: httpx2 or httpx", one_of("httpx2", "httpx"))
    concurrency: int = _option(8, "works resolved at once", count)
    versions: tuple[str, ...] = _option(("vor",), f"wanted of each DOI: {', '.join(VERSIONS)}", versions)
    email: str = _option("", "told to the services; Unpaywall is not asked without")

    unpaywall_url: str = _option("https://api.unpaywall.org/v2", "Unpaywall API")
    crossref_url: str = _option("https://api.crossref.org/works", "Crossref works API")
    doi_url: str = _option("https://doi.org", "DOI resolver, for landing pages")
    mirror_url: str = _option("https://www.ebi.ac.uk/europepmc/webservices/rest/search", "Europe PMC search API")

    rate_metadata: float = _option(8.0, "requests a second to the host of an API", number)
    rate_landing: float = _option(2.0, "requests a second to a host for landing pages", number)
    rate_artifact: float = _option(2.0, "requests a second to a host for PDFs", number)
    max_delay: float = _option(30.0, "seconds: longest wait for a limiter", number)
    unmetered_head: tuple[str, ...] = _option((), "hosts where a HEAD needs no limiter", names)

    tries: int = _option(4, "sends of one request", count)
    backoff: float = _option(0.5, "seconds: first wait between them, doubled each time", number)
    max_retry_after: float = _option(60.0, "seconds: longest Retry-After that is waited for", number)
    breaker_failures: int = _option(5, "failures in a row that open a host's breaker", count)
    breaker_reset: float = _option(30.0, "seconds: until an open breaker lets a trial pass", number)
    timeout: float = _option(20.0, "seconds: to connect, and between two reads", number)
    deadline: float = _option(180.0, "seconds: for one source of one artifact", number)
    max_bytes: int = _option(200_000_000, "largest PDF, bytes", count)

    def rate(self, role: str) -> float:
        """Requests a second that each host is asked in `role` (metadata, landing, artifact)."""
        return float(getattr(self, f"rate_{role}"))

    @property
    def user_agent(self) -> str:
        contact = f" (mailto:{self.email})" if self.email else ""
        return f"retrospan-downloader/1.0{contact}"
