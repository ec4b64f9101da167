"""The metrics that `retrospan metrics` makes of a record: names, kinds, units, labels and meanings, once.

    METRICS["retrospan_http_429_ratio"].labels          # ("run_id", "host")

The keys are the names that Prometheus shows; they follow from an instrument's name and unit by OpenTelemetry's rules.
"""

from typing import Final, Literal, NamedTuple

Kind = Literal["counter", "gauge"]


class Metric(NamedTuple):
    """One metric: the instrument's name and unit, its kind, its labels in order, and its meaning."""

    instrument: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str


YIELD: Final = "retrospan_yield_ratio"
TTFP_P50: Final = "retrospan_ttfp_p50_seconds"
TTFP_P95: Final = "retrospan_ttfp_p95_seconds"
CACHE_HIT: Final = "retrospan_cache_hit_ratio"
HTTP_429: Final = "retrospan_http_429_ratio"
LIMITER_DELAY: Final = "retrospan_limiter_delay_p95_seconds"
BREAKER_STATE: Final = "retrospan_breaker_state"
BREAKER_OPENS: Final = "retrospan_breaker_opens_total"
SAVED_BYTES: Final = "retrospan_dedupe_saved_bytes_total"
CORRUPTIONS: Final = "retrospan_corruptions_total"
REQUESTS: Final = "retrospan_http_requests_total"
ATTEMPTS: Final = "retrospan_attempts_total"
SLO_EVENTS: Final = "retrospan_slo_events_total"
ROWS_DROPPED: Final = "retrospan_rows_dropped_total"
RECORD_SIZE: Final = "retrospan_record_size_bytes"
RECORD_LAG: Final = "retrospan_record_lag_seconds"

GOOD: Final = "good"
BAD: Final = "bad"
OTHER: Final = "other"
UNKNOWN: Final = "unknown"
STATES: Final = ("closed", "half_open", "open")

_RUN: Final = ("run_id",)
METRICS: Final[dict[str, Metric]] = {
    YIELD: Metric("retrospan.yield.ratio", "gauge", "1", _RUN, "Artifacts stored among those attempted"),
    TTFP_P50: Metric("retrospan.ttfp.p50", "gauge", "s", _RUN, "Time to first PDF, nearest-rank p50"),
    TTFP_P95: Metric("retrospan.ttfp.p95", "gauge", "s", _RUN, "Time to first PDF, nearest-rank p95"),
    CACHE_HIT: Metric("retrospan.cache_hit.ratio", "gauge", "1", _RUN, "Metadata GETs answered from the cache"),
    HTTP_429: Metric("retrospan.http_429.ratio", "gauge", "1", (*_RUN, "host"), "429 among responses from the network"),
    LIMITER_DELAY: Metric(
        "retrospan.limiter_delay.p95", "gauge", "s", _RUN, "Wait of metadata requests for their limiter, nearest-rank p95"
    ),
    BREAKER_STATE: Metric(
        "retrospan.breaker.state", "gauge", "", (*_RUN, "host", "state"), "1 for the state a breaker is in, 0 for the others"
    ),
    BREAKER_OPENS: Metric("retrospan.breaker.opens", "counter", "", ("host",), "Transitions into open, re-openings too"),
    SAVED_BYTES: Metric("retrospan.dedupe.saved", "counter", "By", (), "Bytes not stored twice (hardlink, copy, skipped)"),
    CORRUPTIONS: Metric(
        "retrospan.corruptions", "counter", "", (), "Files said to be stored that lack a hash, a path or a length"
    ),
    REQUESTS: Metric(
        "retrospan.http.requests", "counter", "", ("host", "status_class"),
        "Sends by the class of their status, answers from the cache too; error for those without an answer",
    ),
    ATTEMPTS: Metric(
        "retrospan.attempts", "counter", "", ("tier", "source", "outcome"), "Attempts to get an artifact from one source"
    ),
    SLO_EVENTS: Metric("retrospan.slo.events", "counter", "", ("slo", "verdict"), "Events of an objective, good and bad"),
    ROWS_DROPPED: Metric("retrospan.rows_dropped", "counter", "", (), "Rows that recorders had to drop"),
    RECORD_SIZE: Metric("retrospan.record.size", "gauge", "By", (), "Size of the records with their logs"),
    RECORD_LAG: Metric("retrospan.record.lag", "gauge", "s", (), "Age of the newest row"),
}  # fmt: skip
