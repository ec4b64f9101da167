"""What one run comes to: the gauges, and the events of objectives that need the whole run, by the gate's own texts.

    evaluate(record, "01K9Z3NDEKTS", slos, hosts).gauges["retrospan_yield_ratio"]       # {("01K9Z3NDEKTS",): 0.9}

Every number is that of `retrospan slo` for the same rows; what it would not say (no data, not applicable, a percentile that
falls on a refusal) is not there. Reads all rows of the run: when that is worth while is decided in `sidecar`.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from retrospan.prometheus import names
from retrospan.prometheus.counts import by_rows
from retrospan.prometheus.labels import Folding
from retrospan.record import Record, RecordError
from retrospan.runs import find
from retrospan.slo.definitions import DEFAULTS, SLO
from retrospan.slo.measure import Measure
from retrospan.slo.verdicts import missing
from retrospan.slo.windows import Scope

# Each gauge of a whole run, the objective whose number it is, and how many of its unit make one of ours.
_GAUGES: Final = (
    (names.YIELD, "yield", 1),
    (names.TTFP_P50, "ttfp_p50", 1000),
    (names.TTFP_P95, "ttfp_p95", 1000),
    (names.CACHE_HIT, "cache_hit", 1),
    (names.LIMITER_DELAY, "rate_delay_p95", 1000),
)
_HTTP_429: Final = DEFAULTS["http_429"]
# An artifact that has no stored file yet may get one: it is a bad event once it was given up, or its run is over.
_GIVEN_UP: Final = """
SELECT COUNT(DISTINCT artifact_id)
     - COUNT(DISTINCT CASE WHEN sha256 IS NOT NULL AND final_path IS NOT NULL THEN artifact_id END)
FROM downloads WHERE artifact_id IS NOT NULL
"""
_WORST_FIRST: Final = ("open", "half_open", "closed")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The numbers of one run: gauges by metric and labels; by objective its (good, bad) events so far."""

    run_id: str
    started_at: float
    gauges: dict[str, dict[tuple[str, ...], float]]
    events: dict[str, tuple[float, float]]


def evaluate(record: Record, run_id: str, slos: Iterable[SLO], hosts: Folding) -> Evaluation:
    """Evaluate one run, to which the record is bound by it. Raises RecordError."""
    run = find(record, run_id)
    if run is None:
        raise RecordError(f"{record.name}: the record holds no run yet")
    measure = Measure(record, Scope.of(run))
    gauges: dict[str, dict[tuple[str, ...], float]] = {
        metric: {(run_id,): value / units}
        for metric, slo, units in _GAUGES
        if (value := _value(measure, DEFAULTS[slo])) is not None
    }
    gauges[names.HTTP_429] = _throttled(measure, run_id, hosts)
    gauges[names.BREAKER_STATE] = _breaker_states(record, run_id, hosts)
    is_over = run.state in ("finished", "killed")
    events = {
        slo.name: _events(measure, slo, is_over=is_over) for slo in slos if not by_rows(slo) and slo.slices is None
    }
    known = {name: pair for name, pair in events.items() if pair is not None}
    return Evaluation(run_id, run.started_at or 0.0, gauges, known)


def _value(measure: Measure, slo: SLO) -> float | None:
    """The number that `retrospan slo` gives for an objective, None where it gives none."""
    if not measure.applies(slo):
        return None
    sample = measure.sample(slo)
    if sample.value is None or missing(slo, sample) or measure.blind(slo.sli) or math.isinf(sample.value):
        return None
    return sample.value


def _events(measure: Measure, slo: SLO, *, is_over: bool) -> tuple[float, float] | None:
    """Good and bad events; None when a query of a definition file cannot be run."""
    try:
        sample = measure.sample(slo)
    except RecordError:
        if slo.sli.queries:
            return None
        raise
    good, bad = float(sample.good), float(sample.total - sample.good)
    if slo.sli == DEFAULTS["yield"].sli and not is_over:
        bad = float(measure.record.rows(_GIVEN_UP)[0][0])
    return good, bad


def _throttled(measure: Measure, run_id: str, hosts: Folding) -> dict[tuple[str, ...], float]:
    counts: dict[tuple[str, ...], tuple[int, int]] = {}
    events = measure.events(_HTTP_429.sli)
    for host, known, good in events.rows(
        f"host, COUNT(value) AS n, COUNT(CASE WHEN {_HTTP_429.good} THEN 1 END)", "GROUP BY host ORDER BY n DESC, host"
    ):
        labels = (run_id, *hosts(host))
        before = counts.get(labels, (0, 0))
        counts[labels] = before[0] + known - good, before[1] + known
    return {labels: bad / known for labels, (bad, known) in counts.items() if known}


def _breaker_states(record: Record, run_id: str, hosts: Folding) -> dict[tuple[str, ...], float]:
    """One series a state: 1 for the one that a host's breaker is in. Of hosts that are told as one, the worst."""
    # A transition says what a breaker is in; without one, the requests that went through it do.
    met = record.rows(
        "SELECT host, breaker_state, MAX(id) FROM http_events WHERE breaker_state IS NOT NULL GROUP BY host"
    ) + record.rows("SELECT host, new_state, MAX(id) FROM breaker_transitions GROUP BY host")
    now: dict[str | None, str] = {host: str(state).lower() for host, state, _ in met}
    shown: dict[tuple[str, ...], str] = {}
    for host, state in now.items():
        if state in _WORST_FIRST:
            labels = hosts(host)
            shown[labels] = min(state, shown.get(labels, state), key=_WORST_FIRST.index)
    return {(run_id, *labels, state): float(state == own) for labels, own in shown.items() for state in names.STATES}
