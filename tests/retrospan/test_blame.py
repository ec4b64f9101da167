"""Who burned the budget, when it was worst, and the pages that tell it in full."""

import os
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrospan.record import Record
from retrospan.runs import Run
from retrospan.slo import side_by_side
from retrospan.slo.blame import blame
from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.drawing import histogram, step_of, timeline
from retrospan.slo.gate import judge_run
from retrospan.slo.measure import Measure
from retrospan.slo.verdicts import evaluate
from retrospan.slo.windows import Scope

from .commands import in_one_line, retrospan
from .records import RUN, START, healthy, making
from .test_counts import opened


def trace(number):
    return number.to_bytes(16)


@pytest.fixture
def bad(path):
    """Two hundred good answers, forty 429s of one host within twenty seconds, three of another an hour later."""
    with making(path) as record:
        record.run(layers="http")
        record.add("http_events", *[{"ts": START + n} for n in range(200)], status=200, host="good", role="metadata")
        forty = [{"ts": START + 600 + n / 2, "trace_id": trace(n)} for n in range(40)]
        record.add("http_events", *forty, status=429, host="slow", role="artifact")
        record.add("http_events", *[{"ts": START + 4200}] * 3, status=429, role="artifact", trace_id=trace(99))
        record.ended()
    return path


def test_an_objective_that_is_missed_says_who_and_when_and_where_to_look(bad):
    result = next(result for result in judge_run(bad).results if result.slo.name == "http_429")
    found = result.blame
    assert found.bad == 43
    assert found.worst.bad == 22
    assert found.worst.last - found.worst.first == 10.5
    assert found.traces == tuple(trace(n).hex() for n in range(3))
    offenders = {(one.dimension, one.value): one for one in found.offenders}
    slow = offenders["host", "slow"]
    assert (slow.bad, slow.total, slow.share, slow.first, slow.last) == (40, 40, 40 / 43, START + 600, START + 619.5)
    assert slow.traces == (trace(0).hex(), trace(39).hex())
    assert offenders["host", None].bad == 3
    assert [one.bad for one in found.offenders if one.dimension == "minute"] == [40, 3]


def test_a_dimension_of_which_nothing_is_known_is_not_told(path):
    with making(path) as record:
        record.run(layers="http")
        record.add("http_events", *[{}] * 9, status=429)
    found = next(result for result in judge_run(path).results if result.slo.name == "http_429").blame
    assert {one.dimension for one in found.offenders} == {"minute"}


def test_too_few_events_name_those_that_were_bad(path):
    with making(path) as record:
        record.run(layers="http")
        record.add("http_events", *[{}] * 20, status=200, host="good")
        record.add("http_events", status=429, host="slow")
    result = next(result for result in judge_run(path).results if result.slo.name == "http_429")
    assert (result.verdict, result.offenders[0].value) == ("insufficient", "slow")


events = st.lists(
    st.tuples(
        st.integers(0, 400), st.sampled_from([None, "a", "b", "c", "d", "e"]), st.sampled_from([None, 200, 429, 429])
    ),
    max_size=40,
)


@settings(deadline=None)
@given(events)
def test_offenders_are_those_of_a_brute_force(rows):
    columns = [{"ts": START + ts, "host": host, "status": status} for ts, host, status in rows]
    with opened({"http_events": [{"run_id": RUN, **row} for row in columns]}) as record:
        found = blame(Measure(record, Scope.of(Run(RUN, "unknown"))), DEFAULTS["http_429"])
    known = [(ts, host, status == 429) for ts, host, status in rows if status]
    bad = Counter(host for _, host, is_bad in known if is_bad)
    assert found.bad == sum(bad.values())
    told = {one.value: one for one in found.offenders if one.dimension == "host"}
    for host, one in told.items():
        assert one.bad == bad[host]
        assert one.total == sum(host == other for _, other, _ in known)
        assert one.share == bad[host] / found.bad
    assert (
        sorted((one.bad for one in told.values()), reverse=True) == sorted(bad.values(), reverse=True)[:3]
        or None in bad
    )
    if found.bad:
        moments = sorted(START + ts for ts, _, is_bad in known if is_bad)
        assert found.worst.first in moments
        assert found.worst.bad == sum(found.worst.first <= moment <= found.worst.last for moment in moments)
        assert 2 * found.worst.bad >= found.bad


def test_no_bad_event_has_nobody_to_blame(path):
    with making(path) as record:
        record.run()
        healthy(record)
    with Record.open(path) as record:
        assert blame(Measure(record, Scope.of(Run(RUN, "unknown"))), DEFAULTS["yield"]).worst is None


# -- two readers


def test_two_readers_say_what_one_says(bad, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    alone = judge_run(bad)
    monkeypatch.setattr(side_by_side, "_LARGE", 0)
    assert judge_run(bad) == alone


def test_a_record_that_grows_meanwhile_is_read_by_one(path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(side_by_side, "_LARGE", 0)
    with making(path) as writer:
        writer.run()
        healthy(writer, 30)
        writer.commit()
        with Record.open(path) as record:
            alone = evaluate(Measure(record, Scope.of(Run(RUN, "unknown"))), DEFAULTS.values())
            measure = Measure(record, Scope.of(Run(RUN, "unknown")))
            healthy(writer, 60)
            writer.commit()
            assert side_by_side.evaluate_side_by_side(measure, [*DEFAULTS.values()]) == alone


# -- explained


def explain(path, name, *options):
    finished = retrospan("slo", "explain", name, "--db", path, *options)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.isascii()
    return finished.stdout


def test_a_ratio_is_explained_with_a_timeline_its_offenders_and_worst_events(bad):
    told = explain(bad, "http-429")
    for line in (
        "http_429: fail",
        "  asked    <= 2 % (built in)",
        "  events   200 of 243 good, 189 needed to tell",
        "  budget   4.86 bad allowed, 43 there are, -38.14 left; burn rate 8.85",
        "2025-10-09 09:00:00 |######################################## 40 of 40 bad",
        "22 of 43 bad events came within",
        "host    slow",
        "host    (unknown)",
        trace(0).hex(),
    ):
        assert line in told
    assert "without events" in told


def test_a_percentile_is_explained_with_a_histogram_that_marks_what_is_asked(path):
    with making(path) as record:
        record.run()
        healthy(record)
        record.add("http_events", *[{"rate_delay_ms": 100 * n} for n in range(90)], role="metadata", host="slow\x1b[2J")
        record.add("rate_events", role="metadata", action="block", host="slow\x1b[2J")
    told = explain(path, "rate_delay_p95")
    lines = told.splitlines()
    assert any(line.lstrip().startswith("asked    +----") and line.endswith(" 250 ms") for line in lines)
    assert "refused, so never: 1" in told
    assert "slow?[2J" in told
    bars = [line for line in lines if " ms |" in line]
    assert sum(int(line.split()[-1]) for line in bars) == 290


def test_what_has_no_data_is_explained_by_why(path):
    with making(path) as record:
        record.run()
    assert "  why      no response from the network" in explain(path, "http_429")


@pytest.mark.parametrize(("name", "code", "said"), [("yeild", 2, "did you mean yield?"), ("yield", 2, "no run")])
def test_an_unknown_name_or_no_run_is_2(path, name, code, said):
    with making(path):
        pass
    finished = retrospan("slo", "explain", name, "--db", path)
    assert finished.returncode == code
    assert said in finished.stderr


def test_a_missing_record_is_2_in_one_line(path):
    assert "no such file" in in_one_line(retrospan("slo", "explain", "yield", "--db", path))


def test_a_query_of_ones_own_may_give_traces_and_its_own_dimensions(bad, tmp_path):
    slos = tmp_path / "slo.toml"
    sql = "SELECT ts AS timestamp, status AS value, trace_id, host AS server FROM http_events"
    slos.write_text(f'[slo.low]\nsql = "{sql}"\np = 0.5\nmax = "100ms"\n')
    told = explain(bad, "low", "--config", slos)
    assert f"429 ms  slow    {trace(0).hex()}" in told
    assert "server  good" in told


# -- pictures


numbers = st.one_of(st.integers(0, 10**6).map(float), st.floats(0, 1e9))


@given(st.dictionaries(numbers, st.integers(1, 50), min_size=1), st.floats(0.001, 1e6))
def test_a_histogram_tells_every_value_once_and_fits_a_terminal(counts, threshold):
    lines = histogram(sorted(counts.items()), threshold, " ms")
    told = [line.rsplit(" ", 1)[1] for line in lines if " ms |" in line]
    assert sum(float(number) for number in told) == pytest.approx(sum(counts.values()), rel=1e-4)
    assert sum("asked" in line for line in lines) == 1
    assert max(map(len, lines)) <= 100


def test_a_single_value_is_one_bin_beside_the_threshold():
    assert [line.split("|")[-1].split()[-1] for line in histogram([(20.0, 7)], 8.0, "")] == ["0", "8", "7"]


@given(st.floats(1e9, 2e9), st.floats(0, 1e9))
def test_a_timeline_has_no_more_lines_than_fit(first, length):
    assert length / step_of(first, first + length) < 25


def test_a_timeline_says_where_nothing_happened():
    lines = timeline([(START, 1, 4), (START + 10, 0, 2), (START + 40, 3, 3)])
    assert [line[20:] for line in lines] == [
        f"|{'#' * 10}{' ' * 30} 1 of 4 bad",
        f"|{' ' * 40} 0 of 2 bad",
        "... 2 without events",
        f"|{'#' * 40} 3 of 3 bad",
    ]


# -- suggested


def test_past_runs_would_have_met_what_is_suggested(path, tmp_path):
    with making(path) as record:
        for number in range(4):
            run = f"R{number}"
            record.run(run, started_at=START + number)
            healthy(record, 200 + 10 * number, run)
            attempts = [{"elapsed_ms": 1000 * number + n, "artifact_id": str(n)} for n in range(40)]
            record.add("fallback_attempts", *attempts, outcome="success", run_id=run)
            record.add("http_events", *[{}] * (number + 1), status=429, from_cache=0, wire=1, run_id=run)
            record.ended(run)
        record.run("live", started_at=START + 99)
    finished = retrospan("slo", "suggest", "--db", path, "--runs", "3")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout.startswith("# What the 3 latest finished runs would have met: R3, R2, R1.\n")
    assert "# 3 of 3 runs: worst " in finished.stdout
    slos = tmp_path / "slo.toml"
    slos.write_text(finished.stdout)
    for run in ("R1", "R2", "R3"):
        judged = retrospan("slo", "--db", path, "--run", run, "--config", slos)
        assert judged.returncode == 0, judged.stdout


def test_runs_without_enough_events_leave_an_objective_as_it_was(path):
    with making(path) as record:
        record.run()
        healthy(record, 3)
        record.ended()
    told = retrospan("slo", "suggest", "--db", path).stdout
    assert '# no run had enough events: left as it was\n[slo.yield]\nmin = "85%"' in told


def test_nothing_is_suggested_of_a_record_without_a_finished_run(path):
    with making(path) as record:
        record.run()
    assert "no finished run yet" in in_one_line(retrospan("slo", "suggest", "--db", path))


def test_an_objective_with_another_threshold_shares_the_numbers(path):
    with making(path) as record:
        record.run()
        healthy(record)
    slos = [replace(DEFAULTS["ttfp_p95"], threshold=Fraction(limit)) for limit in (899, 901)]
    assert [result.verdict for result in judge_run(path, slos=slos).results] == ["fail", "pass"]
