"""What is asked of a run: service level indicators, and the objectives set for them.

    DEFAULTS["yield"].target            # Fraction(17, 20)
    DEFAULTS["yield"].min_events        # 22

An indicator is a text in `sli/`: one SELECT of events (timestamp, value or NULL, run, dimensions). An objective says what
number is made of the values and where it must lie. How numbers are made stands in `measure`, what follows in `verdicts`.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from retrospan.slo.statistics import minimum_events

# share: of the events that are good (or bad); percentile: nearest rank; count: of the bad; worst_hour: most bad in 60 min
Statistic = Literal["share", "percentile", "count", "worst_hour"]
Op = Literal["gte", "lte"]

_TEXTS: Final = Path(__file__).parent.parent / "sli"


@dataclass(frozen=True, slots=True)
class SLI:
    """One indicator: the events of `sli/<name>.sql`, and what their absence means.

    `unknown` says what a NULL value stands for. `apart` is a label and the condition of known events to be shown beside.
    `blind` is a condition on the tables under which the events cannot tell, and what to say of it. `seen_is_zero`: no
    event at all is a count of 0 once the layer was seen.
    """

    name: str
    layer: str
    dimensions: tuple[str, ...]
    empty: str
    unknown: str = "unknown"
    apart: tuple[str, str] | None = None
    blind: tuple[str, str] | None = None
    seen_is_zero: bool = False

    def text(self) -> str:
        """The SELECT."""
        return (_TEXTS / f"{self.name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class SLO:
    """One objective: a statistic of an indicator's values, and the threshold it must keep.

    `threshold` is a fraction of 1 for a share, milliseconds for a percentile, a number for a count; `quantile` is a
    percentile's q. More unknown events than `max_unknown` of all are no data. `default` marks the built-in ones, which
    do not apply to a run that never entered the indicator's layer. `file` and `line` say where it is defined.
    """

    name: str
    description: str
    sli: SLI
    statistic: Statistic
    op: Op
    threshold: Fraction
    quantile: Fraction | None = None
    max_unknown: Fraction | None = None
    default: bool = False
    file: str | None = None
    line: int | None = None

    @property
    def target(self) -> Fraction | None:
        """Least share of good events; None for a count, which allows a number instead."""
        if self.statistic == "share":
            return self.threshold if self.op == "gte" else 1 - self.threshold
        return self.quantile

    @property
    def good(self) -> str:
        """SQL condition on `value` under which an event is good."""
        if self.statistic == "percentile":
            return f"value <= {float(self.threshold)!r}"
        return "value >= 1" if self.op == "gte" else "value < 1"

    @property
    def min_events(self) -> int:
        """Fewest events that can show the target met: see `statistics.minimum_events`; 1 for a count."""
        return 1 if self.target is None else minimum_events(self.target)


# Rows that prove a layer was entered, whatever `run_info` says.
LAYER_ROWS: Final = MappingProxyType(
    {
        "http": ("SELECT 1 FROM http_events",),
        "cache": ("SELECT 1 FROM http_events WHERE from_cache = 1",),
        "limiter": ("SELECT 1 FROM rate_events", "SELECT 1 FROM http_events WHERE rate_delay_ms IS NOT NULL"),
        "breaker": (
            "SELECT 1 FROM breaker_transitions",
            "SELECT 1 FROM breaker_rejections",
            "SELECT 1 FROM http_events WHERE breaker_state IS NOT NULL",
        ),
        "fallback": ("SELECT 1 FROM fallback_attempts",),
        "download": ("SELECT 1 FROM downloads",),
    }
)

_YIELD: Final = SLI(
    "yield",
    layer="fallback",
    dimensions=("host", "source"),
    empty="no artifact was attempted",
    blind=(
        "NOT EXISTS (SELECT 1 FROM downloads) AND EXISTS (SELECT 1 FROM fallback_attempts WHERE outcome = 'success')",
        "downloads are not recorded",
    ),
)
_TTFP: Final = SLI(
    "ttfp",
    layer="fallback",
    dimensions=("host", "source"),
    empty="no artifact succeeded",
    unknown="never succeeded",
)
_HTTP_429: Final = SLI(
    "http_429",
    layer="http",
    dimensions=("host", "role"),
    empty="no response from the network",
)
_CACHE_HIT: Final = SLI(
    "cache_hit",
    layer="cache",
    dimensions=("host",),
    empty="no metadata GET of which it is known whether the cache answered",
    apart=("revalidated", "value = 1 AND revalidated = 1"),
)
_RATE_DELAY: Final = SLI(
    "rate_delay",
    layer="limiter",
    dimensions=("host",),
    empty="no metadata request asked a rate limiter",
    apart=("refused", "action = 'block'"),
)
_BREAKER_OPENS: Final = SLI(
    "breaker_opens",
    layer="breaker",
    dimensions=("host",),
    empty="no circuit breaker was seen",
    seen_is_zero=True,
)
_CORRUPTION: Final = SLI(
    "corruption",
    layer="download",
    dimensions=("host", "source"),
    empty="nothing was stored",
)


def _slo(
    name: str,
    description: str,
    sli: SLI,
    statistic: Statistic,
    op: Op,
    threshold: str,
    *,
    quantile: str | None = None,
    max_unknown: str | None = None,
) -> SLO:
    exact = None if quantile is None else Fraction(quantile)
    unknown = None if max_unknown is None else Fraction(max_unknown)
    return SLO(name, description, sli, statistic, op, Fraction(threshold), exact, unknown, default=True)


DEFAULTS: Final = MappingProxyType(
    {
        slo.name: slo
        for slo in (
            _slo("yield", "Artifacts stored among those attempted", _YIELD, "share", "gte", "0.85"),
            _slo("ttfp_p50", "Time to first PDF, p50", _TTFP, "percentile", "lte", "3000", quantile="0.50"),
            _slo("ttfp_p95", "Time to first PDF, p95", _TTFP, "percentile", "lte", "20000", quantile="0.95"),
            _slo("http_429", "429 among responses from the network", _HTTP_429, "share", "lte", "0.02"),
            _slo("cache_hit", "Metadata GETs from the cache", _CACHE_HIT, "share", "gte", "0.60", max_unknown="0.01"),
            _slo(
                "rate_delay_p95", "Wait for the limiter, p95", _RATE_DELAY, "percentile", "lte", "250", quantile="0.95"
            ),
            _slo("breaker_opens", "Breaker openings in the worst hour", _BREAKER_OPENS, "worst_hour", "lte", "12"),
            _slo("corruption", "Stored files without hash, path or length", _CORRUPTION, "count", "lte", "0"),
        )
    }
)
