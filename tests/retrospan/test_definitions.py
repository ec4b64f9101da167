"""`slo.toml`: what it says of the default objectives, what it adds, and where it is wrong."""

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from retrospan.slo.definitions import DEFAULTS, TimeSlices, Window
from retrospan.slo.documents.load import compiled, load
from retrospan.slo.documents.openslo_objects import ANNOTATIONS
from retrospan.slo.documents.places import LARGEST, DefinitionError, Problems
from retrospan.slo.documents.slo_toml import INDICATORS, KEYS
from retrospan.slo.documents.trial import try_queries
from retrospan.slo.documents.write_toml import as_toml
from retrospan.slo.user_sql import FUNCTIONS, IDS

ROOT = Path(__file__).parents[2]
SQL = "SELECT ts AS timestamp, elapsed_ms AS value, host FROM http_events"


@pytest.fixture
def read(tmp_path):
    """The objectives of the text of an slo.toml, by name."""

    def read(text):
        (tmp_path / "slo.toml").write_text(text, encoding="utf-8", newline="")
        return {slo.name: slo for slo in load([tmp_path / "slo.toml"]).slos}

    return read


@pytest.fixture
def refused(tmp_path, read):
    """What a text is refused for, without the file's name."""

    def refused(text):
        with pytest.raises(DefinitionError) as caught:
            read(text)
        return [str(problem).replace(f"{tmp_path / 'slo.toml'}:", "") for problem in caught.value.problems]

    return refused


def summary(slo):
    return slo.statistic, slo.op, slo.threshold, slo.quantile, slo.unit


def test_an_empty_file_leaves_the_defaults(read):
    assert read("") == dict(DEFAULTS)


def test_a_threshold_is_overridden_and_all_else_of_the_default_stays(read):
    slos = read('[slo.yield]\nmin = "90%"\n\n[slo.ttfp-p95]\nmax = "30s"\n')
    assert slos["yield"] == replace(DEFAULTS["yield"], threshold=Fraction(9, 10), default=False)
    assert slos["ttfp_p95"] == replace(DEFAULTS["ttfp_p95"], threshold=Fraction(30_000), default=False)
    assert [(slos[name].line, slos[name].column) for name in ("yield", "ttfp_p95")] == [(1, 1), (4, 1)]
    assert list(slos) == list(DEFAULTS)


def test_an_objective_is_switched_off(read):
    assert set(read("[slo.corruption]\nenabled = false\n")) == set(DEFAULTS) - {"corruption"}


@pytest.mark.parametrize(
    ("written", "threshold"),
    [
        ('"250ms"', 250),
        ('"0.25s"', 250),
        ("250", 250),
        ("0.1", Fraction(1, 10)),
        ('"2m"', 120_000),
        ('"1.5 h"', 5_400_000),
        ('"2d"', 172_800_000),
    ],
)
def test_a_time_is_written_with_its_unit_or_in_milliseconds(read, written, threshold):
    assert read(f"[slo.rate_delay_p95]\nmax = {written}\n")["rate_delay_p95"].threshold == threshold


@pytest.mark.parametrize("written", ['"99.95%"', "0.9995", '"0.9995"'])
def test_a_share_is_exact_however_it_is_written(read, written):
    assert read(f"[slo.cache_hit]\nmin = {written}\n")["cache_hit"].threshold == Fraction(1999, 2000)


def test_sql_with_a_threshold_is_about_the_mean(read):
    slo = read(f'[slo.mine]\nsql = "{SQL}"\nmax = "2s"\n')["mine"]
    assert summary(slo) == ("mean", "lte", 2000, None, "ms")
    (query,) = slo.sli.queries
    assert (query.sql, query.seconds, query.line, query.column, query.path) == (SQL, 10, 2, 7, "slo.mine.sql")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("min = 5", ("mean", "gte", 5, None, "number")),
        ('min = "5%"', ("mean", "gte", Fraction(1, 20), None, "ratio")),
        ("above = 5", ("mean", "gt", 5, None, "number")),
        ('p = 0.95\nmax = "2s"', ("percentile", "lte", 2000, Fraction(19, 20), "ms")),
        ("p = 0.95\nbelow = 3", ("percentile", "lt", 3, Fraction(19, 20), "number")),
        # "p5 >= 3" is "at least 95 % are >= 3".
        ("p = 0.05\nmin = 3", ("percentile", "gte", 3, Fraction(19, 20), "number")),
        ('statistic = "share"\nmax = "2%"', ("share", "lte", Fraction(1, 50), None, "ratio")),
        ('statistic = "count"\nmax = 0', ("count", "lte", 0, None, "number")),
        ('statistic = "worst_hour"\nmax = 12', ("worst_hour", "lte", 12, None, "number")),
    ],
)
def test_the_statistic_of_sql_follows_from_what_is_said(read, said, expected):
    assert summary(read(f'[slo.mine]\nsql = "{SQL}"\n{said}\n')["mine"]) == expected


def test_good_and_total_are_a_share(read):
    slos = read(
        f'[slo.a]\ngood = "{SQL}"\ntotal = "{SQL}"\nmin = "9%"\n[slo.b]\ntotal = "{SQL}"\nbad = "{SQL}"\nmax = 0.1\n'
    )
    assert (summary(slos["a"]), summary(slos["b"])) == (
        ("share", "gte", Fraction(9, 100), None, "ratio"),
        ("share", "lte", Fraction(1, 10), None, "ratio"),
    )
    assert [query.role for query in slos["b"].sli.queries] == ["bad", "total"]


def test_a_built_in_indicator_serves_another_objective(read):
    slo = read('[slo.ttfp_p99]\nsli = "ttfp"\np = 0.99\nmax = "1m"\n')["ttfp_p99"]
    assert (slo.sli, slo.quantile, slo.threshold) == (DEFAULTS["ttfp_p95"].sli, Fraction(99, 100), 60_000)


def test_all_else_that_can_be_said_of_an_objective(read):
    slo = read(
        """
        [slo.mine]
        description = "What it is"
        good = "SELECT 1"
        total = "SELECT 2"
        min = "50%"
        window = { duration = "1M", start = 2026-01-01, time_zone = "Europe/Berlin" }
        slices = { length = "5m", target = "99%" }
        min_events = 7
        max_unknown = "1%"
        no_data = "warn"
        timeout = "1m"
        """
    )["mine"]
    assert slo.description == "What it is"
    assert slo.window == Window(1, "M", "2026-01-01T00:00:00", "Europe/Berlin")
    assert slo.slices == TimeSlices(300, Fraction(99, 100))
    assert (slo.events_needed, slo.min_events, slo.max_unknown, slo.no_data) == (7, 7, Fraction(1, 100), "warn")
    assert {query.seconds for query in slo.sli.queries} == {60}
    assert read('[slo.yield]\nwindow = "28d"\n')["yield"].window == Window(28, "d")


def test_a_later_file_says_more_of_an_earlier_ones_objective(tmp_path):
    (tmp_path / "a.toml").write_text(f'[slo.mine]\nsql = "{SQL}"\nmax = "2s"\n')
    (tmp_path / "b.toml").write_text('[slo.mine]\nmax = "3s"\nmin_events = 5\n')
    slo = load([tmp_path / "a.toml", tmp_path / "b.toml"]).slos[-1]
    assert (slo.threshold, slo.events_needed, slo.file, slo.sli.queries[0].file) == (
        3000,
        5,
        str(tmp_path / "b.toml"),
        str(tmp_path / "a.toml"),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[slo.yeld]\nmin = 0.9", "1:1: error: slo.yeld: no objective has this name: give it sql, good and total, or sli;"
         " did you mean yield?"),
        ("[slo.yield]\nmni = 0.9", "2:1: error: slo.yield.mni: unknown key: did you mean min?"),
        ("[sol.yield]\nmin = 0.9", "1:1: error: sol: unknown key: did you mean slo?"),
        ("slo = 3", "1:7: error: slo: must be a table of objectives: write [slo.yield]"),
        ("[slo]\nyield = 3", "2:9: error: slo.yield: must be a mapping, not a number"),
        ("[slo]\nyield.min = 85", "2:13: error: slo.yield.min: must be from 0 to 1, or 0% to 100%: did you mean 85%?"),
        ("slo.yield = {min = '85s'}", "1:20: error: slo.yield.min: must be a percentage, or a number from 0 to 1"),
        ("[slo.yield]\nmax = '9%'", "2:1: error: slo.yield.max: takes min: more of it is better"),
        ("[slo.yield]\nmin = '9%'\nmax = '10%'", "2:1: error: slo.yield.min: min and max cannot both be"),
        ("[slo.yield]\nmin = 'high'", "2:7: error: slo.yield.min: 'high' is no amount: write"),
        ("[slo.yield]\nmin = true", "2:7: error: slo.yield.min: must be a number, not true or false"),
        ("[slo.yield]\nmin = nan", "2:7: error: slo.yield.min: is no finite number that can be calculated with"),
        ("[slo.ttfp_p95]\nmax = '20y'", "2:7: error: slo.ttfp_p95.max: 'y' is no unit: known are %, ms, s, m, h, d"),
        ("[slo.ttfp_p95]\nmax = '20%'", "2:7: error: slo.ttfp_p95.max: must be a time, as 20s, or a number of milliseconds"),
        ("[slo.ttfp_p95]\np = 95", "2:5: error: slo.ttfp_p95.p: a percentile has a p from 0 to 1, as p = 0.95"),
        ("[slo.breaker_opens]\nmax = '12s'", "2:7: error: slo.breaker_opens.max: must be a number without a unit"),
        ("[slo.yield]\np = 0.5", "2:1: error: slo.yield.p: yield is a share: to make another of it, give sli = \"yield\", or"),
        ("[slo.yield]\nmin = 1.0", "1:1: error: slo.yield: no number of events can prove 100 %: say with"),
        ("[slo.yield]\nmin_events = 0", "2:14: error: slo.yield.min_events: must be a whole number of at least 1"),
        ("[slo.yield]\nno_data = 'pass'", "2:11: error: slo.yield.no_data: 'pass' is not known: known are fail, warn"),
        ("[slo.yield]\nenabled = 'no'", "2:11: error: slo.yield.enabled: must be true or false, not a text"),
        ("[slo.yield]\ntimeout = '3s'", "2:1: error: slo.yield.timeout: is for queries of one's own"),
        ("[slo.yield]\nwindow = '28 days'", "2:10: error: slo.yield.window: '28 days' is no duration: write a whole number and"
         " one of m, h, d, w, M, Q, Y, as 28d"),
        ("[slo.ttfp_p95]\nmax = '1e299d'", "2:7: error: slo.ttfp_p95.max: is no finite number that can be calculated with"),
        ("[slo.yield]\nwindow = '101Y'", "2:10: error: slo.yield.window: '101Y' is longer than a hundred years"),
        ("[slo.yield]\nwindow = {duration = '1M', time_zone = 'UTC'}", "2:10: error: slo.yield.window: lacks start"),
        ("[slo.yield]\nslices = {target = '9%'}", "2:1: error: slo.yield.slices: lacks length"),
        ("[slo.yield]\nslices = {length = '0.5s'}", "2:20: error: slo.yield.slices.length: must be a time of whole seconds, at"
         " least one and at most a year"),
        ("[slo.a]\nsql = 'SELECT 1'", "1:1: error: slo.a: lacks a threshold: give min or max"),
        ("[slo.a]\nsql = 3\nmax = 1", "2:7: error: slo.a.sql: must be a text, not a number"),
        ("[slo.a]\nsli = 'ttpf'\nmax = 1", "2:7: error: slo.a.sli: 'ttpf' is not known: did you mean ttfp?"),
        ("[slo.a]\nsli = 'ttfp'\nmax = 1", "1:1: error: slo.a: a percentile has a p from 0 to 1, as p = 0.95"),
        ("[slo.a]\nsql = 'S'\ngood = 'S'\nmax = 1", "1:1: error: slo.a: sql, good do not make an indicator: give"),
        ("[slo.a]\ngood = 'S'\ntotal = 'S'\nmax = 0.1", "4:1: error: slo.a.max: takes min: more of it is better"),
        ("[slo.a]\ngood = 'S'\ntotal = 'S'\np = 0.1\nmin = 0.1", "4:1: error: slo.a.p: good and total make a share"),
        ("[slo.a]\nsql = 'S'\nstatistic = 'count'\nmin = 1", "4:1: error: slo.a.min: a count takes max"),
        ("[slo.a]\nsql = 'S'\nstatistic = 'share'\nbelow = 1", "4:1: error: slo.a.below: a share takes min or max"),
        ("[slo.a]\nsql = 'S'\nstatistic = 'median'\nmin = 1", "3:13: error: slo.a.statistic: 'median' is not known: did"
        ),
        ("[slo.'A b']\nmin = 1", "1:1: error: slo.A b: a name has at most 60 of a-z, 0-9 and _, and begins and ends with no _"),
        ("[slo.a-b]\nsql = 'S'\nmax = 1\n[slo.a_b]\nmax = 2", "4:1: error: slo.a_b: a_b stands in this file already"),
        ("[slo.a\nmin = 1", "1:7: error: Expected ']' at the end of a table declaration"),
        ("[slo.a]\nmin = ", "2:7: error: Invalid value"),
        ("[slo.a]\nmin = 1\nmin = 2", "3:8: error: Cannot overwrite a value"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused_at_its_place(refused, text, problem):
    assert any(told.startswith(problem) for told in refused(text))


def test_all_problems_are_told_at_once_in_the_order_of_their_places(refused):
    told = refused("[slo.yield]\nmax = '9%'\nmni = 1\n[slo.b]\nsql = 1\n[slo.ttfp_p50]\nmax = '1y'\n")
    assert [problem.partition(" ")[0] for problem in told] == ["2:1:", "3:1:", "4:1:", "5:7:", "7:7:"]


def test_what_is_in_a_string_or_a_comment_is_no_key(read, refused):
    text = "# [slo.c]\n[slo.a]\nsql = '''\n[slo.b]\nmin = 3 # '''\nmax = 1 # min = '''\n[slo.yield]\nmin = '2s'\n"
    assert refused(text) == ["8:7: error: slo.yield.min: must be a percentage, or a number from 0 to 1"]


def test_windows_line_ends_move_no_place(refused):
    assert refused("[slo.a]\r\nsql = '''\r\nSELECT\r\n'''\r\nmax = '1y'\r\n") == [
        "5:7: error: slo.a.max: 'y' is no unit: known are %, ms, s, m, h, d"
    ]


def test_a_file_that_cannot_be_read_is_told_with_its_name(tmp_path):
    (tmp_path / "large.toml").write_bytes(b"#" * (LARGEST + 1))
    (tmp_path / "latin.toml").write_bytes("# 1\n# 2 °".encode("latin-1"))
    (tmp_path / "slo.json").write_text("{}")
    (tmp_path / "folder.toml").mkdir()
    names = ("absent.toml", "large.toml", "latin.toml", "slo.json", "folder.toml")
    with pytest.raises(DefinitionError) as caught:
        load([tmp_path / name for name in names])
    assert {str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems} == {
        "absent.toml:1:1: error: no such file",
        "large.toml:1:1: error: is larger than 1000000 bytes",
        "latin.toml:2:5: error: is not UTF-8",
        "slo.json:1:1: error: is none of .toml, .yaml, .yml: its suffix says what a file is",
        "folder.toml:1:1: error: cannot be read: Is a directory",
    }


def test_what_is_switched_off_is_so_in_what_is_written(read):
    slos = read("[slo.corruption]\nenabled = false\n")
    assert read(as_toml(slos.values())).keys() == slos.keys()


def test_the_files_in_the_docs_are_right_and_the_docs_name_all_that_can_be_said(tmp_path):
    page = (ROOT / "docs" / "slo.md").read_text(encoding="utf-8")
    for text in (page, (ROOT / "README.md").read_text(encoding="utf-8")):
        (shown,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        (tmp_path / "slo.toml").write_text(shown, encoding="utf-8")
        problems = Problems()
        try_queries(compiled([tmp_path / "slo.toml"], problems), problems)
        assert problems.found == []
    chapter = page.partition("## Definition files")[2]
    assert {word for word in (*KEYS, *ANNOTATIONS, *INDICATORS, *IDS) if f"`{word}`" not in chapter} == set()
    (functions,) = re.findall(r"```\n(abs.*?)```", chapter, re.DOTALL)
    assert set(functions.split()) == FUNCTIONS
