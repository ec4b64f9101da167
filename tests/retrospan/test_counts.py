"""What the eight indicators come to, against a brute force in Python over random records with NULLs."""

import math
import sqlite3
from contextlib import closing, contextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from retrospan.record import Record
from retrospan.runs import Run
from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.measure import Measure
from retrospan.slo.windows import Scope
from retrospan_exporters import tables

from .records import RUN, START, Making

maybe = st.sampled_from
moments = st.integers(0, 9000).map(lambda second: START + second)
artifacts = maybe([None, "a", "b", "c", "d"])
flags = maybe([None, 0, 1])
hosts = maybe([None, "h1", "h2"])


def rows(**columns):
    return st.lists(
        st.fixed_dictionaries({"run_id": maybe([RUN, RUN, "other"]), "ts": moments, **columns}), max_size=12
    )


records = st.fixed_dictionaries(
    {
        "http_events": rows(
            host=hosts,
            role=maybe([None, "metadata", "metadata", "landing"]),
            method=maybe([None, "GET", "GET", "HEAD"]),
            status=maybe([None, 200, 304, 429]),
            from_cache=flags,
            revalidated=flags,
            rate_delay_ms=maybe([None, 0, 100, 250, 251]),
            breaker_state=maybe([None, "closed", "half_open"]),
            wire=flags,
            hop_last=flags,
        ),
        "rate_events": rows(role=maybe([None, "metadata", "landing"]), action=maybe(["acquire", "block", "head_skip"])),
        "breaker_transitions": rows(
            host=hosts,
            old_state=maybe([None, "closed", "half_open", "open"]),
            new_state=maybe([None, "closed", "half_open", "open"]),
        ),
        "fallback_attempts": rows(
            artifact_id=artifacts,
            outcome=maybe([None, "success", "no_pdf", "timeout", "skipped"]),
            elapsed_ms=maybe([None, 0, 1500, 3000]),
        ),
        "downloads": rows(
            artifact_id=artifacts,
            outcome=maybe([None, "stored", "failed"]),
            sha256=maybe([None, "0" * 64, "0" * 63]),
            final_path=maybe([None, "p"]),
            content_length=maybe([None, 0, 5]),
        ),
    }
)


@contextmanager
def opened(record):
    """A record in memory with these rows."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(tables.ddl())
        making = Making(connection)
        for table, found in record.items():
            for row in found:
                making.add(table, **row)
        yield Record(connection, "memory")


def measured(record):
    with opened(record) as reading:
        measure = Measure(reading, Scope.of(Run(RUN, "unknown")))
        samples = {name: measure.sample(slo) for name, slo in DEFAULTS.items()}
    return {name: (sample.good, sample.total, sample.unknown, sample.value) for name, sample in samples.items()}


def mine(record, table):
    return [row for row in record[table] if row["run_id"] == RUN]


def percentile(numbers, percent, threshold, unknown=0):
    known = sorted(numbers)
    value = known[-(-percent * len(known) // 100) - 1] if known else None
    return sum(number <= threshold for number in known), len(known), unknown, value


def brute_force(record):
    http, attempts = mine(record, "http_events"), mine(record, "fallback_attempts")
    downloads = mine(record, "downloads")
    tried = [row for row in attempts if row["artifact_id"] and row["outcome"] != "skipped"]
    attempted = {row["artifact_id"] for row in tried + downloads} - {None}
    kept = {row["artifact_id"] for row in downloads if row["sha256"] and row["final_path"]} - {None}
    times = {
        artifact: first_success([row for row in tried if row["artifact_id"] == artifact]) for artifact in attempted
    }
    times = {artifact: time for artifact, time in times.items() if any(row["artifact_id"] == artifact for row in tried)}
    reached = [time for time in times.values() if time is not None]
    return {
        "yield": (len(kept), len(attempted), 0, len(kept) / len(attempted) if attempted else None),
        "ttfp_p50": percentile(reached, 50, 3000, len(times) - len(reached)),
        "ttfp_p95": percentile(reached, 95, 20000, len(times) - len(reached)),
        "http_429": too_many(http),
        "cache_hit": cache_hits(http),
        "rate_delay_p95": delays(http, mine(record, "rate_events")),
        "breaker_opens": openings(mine(record, "breaker_transitions"), http),
        "corruption": corrupt(downloads),
    }


def first_success(tried):
    successes = [row["ts"] for row in tried if row["outcome"] == "success"]
    if not successes:
        return None
    return min(successes) * 1000 - min(row["ts"] * 1000 - (row["elapsed_ms"] or 0) for row in tried)


def too_many(http):
    answers = [
        row["status"]
        for row in http
        if row["status"] and (row["from_cache"] != 1 or row["revalidated"] == 1) and row["wire"] != 0
    ]
    bad = answers.count(429)
    return len(answers) - bad, len(answers), 0, bad / len(answers) if answers else None


def cache_hits(http):
    flags = [
        row["from_cache"]
        for row in http
        if row["role"] == "metadata" and row["method"] == "GET" and row["hop_last"] != 0
    ]
    known = [flag for flag in flags if flag is not None]
    return sum(known), len(known), len(flags) - len(known), sum(known) / len(known) if known else None


def delays(http, rate):
    waits = [row["rate_delay_ms"] for row in http if row["role"] == "metadata" and row["rate_delay_ms"] is not None]
    waits += [math.inf for row in rate if row["role"] == "metadata" and row["action"] == "block"]
    return percentile(waits, 95, 250)


def openings(transitions, http):
    opened = [row["ts"] for row in transitions if row["new_state"] == "open" and row["old_state"] != "open"]
    proofs = len(transitions) + any(row["breaker_state"] for row in http)
    worst = max((sum(a <= b < a + 3600 for b in opened) for a in opened), default=0)
    return proofs - len(opened), proofs, 0, worst if proofs else None


def corrupt(downloads):
    claims = [row for row in downloads if row["outcome"] == "stored" or row["sha256"] or row["final_path"]]
    sound = [
        row for row in claims if row["sha256"] == "0" * 64 and row["final_path"] and (row["content_length"] or 0) > 0
    ]
    return len(sound), len(claims), 0, len(claims) - len(sound) if claims else None


@settings(max_examples=3 * settings.default.max_examples)
@given(records)
def test_the_indicators_equal_a_brute_force_exactly(record):
    assert measured(record) == brute_force(record)
