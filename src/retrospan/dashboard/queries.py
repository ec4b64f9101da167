"""What the dashboard asks of Prometheus.

    budget_left(DEFAULTS["http_429"])        # Query('1 - (sum(increase(... / ...', "http_429")

`$job`, `$run` and `$host` are the dashboard's variables, `$__range` and `$__rate_interval` Grafana's own.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Final, NamedTuple

from retrospan.prometheus import names
from retrospan.slo.definitions import SLO
from retrospan.slo.rules.series import HALF, OmittedError, check, events, is_count, number

FAILED, PASSED, FEW = 0, 1, 2

_JOB: Final = 'job=~"$job"'
_RUN: Final = f'{_JOB},run_id=~"$run"'
_HOST: Final = f'{_JOB},host=~"$host"'
_OF_HOST: Final = f'{_RUN},host=~"$host"'
_HOUR: Final = "1h"
# `increase` extrapolates good and total by the same factor, but for the last digits of a double.
_ROUNDING: Final = "1e-6"
_RATE: Final = "$__rate_interval"


class Query(NamedTuple):
    """An expression of PromQL, and what its series are called; `{{label}}` in that is the value of a label."""

    expression: str
    legend: str


def verdict(slo: SLO) -> Query:
    """FAILED, PASSED, or FEW events to tell, over the time that is shown."""
    good, total = _sum(slo, "$__range", names.GOOD), _sum(slo, "$__range")
    if is_count(slo):
        found = _sum(slo, "$__range", names.BAD)
        if slo.statistic == "worst_hour":
            # That ended at a step of the time shown; where that holds no step, the last one.
            hour = _sum(slo, _HOUR, names.BAD)
            found = f"(max_over_time({hour}[$__range:{_RATE}]) or {hour})"
        return Query(f"({found} <= bool {number(slo.threshold + HALF)}) and ({total} > 0)", slo.name)
    met = f"{good} >= bool {number(_target(slo))} * {total} - {_ROUNDING}"
    few = f"({total} > 0 < {number(slo.min_events - HALF)}) * 0 + {FEW}"
    return Query(f"{few}\nor\n({met}) and ({total} > 0)", slo.name)


def budget_left(slo: SLO) -> Query:
    """The share of the error budget that is left over the time that is shown, below 0 when overdrawn."""
    burnt = f"{_sum(slo, '$__range', names.BAD)} / ({_sum(slo, '$__range')} > 0)"
    return Query(f"1 - {burnt} / {number(_budget(slo))}", slo.name)


def burn_rate(slo: SLO) -> Query:
    """How many times as fast as is allowed the budget burnt in the hour before."""
    return Query(f"{_sum(slo, _HOUR, names.BAD)} / ({_sum(slo, _HOUR)} > 0) / {number(_budget(slo))}", slo.name)


def told(slos: Sequence[SLO]) -> Iterator[SLO]:
    """The objectives of which a series tells."""
    for slo in slos:
        try:
            check(slo)
        except OmittedError:
            continue
        yield slo


def has_budget(slo: SLO) -> bool:
    """Whether it is a share of bad events that is allowed, and more than none."""
    return slo.target is not None and not is_count(slo) and slo.target < 1


RUNS: Final = {
    "yield": Query(f"{names.YIELD}{{{_RUN}}}", "{{run_id}}"),
    "cache_hit": Query(f"{names.CACHE_HIT}{{{_RUN}}}", "{{run_id}}"),
    "ttfp_p50": Query(f"{names.TTFP_P50}{{{_RUN}}}", "p50 {{run_id}}"),
    "ttfp_p95": Query(f"{names.TTFP_P95}{{{_RUN}}}", "p95 {{run_id}}"),
    "limiter_wait": Query(f"{names.LIMITER_DELAY}{{{_RUN}}}", "p95 {{run_id}}"),
    "http_429": Query(f"max by (host) ({names.HTTP_429}{{{_OF_HOST}}})", "{{host}}"),
    # Of a host in several runs, the worst: each breaker has a series a state, and 1 for the one that it is in.
    "breaker_state": Query(
        f'max by (host) (2 * {names.BREAKER_STATE}{{{_OF_HOST},state="open"}}'
        f' or {names.BREAKER_STATE}{{{_OF_HOST},state="half_open"}})',
        "{{host}}",
    ),
}
RATES: Final = {
    "requests": Query(f"sum by (status_class) (rate({names.REQUESTS}{{{_HOST}}}[{_RATE}]))", "{{status_class}}"),
    "by_host": Query(f"sum by (host) (rate({names.REQUESTS}{{{_HOST}}}[{_RATE}]))", "{{host}}"),
    "breaker_opens": Query(f"sum by (host) (increase({names.BREAKER_OPENS}{{{_HOST}}}[{_HOUR}]))", "{{host}}"),
    "outcomes": Query(f"sum by (tier, outcome) (rate({names.ATTEMPTS}{{{_JOB}}}[{_RATE}]))", "{{tier}} {{outcome}}"),
    "tiers": Query(
        f'sum by (tier, source) (increase({names.ATTEMPTS}{{{_JOB},outcome="success"}}[$__range]))'
        f" / sum by (tier, source) (increase({names.ATTEMPTS}{{{_JOB}}}[$__range]) > 0)",
        "{{tier}} {{source}}",
    ),
    "saved": Query(f"sum(increase({names.SAVED_BYTES}{{{_JOB}}}[$__range]))", "not stored twice"),
    "corruptions": Query(f"sum(increase({names.CORRUPTIONS}{{{_JOB}}}[$__range]))", "corrupt"),
    "dropped": Query(f"sum(increase({names.ROWS_DROPPED}{{{_JOB}}}[$__range]))", "rows dropped"),
}
RECORD: Final = {
    "size": Query(f"{names.RECORD_SIZE}{{{_JOB}}}", "{{job}} {{instance}}"),
    "lag": Query(f"{names.RECORD_LAG}{{{_JOB}}}", "{{job}} {{instance}}"),
}


def _target(slo: SLO) -> Fraction:
    assert slo.target is not None, "only what has a target is asked for it"
    return slo.target


def _budget(slo: SLO) -> Fraction:
    return 1 - _target(slo)


def _sum(slo: SLO, window: str, of: str | None = None) -> str:
    return f"sum(increase({events(slo, _JOB, verdict=of)}[{window}]))"
