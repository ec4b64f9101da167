"""The hash of a URL: alike for what is the same request, different for what is not, and keyed when asked."""

import hashlib
import hmac
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrospan_instrumentation import urls
from retrospan_instrumentation.urls import canonical, host_of, url_hash

HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,5}){1,2}|\[[0-9a-f:]{2,20}\]", fullmatch=True)
PATHS = st.from_regex(r"(/[A-Za-z0-9%:@._~-]{0,8}){1,4}", fullmatch=True)
QUERIES = st.from_regex(r"(\?[A-Za-z0-9/?=&%:@#._~-]{0,20})?", fullmatch=True).map(lambda query: query.replace("#", ""))
SCHEMES = st.sampled_from([("http", 80), ("https", 443)])


@pytest.fixture(autouse=True)
def unkeyed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(urls.KEY, raising=False)
    urls._key.cache_clear()
    yield
    urls._key.cache_clear()


def test_the_hash_is_the_sha_256_of_the_canonical_url_in_16_digits() -> None:
    digest = hashlib.sha256(b"https://example.org/a?b=c").hexdigest()
    assert url_hash("https://example.org/a?b=c") == digest[:16]


def test_with_a_key_it_is_the_hmac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(urls.KEY, "a key")
    digest = hmac.new(b"a key", b"https://example.org/", "sha256").hexdigest()
    assert url_hash("https://example.org/") == digest[:16]


@given(SCHEMES, HOSTS, PATHS, QUERIES)
def test_what_does_not_change_the_request_does_not_change_the_hash(
    scheme: tuple[str, int], host: str, path: str, query: str
) -> None:
    name, port = scheme
    url = f"{name}://{host}{path}{query}"
    assert canonical(url) == url
    for same in (
        f"{name.upper()}://{host.upper()}{path}{query}",
        f"{name}://{host}:{port}{path}{query}",
        f"{name}://{host}:{path}{query}",
        f"{name}://user:pass@{host}{path}{query}",
        f"{url}#fragment",
    ):
        assert canonical(same) == url
        assert url_hash(same) == url_hash(url)


@given(SCHEMES, HOSTS, PATHS, QUERIES)
def test_what_changes_the_request_changes_the_hash(scheme: tuple[str, int], host: str, path: str, query: str) -> None:
    name, port = scheme
    url = f"{name}://{host}{path}{query}"
    others = [
        f"{name}://{host}:{port + 1}{path}{query}",
        f"{name}://x.{host}{path}{query}",
        f"{name}://{host}{path}/{query}",
        f"{url}{'&' if query else '?'}more",
        f"{'http' if name == 'https' else 'https'}://{host}{path}{query}",
    ]
    assert len({url_hash(other) for other in [url, *others]}) == len(others) + 1


@pytest.mark.parametrize(("url", "same"), [("http://h", "http://h/"), ("http://h?a=/b", "http://h/?a=/b")])
def test_an_empty_path_is_the_root(url: str, same: str) -> None:
    assert canonical(url) == same


@given(st.text())
def test_any_text_has_a_hash(text: str) -> None:
    assert len(url_hash(text)) == 16


def test_a_lone_surrogate_has_a_hash() -> None:
    assert len(url_hash("https://example.org/\ud800")) == 16


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user:pw@Example.org:8443/a@b:9", "example.org"),
        ("http://[::1]:80/", "::1"),
        ("http://h?x=y:8", "h"),
        ("mailto:somebody", None),
        ("", None),
        ("http://", None),
    ],
)
def test_the_host_of_a_url_is_bare_and_lower_case(url: str, host: str | None) -> None:
    assert host_of(url) == host
