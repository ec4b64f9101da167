"""What threads and asyncio agree on about a transfer. Pure: looks at headers and errors, does no I/O.

    head = Head.of(response)
    worth_getting(head, max_bytes)          # raises if a HEAD says that there is no PDF to get

The bytes are moved by `fetch` and `aio`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pybreaker import CircuitBreakerError

from .faults import LimiterRefused, NoPdf, Rejected, Stopped, TooLarge
from .sources import Page
from .store import PDF

if TYPE_CHECKING:
    import httpx2

MAX_REDIRECTS = 8
MAX_PAGE_BYTES = 4_000_000
DRAIN_BYTES = 65_536  # reading a short rest is cheaper than a new connection
ASK_HEADERS = {"Accept": "application/json, text/html;q=0.9, application/pdf;q=0.5"}
PDF_HEADERS = {"Accept": "application/pdf, */*;q=0.1", "Accept-Encoding": "identity"}  # so that lengths compare

_HEAD_IS_RIGHT = (404, 410)  # other refusals of a HEAD say little about a GET
_OURS = (CircuitBreakerError, LimiterRefused, Stopped)  # a GET would meet them too


@dataclass(frozen=True)
class Head:
    """A response without its body: final address, media type, body length in bytes (None: not said)."""

    url: str
    content_type: str
    length: int | None

    @classmethod
    def of(cls, response: httpx2.Response) -> Head:
        headers = response.headers
        length = headers.get("Content-Length", "")
        encoded = headers.get("Content-Encoding", "identity") != "identity"
        return cls(
            url=str(response.url),
            content_type=headers.get("Content-Type", "").partition(";")[0].strip().lower(),
            length=int(length) if length.isdecimal() and not encoded else None,
        )


def worth_getting(head: Head, max_bytes: int) -> str:
    """The address to get after a HEAD that succeeded. Raises NoPdf or TooLarge."""
    if head.content_type == "text/html":
        raise NoPdf("html")
    if head.length is not None and head.length > max_bytes:
        raise TooLarge("too_large")
    return head.url


def head_decides(error: Exception) -> bool:
    """Whether a failed HEAD spares the GET."""
    return isinstance(error, _OURS) or (isinstance(error, Rejected) and error.status in _HEAD_IS_RIGHT)


def readable_page(head: Head) -> Page | None:
    """The page if nothing need be read (a PDF stands where a page was expected), else None. Raises TooLarge."""
    if head.content_type == PDF:
        return Page(head.url, PDF, b"")
    if head.length is not None and head.length > MAX_PAGE_BYTES:
        raise TooLarge("page_too_large")
    return None


def drainable(response: httpx2.Response) -> bool:
    """Whether the body of an answer that nobody wants is short enough to read, which keeps the connection."""
    length = Head.of(response).length
    return length is not None and length <= DRAIN_BYTES


@dataclass(frozen=True)
class Redirect:
    """An answer that only names the next request."""

    request: httpx2.Request

    @classmethod
    def of(cls, response: httpx2.Response) -> Redirect | None:
        """None for any other answer. Raises Rejected for one that leads out of the web."""
        request = response.next_request
        if request is None:
            return None
        if request.url.scheme not in ("http", "https"):
            raise Rejected("redirects", response.status_code)
        return cls(request)
