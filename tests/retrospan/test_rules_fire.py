"""What Prometheus makes of the rules: `promtool` finds nothing to say, and each alert fires at its minute, not before.

When an alert must fire is counted by hand here, from the numbers of the workbook and of DESIGN alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from .commands import retrospan
from .promtool import Counter, hold, linted, without_annotations
from .test_rules import BELOW_TARGET, BUDGETS, BURNING_FACTORS, with_policy

pytestmark = pytest.mark.debian

MINUTES = {"5m": 5, "30m": 30, "1h": 60, "2h": 120, "6h": 360, "1d": 1440, "3d": 4320}


@pytest.fixture(scope="module")
def rules():
    return yaml.safe_load(retrospan("slo", "rules").stdout)


@dataclass(frozen=True, eq=False)
class Expected:
    """One alert, and what it must be by."""

    name: str
    slo: str
    window: str
    short: str
    severity: str
    threshold: float
    least: int
    labels: dict[str, str]

    def fires(self, good: Counter, bad: Counter, every: int) -> list[bool]:
        """By sample, one in `every` minutes."""
        shares = []
        for window in (self.window, self.short):
            samples = MINUTES[window] // every
            pairs = zip(good.increases(samples), bad.increases(samples), strict=True)
            shares.append([None if g is None or b is None else (b, g + b) for g, b in pairs])
        return [
            all(pair is not None and pair[1] > 0 and pair[0] / pair[1] > self.threshold for pair in both)
            and both[0][1] >= self.least
            for both in zip(*shares, strict=True)
        ]


def expected(windows: tuple[str, ...]) -> Iterator[Expected]:
    """The default alerts of these windows."""
    for slo, (budget, least, burning) in BUDGETS.items():
        for window in windows:
            factor, short = BURNING_FACTORS[window]
            severity = "page" if window in ("1h", "6h") else "ticket"
            labels = {"slo": slo, "window": window, "severity": severity}
            if window in burning:
                rate = {"burn_rate": f"{factor:g}"}
                name, threshold = "RetrospanBurnRate", round(factor * budget, 12)
                yield Expected(name, slo, window, short, severity, threshold, least, labels | rate)
            elif window in BELOW_TARGET.get(slo, ()):
                yield Expected("RetrospanBelowTarget", slo, window, short, severity, budget, least, labels)


def scenario(folder, rules, windows, every, jobs) -> dict[tuple[str, str, str], int]:
    """Hold the alerts of these windows against what is counted by hand, at each moment when any must begin or end and at
    the one before; give back when each first fires, by job, objective and window."""
    alerts = list(expected(windows))
    fires = {(job, alert): series for job, counters in jobs.items() for alert in alerts
             for series in [alert.fires(*counters, every)]}  # fmt: skip
    changes = {n for series in fires.values() for n in range(1, len(series)) if series[n] != series[n - 1]}
    series = [
        {
            "series": f'retrospan_slo_events_total{{job="{job}",slo="{slo}",verdict="{verdict}"}}',
            "values": counter.notation(),
        }
        for job, counters in jobs.items()
        for slo in BUDGETS
        for verdict, counter in zip(("good", "bad"), counters, strict=True)
    ]
    tests = [
        {
            "eval_time": f"{n * every}m",
            "alertname": name,
            "exp_alerts": [
                {"exp_labels": alert.labels | {"job": job}}
                for (job, alert), firing in fires.items()
                if alert.name == name and firing[n]
            ],
        }
        for n in sorted(changes | {n - 1 for n in changes})
        for name in ("RetrospanBurnRate", "RetrospanBelowTarget")
    ]
    interval = f"{every}m"
    test = {"interval": interval, "input_series": series, "alert_rule_test": tests}
    hold(folder, without_annotations(rules, windows), test, every=interval)
    return {(job, alert.slo, alert.window): firing.index(True) for (job, alert), firing in fires.items() if any(firing)}


def test_each_page_fires_at_its_minute_and_not_before_and_ends_with_its_short_window(tmp_path, rules):
    # Good events for longer than the longest window, then only bad ones for six hours, then good ones again.
    good, bad = [4] * 365 + [0] * 360 + [4] * 60, [0] * 365 + [4] * 360 + [0] * 60
    # So few that an hour never holds the 73 or 189 events that tell.
    few_good = [int(n % 10 == 0) if n < 365 else 0 for n in range(785)]
    few_bad = [int(n % 10 == 0) if n >= 365 else 0 for n in range(785)]
    jobs = {"busy": (Counter(good), Counter(bad)), "quiet": (Counter(few_good), Counter(few_bad))}
    first = scenario(tmp_path, rules, ("1h", "6h"), 1, jobs)
    # Of the last 60 minutes 18 all bad are 30 %, the first share above 28.8 %; and so on, by hand.
    assert first["busy", "http_429", "1h"] == 365 + 18
    assert first["busy", "http_429", "6h"] == 365 + 44
    assert first["busy", "yield", "1h"] == 365 + 10
    assert first["busy", "yield", "6h"] == 365 + 325
    assert first["busy", "ttfp_p95", "1h"] == 365 + 44
    assert first["busy", "cache_hit", "6h"] == 365 + 145
    assert ("quiet", "http_429", "1h") not in first
    assert ("quiet", "cache_hit", "6h") in first


def test_each_ticket_fires_at_its_minute_and_not_before(tmp_path, rules):
    # A sample in five minutes; good events for three days, then a tenth and a quarter of them bad, for a day each, then all.
    good, bad = [20] * 870 + [18] * 288 + [15] * 288 + [0] * 150, [0] * 870 + [2] * 288 + [5] * 288 + [20] * 150
    first = scenario(tmp_path, rules, ("1d", "3d"), 5, {"busy": (Counter(good), Counter(bad))})
    # 864 samples in three days, 2 % of which is 17.28: 173 samples with a tenth bad.
    assert first["busy", "http_429", "3d"] == 870 + 173
    assert first["busy", "http_429", "1d"] == 870 + 173
    # 15 % of 17 280 events are 2 592, and the two days had 2 016 bad ones.
    assert first["busy", "yield", "3d"] == 870 + 576 + 29
    assert set(first) >= {("busy", slo, "3d") for slo in ("yield", "ttfp_p95", "http_429", "rate_delay_p95")}


def test_counts_fire_at_the_event_that_is_one_too_many_and_extrapolation_makes_none(tmp_path, rules):
    # Sampled where `increase` extrapolates: 12 openings in an hour read 12.05, and are allowed.
    def opened(times):
        return Counter([int(n in times) for n in range(1, 600)])

    twelve, thirteen = opened(range(20, 140, 10)), opened(range(20, 150, 10))
    once = opened([100])
    series = [
        ("breaker_opens", "allowed", twelve),
        ("breaker_opens", "open", thirteen),
        ("corruption", "broken", once),
        ("corruption", "sound", opened([])),
    ]
    opens, corruption = (
        {"exp_labels": {"job": job, "slo": slo, "window": "1h", "severity": severity}}
        for job, slo, severity in (("open", "breaker_opens", "ticket"), ("broken", "corruption", "page"))
    )
    bad = 'retrospan_slo_events_total{{slo="{}",job="{}",verdict="bad"}}'
    # Sample 100 is at 1600 s, sample 140 at 2240 s.
    moments = {"26m": [], "27m": [corruption], "37m": [corruption], "38m": [opens, corruption], "87m": [], "100m": []}
    test = {
        "interval": "16s",
        "input_series": [
            {"series": bad.format(name, job), "values": counter.notation()} for name, job, counter in series
        ],
        "alert_rule_test": [
            {"eval_time": moment, "alertname": "RetrospanTooMany", "exp_alerts": alerts}
            for moment, alerts in moments.items()
        ],
    }
    hold(tmp_path, without_annotations(rules, ("1h",)), test, every="1m")


def test_a_policy_fires_once_its_rate_has_lasted_and_where_nothing_is_counted(tmp_path):
    rules = yaml.safe_load(retrospan("slo", "rules", "--config", with_policy(tmp_path)).stdout)
    good, bad = Counter([8] * 40 + [0] * 30), Counter([0] * 40 + [8] * 30)
    series = [
        {
            "series": f'retrospan_slo_events_total{{job="j",slo="http_429",verdict="{verdict}"}}',
            "values": counter.notation(),
        }
        for verdict, counter in (("good", good), ("bad", bad))
    ]
    labels = {"severity": "wake-somebody", "slo": "http_429", "window": "30m", "policy": "burns"}
    burning = [{"exp_labels": labels | {"job": "j", "burn_rate": "2.5"}}]
    # 5 % of 30 minutes are 1.5, and ten minutes later somebody is told. After the last sample the counters are gone.
    times = [("51m", "BurnRate", []), ("52m", "BurnRate", burning), ("52m", "NoData", []),
             ("85m", "NoData", []), ("86m", "NoData", [{"exp_labels": labels}])]  # fmt: skip
    test = {
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [
            {"eval_time": moment, "alertname": f"Retrospan{name}", "exp_alerts": alerts}
            for moment, name, alerts in times
        ],
    }
    hold(tmp_path, without_annotations(rules, ("30m",)), test, every="1m")


def test_the_texts_are_templates_that_prometheus_fills_in_and_a_files_own_words_are_none(tmp_path):
    file = tmp_path / "slo.toml"
    file.write_text('[slo.corruption]\ndescription = "Broken {{ $labels.job }} files"\nmax = 0\n')
    rules = yaml.safe_load(retrospan("slo", "rules", "--config", file).stdout)
    texts = {
        "summary": "corruption is more than 0",
        "description": "About 2 in the last 1h; corruption <= 0 (Broken {{ $labels.job }} files).",
    }
    (alert,) = (rule for rule in rules["groups"][0]["rules"] if rule.get("labels", {}).get("slo") == "corruption")
    texts["runbook"] = alert["annotations"]["runbook"]
    labels = {"job": "j", "slo": "corruption", "window": "1h", "severity": "page"}
    test = {
        "interval": "1m",
        "input_series": [{"series": 'retrospan_slo_events_total{job="j",slo="corruption",verdict="bad"}', "values": "0x60 2"}],
        "alert_rule_test": [
            {"eval_time": "61m", "alertname": "RetrospanTooMany",
             "exp_alerts": [{"exp_labels": labels, "exp_annotations": texts}]}
        ],
    }  # fmt: skip
    hold(tmp_path, rules, test, every="1m")


@pytest.mark.parametrize("period", ["100m", "12h", "7d", "28d", "30d", "5200w"])
def test_promtool_has_nothing_to_say_of_the_rules_for_any_period(tmp_path, period):
    file = tmp_path / "rules.yml"
    file.write_text(retrospan("slo", "rules", "--period", period).stdout)
    assert "SUCCESS" in linted(file)


def test_promtool_has_nothing_to_say_of_policies_and_omissions(tmp_path):
    file, more = tmp_path / "rules.yml", tmp_path / "slo.toml"
    more.write_text('[slo.mine]\nsql = "SELECT 1 AS timestamp, 2 AS value"\nmax = 3\n[slo.yield]\nmin = "50%"\n')
    finished = retrospan("slo", "rules", "--config", with_policy(tmp_path), "--config", more)
    file.write_text(finished.stdout)
    assert "SUCCESS" in linted(file)
