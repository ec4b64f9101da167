"""What the sidecar shows is what `retrospan slo` says of the same rows, and what is not known is not shown."""

import random
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from scrapes import Scrape

from retrospan.prometheus import names
from retrospan.slo.gate import judge_run

from .records import RUN, START, Making, making, making_more, stored
from .watching import watching

OUTCOMES = ("success", "retryable", "timeout", "skipped", "no_pdf")


def misery(record: Making, seed: int, run_id: str = RUN, rows: int = 300) -> None:
    """Rows of a run as they come, with every kind of value and gap in them."""
    chance = random.Random(seed)
    for number in range(rows):
        ts = START + number + chance.random()
        shared: dict[str, Any] = {"run_id": run_id, "ts": ts, "host": f"h{chance.randrange(4)}.example"}
        wire = chance.choice([0, 1, 1, 1])
        record.add(
            "http_events",
            role=chance.choice(["metadata", "artifact", None]),
            method=chance.choice(["GET", "GET", "HEAD"]),
            status=chance.choice([200, 200, 304, 404, 429, 503, None]),
            wire=wire,
            from_cache=1 - wire,
            revalidated=chance.choice([0, 1]),
            hop_last=chance.choice([0, 1]),
            rate_delay_ms=chance.choice([None, 0, 10, 400]),
            breaker_state=chance.choice([None, "closed", "open"]),
            **shared,
        )
        artifact = f"10.1/{chance.randrange(60)}"
        record.add(
            "fallback_attempts",
            artifact_id=artifact,
            tier="direct",
            source=chance.choice(["oa", "crossref"]),
            outcome=chance.choice(OUTCOMES),
            elapsed_ms=chance.randrange(9000),
            **shared,
        )
        if chance.random() < 0.3:
            columns = stored(number) if chance.random() < 0.7 else {"outcome": "failed"}
            action = chance.choice(["none", "hardlink", "copy", "skipped"])
            record.add("downloads", artifact_id=artifact, dedupe_action=action, **columns, **shared)
        if chance.random() < 0.1:
            old, new = chance.choice(
                [("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed")]
            )
            record.add("breaker_transitions", old_state=old, new_state=new, scope="host", **shared)
        if chance.random() < 0.05:
            record.add("rate_events", role="metadata", action="block", **shared)


def gauges(page: Scrape, run_id: str = RUN) -> dict[str, float]:
    """The gauges of a run that have no further label, by metric."""
    shown = {
        name: page.of(name, "run_id").get((run_id,))
        for name, metric in names.METRICS.items()
        if metric.labels == ("run_id",)
    }
    return {name: value for name, value in shown.items() if value is not None}


def judged(record: Path, run_id: str = RUN) -> dict[str, float]:
    """The same, as the gate says it: null where it says no number."""
    results = {result.slo.name: result for result in judge_run(record, run_id).results}
    numbers = {
        names.YIELD: results["yield"].value,
        names.CACHE_HIT: results["cache_hit"].value,
        names.TTFP_P50: results["ttfp_p50"].value,
        names.TTFP_P95: results["ttfp_p95"].value,
        names.LIMITER_DELAY: results["rate_delay_p95"].value,
    }
    units = {name: 1000 if name.endswith("_seconds") else 1 for name in numbers}
    return {
        name: value / units[name]
        for name, value in numbers.items()
        if value is not None and results[_SLO[name]].verdict not in ("no_data", "not_applicable")
    }


_SLO = {
    names.YIELD: "yield",
    names.CACHE_HIT: "cache_hit",
    names.TTFP_P50: "ttfp_p50",
    names.TTFP_P95: "ttfp_p95",
    names.LIMITER_DELAY: "rate_delay_p95",
}


@pytest.mark.parametrize("seed", range(4))
def test_gauges_and_counters_are_the_gates_numbers(tmp_path: Path, seed: int) -> None:
    """The record appears under the sidecar, so that all of it is counted."""
    path, hidden = tmp_path / "telemetry.sqlite", tmp_path / "hidden"
    with making(hidden) as record:
        record.run()
        misery(record, seed)
        record.ended()
    with watching(path) as sidecar:
        hidden.rename(path)
        page = sidecar.when(lambda page: page.of(names.HTTP_429), "the run is evaluated")
        page = sidecar.settled()
    expected = judged(path)
    assert names.YIELD in expected
    assert gauges(page) == expected
    results = {result.slo.name: result for result in judge_run(path, RUN).results}
    events = page.of(names.SLO_EVENTS, "slo", "verdict")
    assert {slo: (events[slo, "good"], events[slo, "bad"]) for slo in results} == {
        slo: (result.sample.good, result.sample.total - result.sample.good)
        for slo, result in results.items()
        if result.sample is not None
    }
    assert sum(page.of(names.CORRUPTIONS).values()) == results["corruption"].value
    with closing(sqlite3.connect(path)) as rows:
        requests = rows.execute("SELECT host, ifnull((status / 100) || 'xx', 'error') FROM http_events").fetchall()
        attempts = rows.execute("SELECT tier, source, outcome FROM fallback_attempts").fetchall()
        opens = rows.execute("SELECT host FROM breaker_transitions WHERE new_state = 'open'").fetchall()
        (saved,) = rows.execute("SELECT sum(content_length) FROM downloads WHERE dedupe_action <> 'none'").fetchone()
        seen = rows.execute(
            "SELECT host, count(*), sum(status = 429) FROM http_events"
            " WHERE status IS NOT NULL AND wire = 1 AND (from_cache = 0 OR revalidated = 1) GROUP BY host"
        ).fetchall()
    assert page.of(names.REQUESTS, "host", "status_class") == Counter(requests)
    assert page.of(names.ATTEMPTS, "tier", "source", "outcome") == Counter(attempts)
    assert page.of(names.BREAKER_OPENS, "host") == {(f"h{number}.example",): 0 for number in range(4)} | Counter(opens)
    assert page.of(names.SAVED_BYTES) == {(): saved}
    assert page.of(names.HTTP_429, "host") == {(host,): bad / known for host, known, bad in seen}


def test_what_is_not_known_is_absent_and_never_0(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.run(layers="http,cache,limiter,breaker,fallback,download")
        record.add("http_events", host="h", status=200, wire=1, from_cache=0, method="GET", role="metadata")
    with watching(path, run_id=RUN) as sidecar:
        page = sidecar.when(lambda page: page.of(names.CACHE_HIT))
    assert gauges(page) == {names.CACHE_HIT: 0.0} == judged(path)
    assert page.of(names.HTTP_429, "host") == {("h",): 0.0}
    for name in (names.YIELD, names.TTFP_P50, names.TTFP_P95, names.LIMITER_DELAY, names.BREAKER_STATE):
        assert name not in page.text


def test_a_percentile_that_falls_on_a_refusal_and_a_layer_that_was_not_used_have_no_number(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.run(layers="http,limiter")
        record.add("http_events", host="h", status=200, wire=1, from_cache=0, method="GET", role="metadata")
        record.add("rate_events", role="metadata", action="block", host="h")
    with watching(path, run_id=RUN) as sidecar:
        page = sidecar.when(lambda page: page.of(names.HTTP_429))
    assert gauges(page) == judged(path) == {}


def test_runs_that_overlap_have_their_own_numbers(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.run("A")
        record.run("B", started_at=START + 1)
    with watching(path) as sidecar, making_more(path) as record:
        for part in range(3):
            misery(record, part, "A", 40)
            misery(record, 10 + part, "B", 40)
            record.commit()
            sidecar.when(lambda page: len(page.of(names.YIELD, "run_id")) == 2)
        record.ended("A")
        record.commit()
        page = sidecar.settled()
    assert gauges(page, "A") == judged(path, "A")
    assert gauges(page, "B") == judged(path, "B")
    assert gauges(page, "A") != gauges(page, "B")


def test_a_breakers_state_is_the_last_transitions_or_what_requests_met(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.run()
        record.add("breaker_transitions", host="a", old_state="closed", new_state="open")
        record.add("breaker_transitions", host="a", old_state="open", new_state="half_open")
        record.add("http_events", host="a", status=200, breaker_state="closed")
        record.add("http_events", host="b", status=200, breaker_state="closed")
        record.add("http_events", host="c", status=200)
    with watching(path, run_id=RUN) as sidecar:
        page = sidecar.when(lambda page: page.of(names.BREAKER_STATE))
    assert page.of(names.BREAKER_STATE, "host", "state") == {
        ("a", "closed"): 0, ("a", "half_open"): 1, ("a", "open"): 0,
        ("b", "closed"): 1, ("b", "half_open"): 0, ("b", "open"): 0,
    }  # fmt: skip


def test_an_artifact_is_a_bad_event_once_it_is_given_up_or_its_run_is_over(tmp_path: Path) -> None:
    path = tmp_path / "telemetry.sqlite"
    with making(path) as record:
        record.run()

    def events(page: Scrape) -> tuple[float, float]:
        found = page.of(names.SLO_EVENTS, "slo", "verdict")
        return found["yield", "good"], found["yield", "bad"]

    with watching(path) as sidecar, making_more(path) as record:
        for artifact in ("stored", "failed", "tried"):
            record.add("fallback_attempts", artifact_id=artifact, outcome="no_pdf", elapsed_ms=1)
        record.commit()
        sidecar.when(lambda page: sum(page.of(names.ATTEMPTS).values()) == 3)
        assert events(sidecar.settled()) == (0, 0)
        record.add("downloads", artifact_id="stored", **stored())
        record.add("downloads", artifact_id="failed", outcome="failed")
        record.commit()
        sidecar.when(lambda page: events(page) == (1, 1))
        record.ended()
        record.commit()
        sidecar.when(lambda page: events(page) == (1, 2))
        assert events(sidecar.settled()) == (1, 2)


def test_many_hosts_are_told_as_one_with_their_sums(tmp_path: Path) -> None:
    path, hidden = tmp_path / "telemetry.sqlite", tmp_path / "hidden"
    with making(hidden) as record:
        record.run()
        for number in range(50):
            host = f"h{number:02}.example" if number else "a" * 500
            shared = {"host": host, "wire": 1, "from_cache": 0, "breaker_state": "closed"}
            record.add("http_events", {"status": 200}, {"status": 429}, **shared)
            record.add("fallback_attempts", tier="t", source=host, outcome="no <pdf>\n", artifact_id="a")
        record.add("breaker_transitions", host="h49.example", old_state="closed", new_state="open")
    with watching(path, most_hosts=10) as sidecar:
        hidden.rename(path)
        page = sidecar.when(lambda page: page.of(names.HTTP_429))
    requests = page.of(names.REQUESTS, "host")
    assert len(requests) == 11
    assert requests["other",] == 80
    assert max(len(host) for (host,) in requests) == 200
    attempts = page.of(names.ATTEMPTS, "tier", "source", "outcome")
    assert (len(attempts), attempts["other", "other", "other"]) == (11, 40)
    assert page.of(names.BREAKER_OPENS, "host")["other",] == 1
    assert page.of(names.HTTP_429, "host")["other",] == 0.5
    assert page.of(names.BREAKER_STATE, "host", "state")["other", "open"] == 1
