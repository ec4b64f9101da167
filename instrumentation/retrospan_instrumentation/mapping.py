"""Which host, role and scope a thing has when the program does not say: read from names, keys and media types.

host_of("api.crossref.org:metadata")    # "api.crossref.org"
role_of("api.crossref.org:metadata")    # "metadata"
scope_of("unpaywall")                   # "resolver"
role_of_media_type("application/pdf")   # "artifact"
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from .semconv import ROLES
from .surround import fault
from .urls import host_of as host_of_url

_METADATA = ("application/json", "application/xml", "text/xml", "application/x-bibtex", "application/x-ndjson")
_LANDING = ("text/html", "application/xhtml+xml")
_ARTIFACT = (
    "application/pdf",
    "application/octet-stream",
    "application/zip",
    "application/epub+zip",
    "application/gzip",
)
_ARTIFACT_FAMILIES = ("image/", "audio/", "video/", "font/")
_MOST_NAMES = 1024  # a program has few keys, and asks for them often
_LONGEST_NAME = 256
_SCOPES = ("host", "resolver")
_Said = TypeVar("_Said")
_NOT_IN_A_LABEL = frozenset("/\\@?#\r\n")


class Mapper:
    """What names and media types say. Override what yours say otherwise; None is "it does not say"."""

    def host(self, name: str) -> str | None:
        """The host that a limiter's key or a breaker's name starts with: `host`, `host:port`, `host:role`, a URL."""
        if "://" in name:
            return host_of_url(name)
        host = name[:_LONGEST_NAME].partition(":")[0].strip().lower()
        if host == "localhost" or (
            "." in host and not host.startswith(".") and not set(host) & {" ", *_NOT_IN_A_LABEL}
        ):
            return host
        return None

    def role(self, name: str) -> str | None:
        """The role that a limiter's key or a breaker's name ends in: `host:role`."""
        return name[-_LONGEST_NAME:].rpartition(":")[2].strip().lower()

    def scope(self, name: str) -> str | None:
        """What a breaker guards: `resolver` when it is named, but not after a host, else `host`."""
        return "resolver" if name and self.host(name) is None else "host"

    def role_of_media_type(self, media_type: str) -> str | None:
        """The role of a request by the media type, in lower case, of the answer that its client received."""
        if media_type in _LANDING:
            return "landing"
        if media_type in _METADATA or media_type.endswith(("+json", "+xml")):
            return "metadata"
        if media_type in _ARTIFACT or media_type.startswith(_ARTIFACT_FAMILIES):
            return "artifact"
        return None


_own = Mapper()
_mapper = _own


def use(mapper: Mapper | None) -> None:
    """Ask this mapper from now on; None: the built-in one. Its answers are remembered: the same name, the same answer."""
    global _mapper
    _mapper = mapper or _own
    for function in (host_of, label_of, role_of, scope_of, role_of_media_type):
        function.cache_clear()


def _asked(ask: Callable[[str], _Said], fall_back: Callable[[str], _Said], name: str) -> _Said:
    try:
        return ask(name)
    except Exception as error:  # a program's own mapper may fail as it likes
        fault(error)
        return fall_back(name)


@lru_cache(_MOST_NAMES)
def host_of(name: str) -> str | None:
    """The host that a limiter's key or a breaker's name says, else None."""
    host = _asked(_mapper.host, _own.host, name)
    return host[:_LONGEST_NAME] if isinstance(host, str) and _NOT_IN_A_LABEL.isdisjoint(host) else None


@lru_cache(_MOST_NAMES)
def label_of(name: str) -> str | None:
    """A key, name or host as it may be recorded: as it stands, but of a URL, or what looks like a part of one, the host."""
    if "://" in name or not _NOT_IN_A_LABEL.isdisjoint(name):
        return host_of(name)
    return name[:_LONGEST_NAME]


@lru_cache(_MOST_NAMES)
def role_of(name: str) -> str | None:
    """The role that a limiter's key or a breaker's name says, else None."""
    role = _asked(_mapper.role, _own.role, name)
    return role if role in ROLES else None


@lru_cache(_MOST_NAMES)
def scope_of(name: str) -> str:
    """`resolver` or `host`: what the breaker of this name guards."""
    scope = _asked(_mapper.scope, _own.scope, name)
    return scope if scope in _SCOPES else "host"


@lru_cache(_MOST_NAMES)
def role_of_media_type(content_type: str | None) -> str | None:
    """The role of a request by the Content-Type of the answer that its client received, else None."""
    if not content_type:
        return None
    media_type = content_type.partition(";")[0].strip().lower()
    role = _asked(_mapper.role_of_media_type, _own.role_of_media_type, media_type)
    return role if role in ROLES else None
