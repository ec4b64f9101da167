"""OpenSLO v1 documents: what each form comes to, what is refused where, and what is only warned of."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from retrospan.slo.definitions import DEFAULTS, TimeSlices, Window
from retrospan.slo.documents.load import compiled, load
from retrospan.slo.documents.openslo_sli import _FORMER
from retrospan.slo.documents.places import DefinitionError, Problems
from retrospan.slo.documents.write_openslo import as_openslo
from retrospan.slo.gate import judge_run

from .records import healthy, making

HERE = Path(__file__).parent / "openslo"


def added(*names):
    """The objectives of documents of ours, by name, without the default ones; no warning is told of them."""
    found = load([HERE / name for name in names])
    assert found.warnings == ()
    return {slo.name: slo for slo in found.slos if not slo.default}


def summary(slo):
    return slo.statistic, slo.op, slo.threshold, slo.quantile, slo.unit


def test_every_kind_of_object_is_read_and_references_are_followed():
    slo = added("every_kind.yaml")["answered"]
    assert summary(slo) == ("share", "gte", Fraction(9, 10), None, "ratio")
    assert (slo.description, slo.events_needed, slo.no_data) == ("Answered requests", 10, "warn")
    assert slo.window == Window(4, "w")
    assert [(query.role, query.sql.partition(" WHERE ")[2]) for query in slo.sli.queries] == [
        ("good", "status < 500"),
        ("total", ""),
    ]
    assert (slo.file, slo.line) == (str(HERE / "every_kind.yaml"), 118)


def test_good_bad_and_raw_ratios_become_shares_and_means():
    slos = added("ratios.yaml")
    assert {name: summary(slo) for name, slo in slos.items()} == {
        "good_of_total_1": ("share", "gte", Fraction("0.9"), None, "ratio"),
        "good_of_total_2": ("share", "gte", Fraction("0.995"), None, "ratio"),
        "bad_of_total": ("share", "lte", Fraction("0.02"), None, "ratio"),
        "raw_success": ("mean", "gte", Fraction("0.75"), None, "ratio"),
        "raw_failure": ("mean", "lte", Fraction("0.25"), None, "ratio"),
        "one_select": ("share", "gte", Fraction("0.75"), None, "ratio"),
    }
    assert [query.role for query in slos["bad_of_total"].sli.queries] == ["bad", "total"]
    assert slos["good_of_total_1"].sli == slos["good_of_total_2"].sli
    assert slos["good_of_total_1"].description == "most"
    assert {query.seconds for query in slos["good_of_total_1"].sli.queries} == {30}


def test_the_good_and_all_events_of_one_select_are_that_select():
    slo = added("ratios.yaml")["one_select"]
    (query,) = slo.sli.queries
    assert query.sql == "SELECT ts AS timestamp, status = 200 AS value, host FROM http_events"
    assert (query.role, slo.max_unknown) == ("events", Fraction(1, 20))


def test_the_good_events_of_one_select_and_all_of_another_stay_two(tmp_path):
    documents = (HERE / "ratios.yaml").read_text().split("---\n")
    other = documents[-1].replace("status = 200 AS value", "status = 204 AS value", 1)
    (tmp_path / "slo.yaml").write_text(other)
    assert [query.role for query in load([tmp_path / "slo.yaml"]).slos[-1].sli.queries] == ["good", "total"]


def test_windows_roll_or_follow_the_calendar():
    slos = added("ratios.yaml")
    assert slos["good_of_total_1"].window == Window(1, "M", "2026-01-01T00:00:00", "Europe/Berlin")
    rolling = {name: (slo.window.count, slo.window.unit) for name, slo in slos.items() if slo.window.rolling}
    assert rolling == {
        "bad_of_total": (12, "h"),
        "raw_success": (2, "Q"),
        "raw_failure": (1, "Y"),
        "one_select": (30, "m"),
    }


def test_a_threshold_is_a_percentile_with_its_operator():
    assert {name: summary(slo) for name, slo in added("thresholds.yaml").items()} == {
        "at_most": ("percentile", "lte", 800, Fraction("0.95"), "ms"),
        "below": ("percentile", "lt", 800, Fraction("0.95"), "number"),
        "at_least": ("percentile", "gte", 5, Fraction("0.99"), "number"),
        "above": ("percentile", "gt", Fraction("-1.5"), 0, "number"),
    }


def test_time_slices_have_a_window_and_perhaps_a_target_of_their_own():
    slos = added("slices.yaml")
    assert {name: slo.slices for name, slo in slos.items()} == {
        "good_minutes_1": TimeSlices(300, Fraction("0.9")),
        "good_minutes_2": TimeSlices(3600, Fraction(1)),
        "mean_of_hours": TimeSlices(7200),
        "worst": None,
        "average": None,
    }
    assert summary(slos["worst"]) == ("worst_hour", "lte", 3, None, "number")
    assert summary(slos["average"]) == ("mean", "lt", 400, None, "ms")
    assert slos["average"].window is None


def test_what_the_official_sdk_rejects_is_read_with_a_warning_at_its_place():
    found = load([HERE / "lenient.yaml"])
    slo = found.slos[-1]
    assert (slo.name, slo.target, [query.role for query in slo.sli.queries]) == ("loose_one", 0.5, ["good", "total"])
    assert {(problem.level, problem.place.line, problem.path.rpartition(".")[2]) for problem in found.warnings} == {
        ("warning", 5, "name"),
        ("warning", 6, "displayname"),
        ("warning", 8, "spec"),
        ("warning", 10, "indicator"),
        ("warning", 12, "counter"),
        ("warning", 15, "metricSource"),
        ("warning", 17, "bad"),
        ("warning", 23, "metricSourceRef"),
        ("warning", 27, "budgetingMethod"),
        ("warning", 29, "op"),
        ("warning", 30, "value"),
        ("warning", 32, "timeSliceWindow"),
        ("warning", 33, "compositeWeight"),
    }


WHOLE = """\
apiVersion: openslo/v1
kind: SLO
metadata:
  name: mine
spec:
  service: downloader
  indicator:
    metadata: {name: elapsed}
    spec:
      thresholdMetric:
        metricSource: {type: sqlite, spec: {query: "SELECT ts AS timestamp, 1 AS value FROM http_events"}}
  timeWindow:
    - {duration: 28d, isRolling: true}
  budgetingMethod: Occurrences
  objectives:
    - {op: lte, value: 3, target: 0.95}
"""


def test_what_the_broken_ones_are_made_from_is_whole(tmp_path):
    (tmp_path / "slo.yaml").write_text(WHOLE)
    assert load([tmp_path / "slo.yaml"]).warnings == ()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("openslo/v1", "openslo/v1alpha", "1:13: error: apiVersion: OpenSLO v1alpha is not read"),
        ("openslo/v1", "openslo.com/v2alpha1", "1:13: error: apiVersion: OpenSLO v2alpha is not read"),
        ("openslo/v1", "v1", "1:13: error: apiVersion: 'v1' is no version that is read: write openslo/v1"),
        ("kind: SLO", "kind: SLOO", "2:7: error: kind: 'SLOO' is not known: did you mean SLO"),
        ("kind: SLO\n", "", "1:1: error: lacks kind"),
        ("  name: mine\n", "  nam: mine\n", "3:1: error: metadata: lacks name"),
        ("name: mine", "name: _", "1:1: error: its name must begin and end with a-z or 0-9"),
        ("  service: downloader\n", "", "5:1: error: spec: lacks service"),
        ("sqlite", "prometheus", "11:30: error: spec.indicator.spec.thresholdMetric.metricSource.type: a record is asked in"),
        ("query:", "queries:", "11:38: error: spec.indicator.spec.thresholdMetric.metricSource.spec: lacks query"),
        ('query: "', 'query: "\\0', "11:52: error: spec.indicator.spec.thresholdMetric.metricSource.spec.query: holds a null"),
        ("thresholdMetric", "tresholdMetric", "10:7: error: spec.indicator.spec: must have one of ratioMetric and"),
        ("28d", "28 d", "13:18: error: spec.timeWindow[0].duration: '28 d' is no duration"),
        ("28d", "28D", "13:18: error: spec.timeWindow[0].duration: '28D' is no duration"),
        ("isRolling: true", "isRolling: maybe", "13:34: error: spec.timeWindow[0].isRolling: must be true or false"),
        ("isRolling: true", "calendar: {startTime: now, timeZone: UTC}", "13:33: error: spec.timeWindow[0].calendar: 'now' is"),
        ("isRolling: true", "calendar: {startTime: 2026-01-01, timeZone: X}", "13:33: error: spec.timeWindow[0].calendar: 'X"),
        ("isRolling: true", "isRolling: true, calendar: {}", "13:40: error: spec.timeWindow[0].calendar: a window"),
        ("isRolling: true}", "isRolling: true}\n    - {duration: 1d}", "13:5: error: spec.timeWindow: must"),
        ("Occurrences", "Occurences", "14:20: error: spec.budgetingMethod: 'Occurences' is not known: did you mean"),
        ("Occurrences", "Timeslices", "16:7: error: spec.objectives[0]: lacks timeSliceWindow"),
        ("Occurrences", "Timeslices", "16:7: error: spec.objectives[0]: lacks timeSliceTarget"),
        ("target: 0.95", "targetPercent: 95, target: 0.95", "16:7: error: spec.objectives[0]: must have one of"),
        ("target: 0.95", "targetPercent: 100.1", "16:42: error: spec.objectives[0].targetPercent: must be"),
        ("target: 0.95", "target: 1", "16:7: error: spec.objectives[0]: no number of events can prove 100 %"),
        ("target: 0.95", "target: .nan", "16:35: error: spec.objectives[0].target: must be a number, not a text"),
        ("op: lte", "op: less", "16:12: error: spec.objectives[0].op: 'less' is not known"),
        ("value: 3, ", "", "16:7: error: spec.objectives[0]: lacks value"),
        ("    - {op: lte, value: 3, target: 0.95}", "    []", "16:5: error: spec.objectives: must hold an objective"),
        ("  objectives:", "  alertPolicies: [burns]\n  objectives:", "15:19: error: spec.alertPolicies[0]: no AlertPolicy"),
        ("  indicator:", "  indicatorRef: elapsed\n  indicator:", "7:3: error: spec.indicatorRef: cannot be beside indicator"),
        ("service: downloader", "service: [a]", "6:12: error: spec.service: must be a text, not a list"),
        ("spec:\n  service", "spec:\n  service: a\n  service", "7:3: error: the key service stands here twice"),
        ("name: mine", "name: *mine", "4:9: error: an alias of nothing before it"),
        ("name: mine", "name: [mine", "5:5: error: did not find expected ',' or ']'"),
    ],
)  # fmt: skip
def test_a_broken_document_is_refused_at_its_place(tmp_path, old, new, problem):
    file = tmp_path / "slo.yaml"
    assert old in WHOLE
    file.write_text(WHOLE.replace(old, new, 1))
    with pytest.raises(DefinitionError) as caught:
        load([file])
    told = str(caught.value).replace(f"{file}:", "")
    assert problem in told, told


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (
            "min-evnts: '3'",
            "warning: metadata.annotations.retrospan.dev/min-evnts: unknown annotation: did you mean min-events?",
        ),
        (
            "min-events: '0'",
            "error: metadata.annotations.retrospan.dev/min-events: must be a whole number of at least 1",
        ),
        (
            "unit: furlong",
            "error: metadata.annotations.retrospan.dev/unit: 'furlong' is not known: known are ratio, ms",
        ),
        ("max-unknown: 2", "error: metadata.annotations.retrospan.dev/max-unknown: must be from 0 to 1"),
        ("statistic: worst-hour", "error: the annotation statistic needs retrospan.dev/max beside it"),
        ("show-percentile: 0.5", "warning: the annotation show-percentile is not the target: left out"),
    ],
)
def test_a_wrong_annotation_is_told(tmp_path, annotation, problem):
    (tmp_path / "slo.yaml").write_text(
        WHOLE.replace("name: mine", f"name: mine\n  annotations:\n    retrospan.dev/{annotation}")
    )
    problems = Problems()
    compiled([tmp_path / "slo.yaml"], problems)
    assert [told for told in map(str, problems.found) if problem in told] != []


def test_a_broken_alert_is_refused_though_no_gate_uses_it(tmp_path):
    text = (HERE / "every_kind.yaml").read_text()
    broken = text.replace("conditionRef: fast-burn", "conditionRef: fast-bern", 1).replace(
        "lookbackWindow: 1h", "lookbackWindow: hour"
    )
    (tmp_path / "slo.yaml").write_text(
        broken.replace("target: pager", "targets: pager").replace("type: sqlite", "typ: sqlite")
    )
    with pytest.raises(DefinitionError) as caught:
        load([tmp_path / "slo.yaml"])
    errors = [(problem.place.line, problem.message) for problem in caught.value.problems if problem.level == "error"]
    assert errors == [
        (7, "lacks type"),
        (52, "'hour' is no duration: write a whole number and one of m, h, d, w, M, Q, Y, as 28d"),
        (59, "lacks target"),
        (72, "no AlertCondition is named 'fast-bern': did you mean fast-burn?"),
    ]


def test_an_object_that_stands_twice_is_refused_with_the_place_of_the_first(tmp_path):
    (tmp_path / "slo.yaml").write_text(f"{WHOLE}---\n{WHOLE}")
    with pytest.raises(DefinitionError, match=r"slo.yaml:18:1: error: the SLO 'mine' stands at .*slo.yaml:1:1 already"):
        load([tmp_path / "slo.yaml"])


def test_what_stands_before_a_broken_document_is_looked_at_too(tmp_path):
    (tmp_path / "slo.yaml").write_text(f"{WHOLE.replace('op: lte', 'op: less')}---\n[")
    with pytest.raises(DefinitionError) as caught:
        load([tmp_path / "slo.yaml"])
    assert [problem.place.line for problem in caught.value.problems] == [16, 19]


def test_objects_may_stand_in_another_file(tmp_path):
    objects, _, slo = (HERE / "every_kind.yaml").read_text().rpartition("---\n")
    (tmp_path / "slo.yaml").write_text(slo)
    (tmp_path / "objects.yaml").write_text(objects)
    both = load([tmp_path / "slo.yaml", tmp_path / "objects.yaml"]).slos
    assert both[-1] == added("every_kind.yaml")["answered"]


def test_a_document_replaces_the_objective_of_its_name(tmp_path):
    (tmp_path / "slo.yaml").write_text(WHOLE.replace("name: mine", "name: ttfp-p95"))
    slos = load([tmp_path / "slo.yaml"]).slos
    assert [slo.name for slo in slos] == list(DEFAULTS)
    replaced = next(slo for slo in slos if slo.name == "ttfp_p95")
    assert (replaced.threshold, replaced.default, len(replaced.sli.queries)) == (3, False, 1)


def test_the_defaults_as_openslo_are_the_defaults_and_give_their_numbers(tmp_path, path):
    (tmp_path / "slo.yaml").write_text(as_openslo(DEFAULTS.values()))
    found = load([tmp_path / "slo.yaml"])
    assert found.warnings == ()
    assert list(found.slos) == [replace(slo, default=False) for slo in DEFAULTS.values()]
    with making(path) as record:
        record.run()
        healthy(record)
        record.add("http_events", *[{}] * 50, status=429, wire=1)
    numbers = [
        [(result.verdict, result.value, result.sample) for result in judge_run(path, slos=slos).results]
        for slos in (DEFAULTS.values(), found.slos)
    ]
    assert numbers[0] == numbers[1]


def test_a_query_of_a_former_version_is_known_for_the_indicator_it_was_of(tmp_path):
    former = (
        "SELECT ts AS timestamp, CASE WHEN from_cache = 1 THEN 1 WHEN from_cache = 0 THEN 0 END AS value, run_id, host,"
        " revalidated FROM http_events WHERE role = 'metadata' AND method = 'GET' AND COALESCE(hop_last, 1) = 1"
    )
    (tmp_path / "slo.yaml").write_text(WHOLE.replace("SELECT ts AS timestamp, 1 AS value FROM http_events", former))
    assert load([tmp_path / "slo.yaml"]).slos[-1].sli == DEFAULTS["cache_hit"].sli
    assert {sli.name for sli in _FORMER.values()} == {slo.sli.name for slo in DEFAULTS.values()}


def test_aliases_cannot_grow_without_bounds(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (tmp_path / "slo.yaml").write_text("\n".join(lines))
    with pytest.raises(DefinitionError, match="comes to more than 50000 values"):
        load([tmp_path / "slo.yaml"])


def test_a_tag_constructs_nothing(tmp_path):
    (tmp_path / "slo.yaml").write_text(WHOLE.replace("name: mine", "name: !!python/object/apply:os.getcwd []"))
    with pytest.raises(DefinitionError, match=r"4:9: error: metadata.name: must be a text, not a list"):
        load([tmp_path / "slo.yaml"])
