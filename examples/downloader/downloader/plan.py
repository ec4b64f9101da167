"""The fallback plan: tiers of sources, what each source may cost, what one artifact may cost.

    plan = plan_of(settings)
    [tier.name for tier in plan.tiers]      # ['direct_oa', 'metadata', 'landing', 'mirror']

Which sources there are, and their tiers, is declared in `sources`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby

from .settings import Settings
from .sources import SOURCES


@dataclass(frozen=True)
class Tier:
    """Sources of equal standing, tried in order."""

    name: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """What one attempt may cost: seconds, and sends of each request."""

    deadline_s: float
    tries: int


@dataclass(frozen=True)
class Plan:
    """`budget_s` bounds one artifact; an attempt that would begin later is not made."""

    tiers: tuple[Tier, ...]
    policies: Mapping[str, Policy]
    budget_s: float

    def steps(self, available: Mapping[str, object]) -> list[tuple[str, str]]:
        """(tier, source) in order, of the sources that are available for an artifact."""
        return [(tier.name, name) for tier in self.tiers for name in tier.sources if name in available]


def plan_of(settings: Settings) -> Plan:
    """The plan for all sources, in the order in which they are declared."""
    by_tier = groupby(SOURCES.values(), key=lambda source: source.tier)
    return Plan(
        tiers=tuple(Tier(name, tuple(source.name for source in sources)) for name, sources in by_tier),
        policies={name: Policy(settings.deadline, settings.tries) for name in SOURCES},
        budget_s=2 * settings.deadline,
    )
