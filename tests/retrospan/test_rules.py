"""`retrospan slo rules`: which rules are written for which objectives, and what is said of those that get none."""

import shlex

import pytest
import yaml

from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.documents.write_openslo import as_openslo

from .commands import retrospan
from .records import healthy, making

# The budget of each objective with a target, the fewest events that tell (DESIGN, section 7), and the windows in which
# 14.4, 6, 3 and 1 times the budget is a share of events that can be bad.
BUDGETS = {
    "yield": (0.15, 22, ["6h", "1d", "3d"]),
    "ttfp_p50": (0.5, 4, ["3d"]),
    "ttfp_p95": (0.05, 73, ["1h", "6h", "1d", "3d"]),
    "http_429": (0.02, 189, ["1h", "6h", "1d", "3d"]),
    "cache_hit": (0.4, 6, ["3d"]),
    "rate_delay_p95": (0.05, 73, ["1h", "6h", "1d", "3d"]),
}
BURNING_FACTORS = {"1h": (14.4, "5m"), "6h": (6.0, "30m"), "1d": (3.0, "2h"), "3d": (1.0, "6h")}
# In place of what cannot fire: a page over the longest of its windows, and a ticket over that of its own.
BELOW_TARGET = {"yield": ["1h"], "ttfp_p50": ["6h", "1d"], "cache_hit": ["6h", "1d"]}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "slo.toml"


def written(*arguments):
    """The alerts that the command writes, and how it ended."""
    finished = retrospan("slo", "rules", *arguments)
    assert finished.returncode == 0, finished.stderr
    (group,) = yaml.safe_load(finished.stdout)["groups"]
    return [rule for rule in group["rules"] if "alert" in rule], finished


def named(alerts, name):
    return {(alert["labels"]["slo"], alert["labels"]["window"]): alert for alert in alerts if alert["alert"] == name}


def beyond(slo, long, short, threshold, least):
    ratio = "job_slo:retrospan_slo_errors:ratio_increase"
    return (
        f'{ratio}{long}{{slo="{slo}"}} > {threshold}\nand\n{ratio}{short}{{slo="{slo}"}} > {threshold}\n'
        f'and\njob_slo:retrospan_slo_events:increase{long}{{slo="{slo}"}} > {least - 0.5}'
    )


def test_every_objective_with_a_target_has_its_burn_rates_with_both_windows_and_the_least_number_of_events():
    alerts, finished = written()
    assert finished.stderr == ""
    found = named(alerts, "RetrospanBurnRate")
    wanted = {(slo, window) for slo, (_, _, windows) in BUDGETS.items() for window in windows}
    assert found.keys() == wanted
    thresholds = {("http_429", "1h"): 0.288, ("yield", "6h"): 0.9, ("yield", "1d"): 0.45, ("http_429", "3d"): 0.02}
    for (slo, window), threshold in thresholds.items():
        _, least, _ = BUDGETS[slo]
        assert found[slo, window]["expr"] == beyond(slo, window, BURNING_FACTORS[window][1], threshold, least)
    assert found["http_429", "1h"]["labels"]["severity"] == found["http_429", "6h"]["labels"]["severity"] == "page"
    assert found["http_429", "1d"]["labels"]["severity"] == found["http_429", "3d"]["labels"]["severity"] == "ticket"


def test_what_cannot_fire_is_replaced_by_an_alert_that_the_target_is_missed():
    found = named(written()[0], "RetrospanBelowTarget")
    assert found.keys() == {(slo, window) for slo, windows in BELOW_TARGET.items() for window in windows}
    assert found["yield", "1h"]["expr"] == beyond("yield", "1h", "5m", 0.15, 22)
    assert "burn rate of 14.4 cannot be reached" in found["yield", "1h"]["annotations"]["description"]


def too_many(slo, window, most):
    return f'sum by (job) (increase(retrospan_slo_events_total{{slo="{slo}",verdict="bad"}}[{window}])) > {most}'


def test_counts_are_held_against_their_bad_events_with_half_an_event_for_extrapolation():
    found = named(written()[0], "RetrospanTooMany")
    assert {key: alert["expr"] for key, alert in found.items()} == {
        (
            "breaker_opens",
            "1h",
        ): too_many("breaker_opens", "1h", 12.5),
        (
            "corruption",
            "1h",
        ): too_many("corruption", "1h", 0.5),
    }


def test_an_objectives_own_window_chooses_its_windows_and_period_those_of_the_others(file):
    file.write_text('[slo.http_429]\nmax = "1%"\nwindow = "7d"\n')
    found = named(written("--config", file, "--period", "28d")[0], "RetrospanBurnRate")
    burns = {window: alert["labels"]["burn_rate"] for (slo, window), alert in found.items() if slo == "http_429"}
    assert burns == {"15m": "13.44", "1h": "8.4", "6h": "2.8", "12h": "1.4"}
    assert found["http_429", "15m"]["expr"] == beyond("http_429", "15m", "5m", 0.1344, 381)
    assert found["ttfp_p95", "1h"]["labels"]["burn_rate"] == "13.44"
    assert ("ttfp_p95", "3d") in found


def test_what_no_series_tells_of_is_left_out_with_the_reason_in_the_file_and_on_stderr(file):
    file.write_text(
        """
[slo.http_429]
max = "2%"
slices = { length = "5m", target = "95%" }
[slo.yield]
min = "0%"
[slo.mean_ms]
sql = "SELECT ts AS timestamp, elapsed_ms AS value FROM http_events"
max = "50ms"
"""
    )
    alerts, finished = written("--config", file)
    reasons = {
        "yield": "its target of 0 % cannot be missed",
        "http_429": "it is judged by slices of time, which no series counts",
        "mean_ms": "it is a mean of plain numbers, which has no good and bad events",
    }
    lines = [f"{name}: no rule: {reason}" for name, reason in reasons.items()]
    assert finished.stderr.splitlines() == [f"retrospan: {line}" for line in lines]
    assert [line for line in finished.stdout.splitlines() if "no rule" in line] == [f"# {line}" for line in lines]
    assert {alert["labels"]["slo"] for alert in alerts} == DEFAULTS.keys() - reasons.keys()


def test_objectives_of_a_files_own_have_the_series_of_their_names(file):
    file.write_text(
        """
[slo.head_p90]
sql = "SELECT ts AS timestamp, elapsed_ms AS value FROM http_events WHERE method = 'HEAD'"
p = 0.9
max = "800ms"
[slo.few_opens]
sli = "breaker_opens"
statistic = "count"
max = 40
window = "1d"
[slo.few_errors]
sql = "SELECT ts AS timestamp, status >= 500 AS value FROM http_events"
statistic = "count"
max = 5
"""
    )
    alerts, finished = written("--config", file)
    assert finished.stderr == ""
    burning, many = named(alerts, "RetrospanBurnRate"), named(alerts, "RetrospanTooMany")
    assert burning["head_p90", "3d"]["expr"] == beyond("head_p90", "3d", "6h", 0.1, 35)
    assert (
        "`retrospan slo explain head_p90 --since 3d --config FILE`"
        in burning["head_p90", "3d"]["annotations"]["runbook"]
    )
    assert many["few_opens", "1d"]["expr"] == too_many("few_opens", "1d", 40.5)
    assert many["few_errors", "30d"]["expr"] == too_many("few_errors", "30d", 5.5)


def test_no_rule_at_all_is_2_and_nothing_on_stdout(file):
    lines = "\n".join(f"[slo.{name}]\nenabled = false" for name in DEFAULTS)
    file.write_text(lines + '\n[slo.mine]\nsql = "SELECT 1 AS timestamp, 2 AS value"\nmax = 3\n')
    finished = retrospan("slo", "rules", "--config", file)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "no rules were written" in finished.stderr


@pytest.mark.parametrize("period", ["never", "0d", "90s"])
def test_a_period_that_is_none_is_wrong_usage(period):
    finished = retrospan("slo", "rules", "--period", period)
    assert (finished.returncode, finished.stdout) == (2, "")
    assert repr(period) in finished.stderr


def test_the_runbooks_command_can_be_called_as_it_stands(path):
    with making(path) as record:
        record.run()
        healthy(record)
        record.ended()
    commands = {alert["annotations"]["runbook"].split("`")[1] for alert in written()[0]}
    assert len(commands) >= len(DEFAULTS)
    for command in sorted(commands)[::4]:
        program, *arguments = shlex.split(command)
        finished = retrospan(*arguments, "--db", path)
        assert (program, finished.returncode) == ("retrospan", 0), finished.stderr
        assert finished.stdout.startswith(f"{arguments[2]}: ")


POLICY = """
---
apiVersion: openslo/v1
kind: AlertPolicy
metadata: {name: burns}
spec:
  alertWhenBreaching: true
  alertWhenNoData: true
  conditions:
    - kind: AlertCondition
      metadata: {name: fast}
      spec:
        severity: wake-somebody
        condition: {kind: burnrate, op: gte, threshold: 2.5, lookbackWindow: 30m, alertAfter: 10m}
  notificationTargets:
    - kind: AlertNotificationTarget
      metadata: {name: phone}
      spec: {target: phone}
"""


def with_policy(folder, policy=POLICY, slo="http-429"):
    """The built-in objectives as OpenSLO, one of them with an alert policy."""
    before, name, after = as_openslo(DEFAULTS.values()).partition(f"  name: {slo}\n")
    after = after.replace("spec:\n", "spec:\n  alertPolicies: [burns]\n", 1)
    file = folder / "slos.yaml"
    file.write_text(before + name + after + policy)
    return file


def test_an_openslo_policy_takes_the_place_of_the_workbooks_alerts(tmp_path):
    alerts, finished = written("--config", with_policy(tmp_path))
    assert finished.stderr == ""
    mine = {alert["alert"]: alert for alert in alerts if alert["labels"]["slo"] == "http_429"}
    labels = {"severity": "wake-somebody", "slo": "http_429", "window": "30m", "policy": "burns"}
    assert mine.keys() == {"RetrospanBurnRate", "RetrospanNoData"}
    assert mine["RetrospanBurnRate"]["labels"] == labels | {"burn_rate": "2.5"}
    assert mine["RetrospanBurnRate"]["for"] == mine["RetrospanNoData"]["for"] == "10m"
    assert mine["RetrospanBurnRate"]["expr"] == (
        'job_slo:retrospan_slo_errors:ratio_increase30m{slo="http_429"} >= 0.05\n'
        'and\njob_slo:retrospan_slo_events:increase30m{slo="http_429"} > 188.5'
    )
    assert mine["RetrospanNoData"]["expr"] == (
        'job_slo:retrospan_slo_events:increase30m{slo="http_429"} < 0.5\nor\n'
        'absent(retrospan_slo_events_total{slo="http_429"})'
    )
    assert {alert["labels"]["slo"] for alert in alerts} == set(DEFAULTS)


def test_a_policy_that_cannot_fire_is_replaced_and_one_that_tells_of_nothing_is_said_to(tmp_path):
    file = with_policy(tmp_path, POLICY.replace("alertWhenNoData: true", "alertWhenNoData: false"), "yield")
    mine = [alert for alert in written("--config", file)[0] if alert["labels"]["slo"] == "yield"]
    assert [alert["alert"] for alert in mine] == ["RetrospanBurnRate"]  # 2.5 x 15 % can be reached
    impossible = POLICY.replace("2.5", "7").replace("alertWhenNoData: true", "alertWhenNoData: false")
    file = with_policy(tmp_path, impossible, "yield")
    mine = [alert for alert in written("--config", file)[0] if alert["labels"]["slo"] == "yield"]
    assert [(alert["alert"], alert["for"]) for alert in mine] == [("RetrospanBelowTarget", "10m")]
    silent = impossible.replace("alertWhenBreaching: true", "alertWhenBreaching: false")
    file = with_policy(tmp_path, silent, "yield")
    assert "yield: no rule: its alert policies tell of nothing" in written("--config", file)[1].stderr
