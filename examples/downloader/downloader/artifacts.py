"""What is wanted: lines of DOIs or URLs, turned into works and their artifacts.

    works_of(["10.5555/12345678", "https://example.org/paper.pdf"], versions=("vor", "am"))

A work is what a DOI or URL names; an artifact is one version of it, by the names of NISO RP-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

VERSIONS = ("vor", "cvor", "am", "smur", "ao")
"""Version of record, corrected version of record, accepted manuscript, submitted manuscript, author's original."""

_DOI = re.compile(r"10\.\d{4,9}/\S+")
_DOI_HOSTS = ("doi.org", "dx.doi.org", "www.doi.org")


@dataclass(frozen=True)
class Artifact:
    """One file to get. Either `doi` or `url` is set; `url` may name a landing page or a PDF."""

    artifact_id: str
    work_id: str
    version: str
    doi: str | None = None
    url: str | None = None


def works_of(lines: Iterable[str], versions: Iterable[str]) -> list[list[Artifact]]:
    """The artifacts of each work, each work once, in order. Blank lines and `#` comments are left out.

    Raises ValueError for a line that is neither a DOI nor an http(s) URL.
    """
    works: dict[str, list[Artifact]] = {}
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        work, doi = _identified(text)
        if doi:
            works[work] = [Artifact(f"{doi}:{version}", doi, version, doi=doi) for version in versions]
        else:
            works[work] = [Artifact(work, work, VERSIONS[0], url=work)]
    return list(works.values())


def _identified(text: str) -> tuple[str, str | None]:
    """The work's id, and its DOI if it is one. DOIs are compared without case."""
    parts = urlsplit(text)
    if parts.scheme in ("http", "https") and parts.hostname:
        path = unquote(parts.path).lstrip("/")
        if parts.hostname not in _DOI_HOSTS or not _DOI.fullmatch(path):
            return text, None
        text = path
    doi = re.sub(r"^doi:\s*", "", text, flags=re.IGNORECASE).lower()
    if not _DOI.fullmatch(doi):
        raise ValueError(f"neither a DOI nor a URL: {text!r}")
    return doi, doi
