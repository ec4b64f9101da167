"""Where PDFs are found: each source is a question (a URL) and a way to read its answer. Pure functions, no I/O.

    source = SOURCES["crossref"]
    url = source.question(settings, artifact)           # None: this source cannot serve this artifact
    source.candidates(Page(url, "application/json", body), artifact)    # PDF URLs, best first

Asking is left to `fetch` and `aio`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from .artifacts import Artifact
from .faults import NoPdf
from .settings import Settings

# NISO's version names as each service spells them. Unpaywall knows three; the others follow its pattern.
_UNPAYWALL = {
    "vor": "publishedVersion",
    "cvor": "correctedVersion",
    "am": "acceptedVersion",
    "smur": "submittedVersion",
    "ao": "originalVersion",
}
_CROSSREF = {version: {version} for version in _UNPAYWALL} | {"vor": {"vor", "unspecified"}}


@dataclass(frozen=True)
class Page:
    """An answer: where it came from after redirects, what it is, what it says (empty for a PDF, which is not read)."""

    url: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Source:
    """One place to ask. `role` says what kind of request the question is: metadata or landing."""

    name: str
    tier: str
    role: str
    question: Callable[[Settings, Artifact], str | None]
    candidates: Callable[[Page, Artifact], list[str]]

    def host(self, settings: Settings, artifact: Artifact) -> str | None:
        """The host that is asked first."""
        url = self.question(settings, artifact)
        return urlsplit(url).hostname if url else None


def _unpaywall_question(settings: Settings, artifact: Artifact) -> str | None:
    if not artifact.doi or not settings.email:
        return None
    return f"{settings.unpaywall_url}/{quote(artifact.doi)}?email={quote(settings.email)}"


def _crossref_question(settings: Settings, artifact: Artifact) -> str | None:
    return f"{settings.crossref_url}/{quote(artifact.doi, safe='')}" if artifact.doi else None


def _landing_question(settings: Settings, artifact: Artifact) -> str | None:
    if artifact.version != "vor":  # a landing page names the published version only
        return None
    return f"{settings.doi_url}/{quote(artifact.doi)}" if artifact.doi else artifact.url


def _mirror_question(settings: Settings, artifact: Artifact) -> str | None:
    if artifact.version != "vor" or not artifact.doi:
        return None
    query = quote(f'DOI:"{artifact.doi}"')
    return f"{settings.mirror_url}?query={query}&format=json&resultType=core"


def _best_location(page: Page, artifact: Artifact) -> list[str]:
    return _locations(page, artifact)[:1]


def _other_locations(page: Page, artifact: Artifact) -> list[str]:
    return _locations(page, artifact)[1:]


def _locations(page: Page, artifact: Artifact) -> list[str]:
    record = _record(page)
    locations = [record.get("best_oa_location"), *(record.get("oa_locations") or [])]
    wanted = _UNPAYWALL[artifact.version]
    urls = [place.get("url_for_pdf") for place in locations if place and place.get("version") == wanted]
    return list(dict.fromkeys(url for url in urls if url))


def _links(page: Page, artifact: Artifact) -> list[str]:
    links = (_record(page).get("message") or {}).get("link") or []
    wanted = _CROSSREF[artifact.version]
    urls = [
        link["URL"]
        for link in links
        if link.get("content-type") == "application/pdf" and link.get("content-version", "unspecified") in wanted
    ]
    return list(dict.fromkeys(urls))


def _citation_pdf(page: Page, artifact: Artifact) -> list[str]:
    if page.content_type == "application/pdf":
        return [page.url]
    reader = _CitationReader()
    reader.feed(page.body.decode("utf-8", "replace"))
    return [urljoin(page.url, url) for url in reader.urls]


def _full_texts(page: Page, artifact: Artifact) -> list[str]:
    results = (_record(page).get("resultList") or {}).get("result") or []
    texts = [text for result in results for text in (result.get("fullTextUrlList") or {}).get("fullTextUrl") or []]
    return [text["url"] for text in texts if text.get("documentStyle") == "pdf" and text.get("availabilityCode") != "S"]


def _record(page: Page) -> dict[str, Any]:
    try:
        record = json.loads(page.body)
    except ValueError:
        raise NoPdf("unreadable") from None
    if not isinstance(record, dict):
        raise NoPdf("unreadable")
    return record


class _CitationReader(HTMLParser):
    """Collects `<meta name="citation_pdf_url">`."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        content = named.get("content")
        if tag == "meta" and (named.get("name") or "").lower() == "citation_pdf_url" and content:
            self.urls.append(content)


SOURCES = {
    source.name: source
    for source in (
        Source("unpaywall", "direct_oa", "metadata", _unpaywall_question, _best_location),
        Source("crossref", "metadata", "metadata", _crossref_question, _links),
        Source("landing", "landing", "landing", _landing_question, _citation_pdf),
        Source("repository", "mirror", "metadata", _unpaywall_question, _other_locations),
        Source("europepmc", "mirror", "metadata", _mirror_question, _full_texts),
    )
}
"""In the order they are tried. `repository` reads the other copies from Unpaywall's record, which is cached by then."""
