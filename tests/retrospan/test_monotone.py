"""Verdicts are monotone in the data: what goes worse never makes one better, and more good events never make one worse."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from retrospan.runs import Run
from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.measure import Measure
from retrospan.slo.verdicts import evaluate
from retrospan.slo.windows import Scope

from .records import RUN, START, stored
from .test_counts import opened

BETTER = {"fail": 0, "insufficient": 1, "no_data": 1, "pass": 2}


def attempt(number, good):
    """An artifact that one source was asked for, quickly or slowly."""
    return {"artifact_id": str(number), "outcome": "success", "elapsed_ms": 900 if good else 60_000}


def download(number, good):
    """An artifact stored, or given up."""
    return {"artifact_id": str(number), **(stored(number) if good else {"outcome": "failed"})}


def answer(number, good):
    """An answer from the network, to a metadata GET."""
    return {"role": "metadata", "method": "GET", "hop_last": 1, "wire": 1, "status": 200 if good else 429}


def cached(number, good):
    return {**answer(number, True), "from_cache": int(good), "wire": int(not good)}


def delayed(number, good):
    return {**answer(number, True), "rate_delay_ms": 0 if good else 900}


def transition(number, good):
    """A breaker that closes, or opens."""
    old, new = ("half_open", "closed") if good else ("closed", "open")
    return {"host": "h", "old_state": old, "new_state": new}


def file(number, good):
    return {**stored(number), **({} if good else {"content_length": 0})}


# The table of each objective's events, and one of them, as it should be or not.
EVENTS = {
    "yield": ("downloads", download),
    "ttfp_p50": ("fallback_attempts", attempt),
    "ttfp_p95": ("fallback_attempts", attempt),
    "http_429": ("http_events", answer),
    "cache_hit": ("http_events", cached),
    "rate_delay_p95": ("http_events", delayed),
    "breaker_opens": ("breaker_transitions", transition),
    "corruption": ("downloads", file),
}


def verdict(name, good, bad):
    """The verdict of the whole gate on a record with so many good and bad events."""
    table, event = EVENTS[name]
    rows = [{"run_id": RUN, "ts": START + number, **event(number, number < good)} for number in range(good + bad)]
    with opened({table: rows}) as record:
        (result,) = evaluate(Measure(record, Scope.of(Run(RUN, "unknown"))), [DEFAULTS[name]])
    return result.verdict


def test_there_are_events_for_every_objective():
    assert set(EVENTS) == set(DEFAULTS)


# Around the least number of events, and around the target, the verdicts change.
around = st.sampled_from(sorted(DEFAULTS)).flatmap(
    lambda name: st.tuples(st.just(name), st.integers(0, 2 * DEFAULTS[name].min_events + 5), st.integers(0, 16))
)


@settings(max_examples=2 * settings.default.max_examples)
@given(around)
def test_an_event_that_turns_bad_never_makes_a_verdict_better(case):
    name, good, bad = case
    assume(good)
    assert BETTER[verdict(name, good - 1, bad + 1)] <= BETTER[verdict(name, good, bad)]


@settings(max_examples=2 * settings.default.max_examples)
@given(around)
def test_more_good_events_never_fail_what_passes_and_more_bad_ones_never_pass_what_fails(case):
    name, good, bad = case
    before = verdict(name, good, bad)
    if before == "pass":
        assert verdict(name, good + 1, bad) == "pass"
    if before == "fail":
        assert verdict(name, good, bad + 1) == "fail"


@given(st.lists(st.integers(0, 40_000), min_size=1, max_size=90), st.data())
def test_a_slower_artifact_never_makes_a_percentile_s_verdict_better(times, data):
    slower = data.draw(st.integers(0, len(times) - 1))
    more = [time + data.draw(st.integers(1, 30_000)) * (at == slower) for at, time in enumerate(times)]
    for name in ("ttfp_p50", "ttfp_p95"):
        assert BETTER[_of_times(name, more)] <= BETTER[_of_times(name, times)]


def _of_times(name, times):
    rows = [{"run_id": RUN, "ts": START, **attempt(at, True), "elapsed_ms": time} for at, time in enumerate(times)]
    with opened({"fallback_attempts": rows}) as record:
        (result,) = evaluate(Measure(record, Scope.of(Run(RUN, "unknown"))), [DEFAULTS[name]])
    return result.verdict
