"""What each objective makes of rows that are missing, unknown or NULL: never a 0 that passes."""

import pytest

from .records import START, making, stored

GET = {"role": "metadata", "method": "GET", "status": 200}


def test_no_artifact_attempted_is_no_data(path, judged):
    with making(path) as record:
        record.run()
        record.add("fallback_attempts", artifact_id="a", outcome="skipped")
    assert (judged()["yield"].verdict, judged()["yield"].value) == ("no_data", None)


def test_successes_without_any_download_row_mean_that_downloads_are_not_recorded(path, judged):
    with making(path) as record:
        record.run()
        record.add("fallback_attempts", *[{"artifact_id": str(n)} for n in range(30)], outcome="success")
    result = judged()["yield"]
    assert (result.verdict, result.reason, result.value) == ("no_data", "downloads are not recorded", None)


def test_failures_without_any_download_row_are_a_yield_of_0(path, judged):
    with making(path) as record:
        record.run()
        record.add("fallback_attempts", *[{"artifact_id": str(n)} for n in range(30)], outcome="no_pdf")
    assert (judged()["yield"].verdict, judged()["yield"].value) == ("fail", 0.0)


def test_no_success_is_no_time_to_it_and_the_unsuccessful_are_counted_beside(path, judged):
    with making(path) as record:
        record.run()
        record.add("fallback_attempts", *[{"artifact_id": str(n)} for n in range(30)], outcome="no_pdf")
    result = judged()["ttfp_p50"]
    assert (result.verdict, result.sample.total, result.sample.unknown) == ("no_data", 0, 30)


def test_the_time_to_first_pdf_counts_from_the_start_of_the_first_attempt(path, judged):
    with making(path) as record:
        record.run()
        record.add("fallback_attempts", artifact_id="a", ts=START + 4, elapsed_ms=4000, outcome="timeout")
        record.add("fallback_attempts", artifact_id="a", ts=START + 5, elapsed_ms=1000, outcome="success")
        record.add("fallback_attempts", artifact_id="a", ts=START + 9, elapsed_ms=1000, outcome="success")
    assert judged()["ttfp_p50"].value == 5000


def test_no_response_is_no_429_ratio(path, judged):
    with making(path) as record:
        record.run()
        record.add("http_events", error="ConnectError", wire=1)
    assert judged()["http_429"].verdict == "no_data"


def test_an_exception_is_no_response_and_an_unknown_cache_flag_is_network(path, judged):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{}] * 10, error="ReadTimeout", wire=1)
        record.add("http_events", *[{}] * 150, status=429, from_cache=None)
        record.add("http_events", *[{}] * 50, status=200, from_cache=None)
        record.add("http_events", *[{}] * 99, status=200, from_cache=1, wire=0)
    result = judged()["http_429"]
    assert (result.verdict, result.value, result.sample.total) == ("fail", 0.75, 200)


@pytest.mark.parametrize(("unknown", "verdict"), [(2, "pass"), (3, "no_data")])
def test_one_percent_of_unknown_cache_flags_is_judged_and_more_is_not(path, judged, unknown, verdict):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"from_cache": 1}] * (200 - unknown), *[{"from_cache": None}] * unknown, **GET)
    result = judged()["cache_hit"]
    assert (result.verdict, result.sample.unknown) == (verdict, unknown)
    assert result.reason == (None if verdict == "pass" else "3 of 200 are unknown, more than 1 %")


def test_a_revalidation_is_a_hit_shown_apart_and_only_what_the_client_received_counts(path, judged):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"hop_last": 1}] * 6, {"hop_last": None}, from_cache=1, revalidated=1, **GET)
        record.add("http_events", *[{}] * 20, hop_last=0, from_cache=0, **GET)
    result = judged()["cache_hit"]
    assert (result.verdict, result.value, result.sample.total, result.sample.apart) == ("pass", 1.0, 7, 7)


def test_no_known_cache_flag_is_no_cache_hit_ratio(path, judged):
    with making(path) as record:
        record.run()
    assert judged()["cache_hit"].verdict == "no_data"


def test_a_wait_of_null_is_left_out_and_of_0_kept(path, judged):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"rate_delay_ms": 0}] * 95, *[{"rate_delay_ms": 900}] * 5, *[{}] * 50, **GET)
    result = judged()["rate_delay_p95"]
    assert (result.verdict, result.value, result.sample.total) == ("pass", 0, 100)


def test_a_percentile_on_a_refusal_has_no_value_and_fails(path, judged):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"rate_delay_ms": 0}] * 94, **GET)
        record.add("rate_events", *[{}] * 6, role="metadata", action="block")
    result = judged()["rate_delay_p95"]
    assert (result.verdict, result.value, result.reason, result.sample.good) == ("fail", None, "refused", 94)


def test_a_percentile_on_a_refusal_below_the_minimum_is_insufficient(path, judged):
    with making(path) as record:
        record.run()
        record.add("http_events", *[{"rate_delay_ms": 0}] * 9, **GET)
        record.add("rate_events", {}, role="metadata", action="block")
    result = judged()["rate_delay_p95"]
    assert (result.verdict, result.value, result.reason) == ("insufficient", None, "refused")


@pytest.mark.parametrize("row", [{"role": "landing", "action": "block"}, {"role": "metadata", "action": "head_skip"}])
def test_only_a_final_refusal_of_metadata_is_a_wait_for_ever(path, judged, row):
    with making(path) as record:
        record.run()
        record.add("rate_events", row)
    assert judged()["rate_delay_p95"].verdict == "no_data"


def opened(record, *seconds, old_state="closed"):
    record.add(
        "breaker_transitions", *[{"ts": START + s} for s in seconds], old_state=old_state, new_state="open", host="h"
    )


@pytest.mark.parametrize(("last", "value", "verdict"), [(3599.0, 13, "fail"), (3600.0, 12, "pass")])
def test_openings_are_those_of_the_worst_hour(path, judged, last, value, verdict):
    with making(path) as record:
        record.run()
        opened(record, *[0.0] * 12, last)
    assert (judged()["breaker_opens"].verdict, judged()["breaker_opens"].value) == (verdict, value)


def test_a_reopening_counts_and_half_open_is_no_opening(path, judged):
    with making(path) as record:
        record.run()
        opened(record, 0)
        record.add("breaker_transitions", old_state="open", new_state="half_open")
        opened(record, 60, old_state="half_open")
        record.add("breaker_transitions", old_state="half_open", new_state="closed")
    assert judged()["breaker_opens"].value == 2


@pytest.mark.parametrize("seen", ["transition", "state", "rejection", "layer"])
def test_no_opening_is_0_when_a_breaker_was_seen(path, judged, seen):
    with making(path) as record:
        record.run(layers="breaker" if seen == "layer" else "http")
        if seen == "transition":
            record.add("breaker_transitions", old_state="open", new_state="half_open")
        if seen == "state":
            record.add("http_events", breaker_state="closed")
        if seen == "rejection":
            record.add("breaker_rejections")
    assert (judged()["breaker_opens"].verdict, judged()["breaker_opens"].value) == ("pass", 0)


def test_no_breaker_seen_in_a_legacy_database_is_no_data(path, judged):
    with making(path, legacy=True) as record:
        record.add("http_events", ranged=False, status=200)
    assert judged()["breaker_opens"].verdict == "no_data"


def test_a_download_that_failed_is_no_corruption(path, judged):
    with making(path) as record:
        record.run()
        record.add("downloads", artifact_id="a", outcome="failed", reason="truncated")
    assert judged()["corruption"].verdict == "no_data"


@pytest.mark.parametrize(
    "broken",
    [{"sha256": None}, {"sha256": "ab"}, {"final_path": None}, {"content_length": None}, {"content_length": 0}],
)
def test_a_stored_file_without_hash_path_or_length_is_corruption(path, judged, broken):
    with making(path) as record:
        record.run()
        record.add("downloads", stored(), stored() | broken)
    result = judged()["corruption"]
    assert (result.verdict, result.value, result.sample.total) == ("fail", 1, 2)
