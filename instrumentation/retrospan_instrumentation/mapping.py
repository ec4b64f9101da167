"""Which host, role and scope a thing has when the program does not say: read from names, keys and media types.

host_of("api.crossref.org:metadata")    # "api.crossref.org"
role_of("api.crossref.org:metadata")    # "metadata"
scope_of("unpaywall")                   # "resolver"
role_of_media_type("application/pdf")   # "artifact"
"""

from functools import lru_cache

from .semconv import ROLES
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
_NOT_IN_A_LABEL = frozenset("/\\@?#\r\n")


@lru_cache(_MOST_NAMES)
def host_of(name: str) -> str | None:
    """The host that a limiter's key or a breaker's name starts with (`host`, `host:port`, `host:role`, a URL), else None."""
    if "://" in name:
        return host_of_url(name)
    host = name[:_LONGEST_NAME].partition(":")[0].strip().lower()
    if host == "localhost" or ("." in host and not host.startswith(".") and not set(host) & {" ", *_NOT_IN_A_LABEL}):
        return host
    return None


@lru_cache(_MOST_NAMES)
def label_of(name: str) -> str | None:
    """A key, name or host as it may be recorded: as it stands, but of a URL, or what looks like a part of one, the host."""
    if "://" in name or not _NOT_IN_A_LABEL.isdisjoint(name):
        return host_of(name)
    return name[:_LONGEST_NAME]


@lru_cache(_MOST_NAMES)
def role_of(name: str) -> str | None:
    """The role that a limiter's key or a breaker's name ends in (`host:role`), else None."""
    role = name[-_LONGEST_NAME:].rpartition(":")[2].strip().lower()
    return role if role in ROLES else None


def scope_of(name: str) -> str:
    """`resolver` for a breaker that is named, but not after a host; else `host`."""
    return "resolver" if name and host_of(name) is None else "host"


def role_of_media_type(content_type: str | None) -> str | None:
    """The role of a request by the Content-Type of the answer that its client received, else None."""
    if not content_type:
        return None
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type in _LANDING:
        return "landing"
    if media_type in _METADATA or media_type.endswith(("+json", "+xml")):
        return "metadata"
    if media_type in _ARTIFACT or media_type.startswith(_ARTIFACT_FAMILIES):
        return "artifact"
    return None
