"""What is asked of a run: service level indicators, and the objectives set for them.

    DEFAULTS["yield"].target            # Fraction(17, 20)
    DEFAULTS["yield"].min_events        # 22

An indicator is a text in `sli/`, or the queries of a definition file: SELECTs of events (timestamp, value or NULL,
dimensions, perhaps a weight). An objective says what number is made of the values and where it must lie. How files are
read stands in `documents`, how numbers are made in `measure`, what follows in `verdicts`.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal

from retrospan.slo.statistics import minimum_events

# share: of the events that are good (or bad); percentile: nearest rank; mean: of the values; count: of the bad;
# worst_hour: most bad in 60 minutes
Statistic = Literal["share", "percentile", "mean", "count", "worst_hour"]
Op = Literal["gte", "lte", "gt", "lt"]
# What the values are: 0 to 1, milliseconds, or plain numbers.
Unit = Literal["ratio", "ms", "number"]
# What the rows of a query are: events with their value; or those that are good, bad, or all of them.
Role = Literal["events", "good", "bad", "total"]
WindowUnit = Literal["m", "h", "d", "w", "M", "Q", "Y"]
Policy = Literal["fail", "warn"]

SIGNS: Final[dict[Op, str]] = {"gte": ">=", "lte": "<=", "gt": ">", "lt": "<"}
QUERY_SECONDS: Final = 10
# Of those without a fixed length, the length that they are taken to have.
UNIT_SECONDS: Final[dict[WindowUnit, int]] = {
    "m": 60,
    "h": 3600,
    "d": 86_400,
    "w": 7 * 86_400,
    "M": 30 * 86_400,
    "Q": 91 * 86_400,
    "Y": 365 * 86_400,
}
_TEXTS: Final = Path(__file__).parent.parent / "sli"


@dataclass(frozen=True, slots=True)
class Query:
    """One SELECT of a definition file, how long it may take, and where it stands. Run by `user_sql` alone."""

    role: Role
    sql: str
    seconds: int = QUERY_SECONDS
    file: str = field(default="", compare=False)
    line: int = field(default=1, compare=False)
    column: int = field(default=1, compare=False)
    path: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class SLI:
    """One indicator: the events of `sli/<name>.sql`, or of a file's `queries`, and what their absence means.

    `queries` are one of role events, or good and total, or bad and total: then the value is 1 for the good (the bad)
    events, else 0. Their dimensions are only known when they are run. `layer` is None for them.
    `unknown` says what a NULL value stands for. `apart` is a label and the condition of known events to be shown beside.
    `blind` is a condition on the tables under which the events cannot tell, and what to say of it. `seen_is_zero`: no
    event at all is a count of 0 once the layer was seen. `on_disk`: its events are files, which can be looked at.
    """

    name: str
    layer: str | None
    dimensions: tuple[str, ...]
    empty: str
    unknown: str = "unknown"
    apart: tuple[str, str] | None = None
    blind: tuple[str, str] | None = None
    seen_is_zero: bool = False
    on_disk: bool = False
    queries: tuple[Query, ...] = ()

    def text(self) -> str:
        """The SELECT of a built-in indicator."""
        return (_TEXTS / f"{self.name}.sql").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Window:
    """The time that an objective is promised for: the last `count` units, or the calendar's period of that length.

    M, Q and Y are calendar months, quarters and years. `start` (a date and time as ISO 8601 writes it, without offset)
    is when a calendar's first period began, in `time_zone` (an IANA name); both are None for a rolling window.
    """

    count: int
    unit: WindowUnit
    start: str | None = None
    time_zone: str | None = None

    @property
    def rolling(self) -> bool:
        """Whether the window ends now."""
        return self.start is None

    @property
    def seconds(self) -> int:
        """Its length; a month counts 30 days, a quarter 91, a year 365."""
        return self.count * UNIT_SECONDS[self.unit]


@dataclass(frozen=True, slots=True)
class TimeSlices:
    """Judging by slices of time of `seconds` instead of by events; slices without events do not count.

    With a `target` a slice is good when its share of good events is at least that, and the objective's target is the
    share of good slices (OpenSLO's Timeslices). Without, the objective's target is for the mean of the slices' shares
    (RatioTimeslices).
    """

    seconds: int
    target: Fraction | None = None


@dataclass(frozen=True, slots=True)
class BurnPolicy:
    """When somebody is to be told, as an AlertPolicy of OpenSLO says: for `rules` alone, the gate wakes nobody.

    The budget burns at a rate that `op` compares with `rate` over the last `lookback` seconds, and has done so for `after`
    seconds. `on_no_data`: somebody is told of a lookback without events too; `on_breach` is False where of that alone.
    """

    name: str
    severity: str
    op: Op
    rate: Fraction
    lookback: int
    after: int = 0
    on_breach: bool = True
    on_no_data: bool = False


@dataclass(frozen=True, slots=True)
class SLO:
    """One objective: a statistic of an indicator's values, and the threshold it must keep.

    `threshold` is a fraction of 1 for a share and a mean of ratios, milliseconds for a time, else a number. `quantile`
    is the share of values that must keep a percentile's threshold: q of "p_q <= t"; 1 - q of "p_q >= t", whose rank
    counts from above. More unknown events than `max_unknown` of all are no data. `events_needed` and `no_data` say
    otherwise than `min_events` and the command. `default` marks the built-in ones, which do not apply to a run that
    never entered the indicator's layer. `alerts` are no part of what is asked. `file`, `line` and `column` say where it
    is defined, from 1.
    """

    name: str
    description: str
    sli: SLI
    statistic: Statistic
    op: Op
    threshold: Fraction
    quantile: Fraction | None = None
    max_unknown: Fraction | None = None
    unit: Unit = "ratio"
    window: Window | None = None
    slices: TimeSlices | None = None
    events_needed: int | None = None
    no_data: Policy | None = None
    default: bool = False
    alerts: tuple[BurnPolicy, ...] = field(default=(), compare=False)
    file: str | None = field(default=None, compare=False)
    line: int | None = field(default=None, compare=False)
    column: int | None = field(default=None, compare=False)

    @property
    def upper(self) -> bool:
        """Whether the threshold is the most allowed, rather than the least."""
        return self.op in ("lte", "lt")

    @property
    def target(self) -> Fraction | None:
        """Least share of good events (of good slices, with `slices`); None for what allows a number instead."""
        if self.statistic == "share" or (self.statistic == "mean" and self.unit == "ratio"):
            return 1 - self.threshold if self.upper else self.threshold
        return self.quantile

    @property
    def good(self) -> str:
        """SQL condition on `value` under which an event is good."""
        if self.statistic == "percentile" or (self.statistic == "mean" and self.unit != "ratio"):
            return f"value {SIGNS[self.op]} {float(self.threshold)!r}"
        return "value < 1" if self.upper else "value >= 1"

    @property
    def min_events(self) -> int:
        """Fewest events (slices, with `slices`) that can show the target met: see `statistics.minimum_events`.

        1 for what has no target, and what the definition says if it does.
        """
        if self.events_needed is not None:
            return self.events_needed
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
    dimensions=("host", "source", "reason"),
    empty="no artifact was attempted",
    blind=(
        "NOT EXISTS (SELECT 1 FROM downloads) AND EXISTS (SELECT 1 FROM fallback_attempts WHERE outcome = 'success')",
        "downloads are not recorded",
    ),
)
_TTFP: Final = SLI(
    "ttfp",
    layer="fallback",
    dimensions=("host", "source", "tier"),
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
    dimensions=("host", "scope"),
    empty="no circuit breaker was seen",
    seen_is_zero=True,
)
_CORRUPTION: Final = SLI(
    "corruption",
    layer="download",
    dimensions=("host", "source"),
    empty="nothing was stored",
    on_disk=True,
)


_UNITS: Final[dict[Statistic, Unit]] = {"share": "ratio", "percentile": "ms", "count": "number", "worst_hour": "number"}


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
    unit = _UNITS[statistic]
    return SLO(name, description, sli, statistic, op, Fraction(threshold), exact, unknown, unit, default=True)


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
