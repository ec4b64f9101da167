"""The hash by which a record tells one URL from another without holding either.

    url_hash("HTTPS://user@Example.org:443/a?b=c#d") == url_hash("https://example.org/a?b=c")

Scheme and host are case-insensitive, a default port, a fragment and credentials do not change what is asked for; path and
query count as they were sent. Without a key anybody can hash a URL that he guesses: RETROSPAN_URL_HASH_KEY sets one.
"""

import hmac
import os
from functools import cache
from hashlib import sha256
from typing import Final

KEY: Final = "RETROSPAN_URL_HASH_KEY"
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443", "ws": ":80", "wss": ":443"}


def url_hash(url: str) -> str:
    """First 16 hex digits of the SHA-256 of the canonical URL; of its HMAC-SHA-256 when the environment holds a key."""
    key = _key()
    octets = canonical(url).encode(errors="surrogatepass")
    return (sha256(octets).hexdigest() if key is None else hmac.digest(key, octets, "sha256").hex())[:16]


def canonical(url: str) -> str:
    """The URL in the one form that is hashed. Text without a scheme is taken as it is, but for its fragment."""
    scheme, separator, rest = url.partition("#")[0].partition("://")
    if not separator:
        return scheme
    scheme = scheme.lower()
    authority, slash, path = rest.partition("/")
    if "?" in authority:  # https://example.org?a=b
        authority, _, query = rest.partition("?")
        slash, path = "/", f"?{query}"
    return f"{scheme}://{_host_and_port(scheme, authority)}{slash or '/'}{path}"


def host_of(url: str) -> str | None:
    """The host of a URL, lower-case, without port or brackets; None when it has none."""
    _, separator, rest = canonical(url).partition("://")
    if not separator:
        return None
    authority = rest.partition("/")[0]
    host, colon, port = authority.rpartition(":")
    return (host if colon and "]" not in port else authority).strip("[]") or None


def _host_and_port(scheme: str, authority: str) -> str:
    host = authority.rpartition("@")[2].lower()
    return host.removesuffix(_DEFAULT_PORTS.get(scheme, ":")).removesuffix(":")


@cache
def _key() -> bytes | None:
    key = os.environ.get(KEY)
    return os.fsencode(key) if key else None
