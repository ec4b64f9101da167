"""Who misbehaves, how and when: a pure function of the seed and the artifact's number.

    plan = Plan(artifacts=300, seed=7)
    plan.knowledge(12)          # what the services know of work 12
    plan.delivery(59)           # how artifact 59 is delivered from its first address

A work has one artifact a version (the five names of NISO RP-8, Journal Article Versions), so artifact `n` is version
`n % 5` of work `n // 5`. The tables are dealt like cards: each row gets its share, and at least one, whatever the
number of artifacts; the seed only says to whom. Rows marked *once* misbehave at the first request alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

VERSIONS = ("vor", "cvor", "am", "smur", "ao")

# What the services know of a work                                                                   share in %
KNOWLEDGE = (
    ("indexed", 78),  # Unpaywall lists a PDF of every version
    ("no_pdf", 11),  # Unpaywall has only the landing page of `vor` and `cvor`; Crossref links the PDFs
    ("unlisted", 7),  # 404 at Unpaywall; Crossref links `vor`, `cvor`, `am`; `smur` and `ao` are nowhere
    ("hidden", 2),  # neither Unpaywall nor Crossref has a PDF; the landing page names the one of `vor`
    ("unknown", 2),  # nobody has it
)

# How an artifact is delivered from its first address
DELIVERY = (
    ("fine", 63),
    ("moved", 12),  # 302 to the CDN
    ("slow", 4),  # 0.4 s before the headers, then dribbled
    ("throttled", 3),  # once: 429 with Retry-After
    ("flaky", 3),  # once: 503
    ("reset", 3),  # once: a TCP reset in the middle of the body
    ("hang_up", 2),  # once: a TCP reset before any header
    ("cut", 2),  # always: Content-Length promises more than is sent
    ("no_eof", 2),  # always: complete by length, but the PDF has no %%EOF
    ("html", 2),  # always: a login page served as application/pdf
    ("wall", 2),  # always: a login page that says so, text/html
    ("gone", 2),  # always: 404
)

# How a metadata service answers for a work
ANSWER = (
    ("cached", 70),  # ETag and an hour to live
    ("revalidated", 16),  # ETag and max-age=0: asked again, it says 304
    ("throttled", 8),  # once: 429 with Retry-After; then as cached
    ("flaky", 6),  # once: 500; then as cached
)

# What Retry-After says: seconds, or a date a second ahead
RETRY_AFTER = ("1", "0", "date")

TWIN_PERCENT = 10  # artifacts whose bytes equal another's
SECOND_COPY_PERCENT = 75  # artifacts with another copy in the repository
OUTAGE_REQUESTS = 9  # in a row, all 500, at publisher-b: enough to open a breaker of four failures


class Plan:
    """The fate of every artifact. `artifacts` is rounded up to whole works."""

    def __init__(self, artifacts: int, seed: int) -> None:
        deal = random.Random(seed)
        self.works = -(-artifacts // len(VERSIONS))
        self.artifacts = self.works * len(VERSIONS)
        self._knowledge = _dealt(KNOWLEDGE, self.works, deal)
        self._answers = {name: _dealt(ANSWER, self.works, deal) for name in ("unpaywall", "crossref", "mirror")}
        self._delivery = _dealt(DELIVERY, self.artifacts, deal)
        self._twins = {n: deal.randrange(n) for n in range(1, self.artifacts) if deal.randrange(100) < TWIN_PERCENT}
        self._second_copy = [deal.randrange(100) < SECOND_COPY_PERCENT for _ in range(self.artifacts)]

    def knowledge(self, work: int) -> str:
        """What the services know of `work`: a name of `KNOWLEDGE`."""
        return self._knowledge[work] if work < self.works else "unknown"

    def answer(self, service: str, work: int) -> str:
        """How `service` (unpaywall, crossref or mirror) answers for `work`: a name of `ANSWER`."""
        return self._answers[service][work] if work < self.works else "cached"

    def delivery(self, artifact: int) -> str:
        """How `artifact` comes from its first address: a name of `DELIVERY`."""
        return self._delivery[artifact] if artifact < self.artifacts else "gone"

    def content(self, artifact: int) -> int:
        """The artifact whose bytes are sent: its own, or an earlier one's (a twin, for deduplication)."""
        return self.content(self._twins[artifact]) if artifact in self._twins else artifact

    def second_copy(self, artifact: int) -> bool:
        """Whether the repository holds another, sound copy."""
        return self._second_copy[artifact]

    def retry_after(self, number: int) -> str:
        """What Retry-After says to whoever asks for `number`: an entry of `RETRY_AFTER`."""
        return RETRY_AFTER[number % len(RETRY_AFTER)]

    def outage(self, request: int) -> bool:
        """Whether the `request`-th request (from 0) that publisher-b receives falls into its outage."""
        start = 2 + self.artifacts // 12
        return start <= request < start + OUTAGE_REQUESTS


def doi_of(work: int) -> str:
    return f"10.5555/origin.{work:04d}"


def work_of(doi: str) -> int | None:
    """The work's number, or None for a DOI that is none of ours."""
    prefix, _, number = doi.lower().rpartition(".")
    return int(number) if prefix == "10.5555/origin" and number.isdigit() else None


def artifact_of(work: int, version: str) -> int:
    return work * len(VERSIONS) + VERSIONS.index(version)


def _dealt(table: Sequence[tuple[str, int]], size: int, deal: random.Random) -> list[str]:
    """`size` names in the table's shares, at least one of each while there is room; the first row fills up."""
    rare = [name for name, share in table[1:] for _ in range(max(1, round(size * share / 100)))][:size]
    cards = rare + [table[0][0]] * (size - len(rare))
    deal.shuffle(cards)
    return cards
