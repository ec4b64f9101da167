"""Of any definitions: what is written reads back as the same, and no file does worse than be refused at a place."""

import json
import string
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retrospan.slo.definitions import DEFAULTS, SLO, Query, TimeSlices, Window
from retrospan.slo.documents.load import load
from retrospan.slo.documents.places import DefinitionError
from retrospan.slo.documents.quantities import decimal, written
from retrospan.slo.documents.slo_toml import own_sli, settled
from retrospan.slo.documents.toml_nodes import node as toml_node
from retrospan.slo.documents.write_openslo import as_openslo
from retrospan.slo.documents.write_toml import as_toml
from retrospan.slo.documents.yaml_nodes import nodes as yaml_nodes

anywhere = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=2 * settings.default.max_examples
)

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6).map(
    Fraction
)
shares = st.integers(0, 999_999).map(lambda n: Fraction(n, 1_000_000))
texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
queries = st.builds(
    lambda text, end: f"SELECT {text}{end}", texts, st.sampled_from(["", "\n", " FROM x\n  WHERE '''\n"])
)
names = st.from_regex(r"[a-z][a-z0-9_]{0,20}[a-z0-9]", fullmatch=True)
windows = st.builds(Window, st.integers(1, 100), st.sampled_from("mhdwMQY")) | st.builds(
    lambda count, unit, moment, zone: Window(count, unit, moment.replace(microsecond=0).isoformat(), zone),
    st.integers(1, 100),
    st.sampled_from("mhdwMQY"),
    st.datetimes(),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
)
slices = st.builds(TimeSlices, st.integers(1, 10_000).map(lambda n: n * 60), st.none() | shares)


@st.composite
def thresholds(draw, one_query):
    """What a statistic may be, and what it may be compared with."""
    statistic = draw(
        st.sampled_from(["percentile", "mean", "count", "worst_hour", "share"] if one_query else ["share"])
    )
    if statistic == "percentile":
        unit = draw(st.sampled_from(["ratio", "ms", "number"]))
        return statistic, draw(st.sampled_from(["gte", "lte", "gt", "lt"])), draw(decimals), draw(shares), unit
    if statistic == "mean":
        unit = draw(st.sampled_from(["ratio", "ms", "number"]))
        return (
            statistic,
            draw(st.sampled_from(["gte", "lte", "gt", "lt"])),
            draw(shares if unit == "ratio" else decimals),
            None,
            unit,
        )
    if statistic == "share":
        return statistic, draw(st.sampled_from(["gte", "lte"])), draw(shares), None, "ratio"
    return statistic, "lte", draw(decimals), None, "number"


@st.composite
def objectives(draw):
    """An objective that both forms can say: OpenSLO knows no target of 100 %."""
    kind = draw(st.sampled_from(["sql", "good", "bad", *DEFAULTS]))
    seconds = draw(st.sampled_from([10, 45, 3600]))
    if kind in ("good", "bad"):
        sli = own_sli(Query(kind, draw(queries), seconds), Query("total", draw(queries), seconds))
    else:
        sli = own_sli(Query("events", draw(queries), seconds)) if kind == "sql" else DEFAULTS[kind].sli
    statistic, op, threshold, quantile, unit = draw(thresholds(one_query=len(sli.queries) < 2))
    if len(sli.queries) == 2:
        op = "gte" if kind == "good" else "lte"
    if not sli.queries and statistic in ("percentile", "mean"):
        unit = DEFAULTS[kind].unit
        threshold = abs(threshold) % 1 if unit == "ratio" else threshold
    slo = SLO(
        draw(st.just(kind) | names) if kind in DEFAULTS else draw(names.filter(lambda name: name not in DEFAULTS)),
        draw(texts),
        sli,
        statistic,
        op,
        threshold,
        quantile,
        draw(st.none() | shares),
        unit,
        draw(st.none() | windows),
        draw(st.none() | slices),
        draw(st.none() | st.integers(1, 10_000)),
        draw(st.sampled_from([None, "fail", "warn"])),
    )
    if slo.target == 1:
        slo = replace(slo, threshold=Fraction(1, 2))
    return settled(slo, None, None)


@pytest.mark.parametrize(("writer", "suffix"), [(as_toml, "toml"), (as_openslo, "yaml")])
@anywhere
@given(slos=st.lists(objectives(), min_size=1, max_size=3, unique_by=lambda slo: slo.name))
def test_what_is_written_reads_back_as_the_same(tmp_path, writer, suffix, slos):
    file = tmp_path / f"slo.{suffix}"
    file.write_text(writer(slos), encoding="utf-8")
    found = load([file])
    assert found.warnings == ()
    assert {slo.name: slo for slo in found.slos if not slo.default} == {slo.name: slo for slo in slos}


@given(value=decimals, unit=st.sampled_from(["ratio", "ms", "number"]))
def test_a_decimal_is_written_exactly(value, unit):
    assert Fraction(decimal(value)) == value
    assert written(value, unit)[0] in "-0123456789"


MARKS = [
    "[",
    "]",
    "{",
    "}",
    "=",
    ":",
    "-",
    "\n",
    "\n  ",
    ",",
    '"',
    "'",
    "'''",
    '"""',
    "#",
    "&a",
    "*a",
    "<<",
    "|",
    ">",
    "!!int",
    "---",
]
SAID = "slo yield min max sql p . 0.95 1e999999999 inf nan 85% 20s true 1979-05-27 apiVersion openslo/v1 kind SLO SLI metadata"
WORDS = st.sampled_from([*MARKS, *SAID.split(), "name", "spec", "objectives", "target", "indicator"])


@pytest.mark.parametrize("suffix", ["toml", "yaml"])
@anywhere
@given(
    octets=st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | st.lists(WORDS).map(lambda w: " ".join(w).encode())
)
@example(b"a: " + b"[" * 2000)
@example(b"a = " + b"[" * 20_000)
@example(b"a = " + b"9" * 5000)
@example(b"a." * 300_000 + b"a = 1")
@example(b"[" + b"'a'." * 200_000 + b"a]")
@example(b"slo.yield.min = 1e999999999")
@example(b"slo.yield.min = " + b"9" * 4000)
@example(b"&a [*a]")
@example(b"<<: [a]")
@example(b'a: "\\ud800"')
@example(b"? [a]\n: b")
def test_whatever_a_file_holds_it_is_read_or_refused_at_a_place(tmp_path, suffix, octets):
    file = tmp_path / f"slo.{suffix}"
    file.write_bytes(octets)
    try:
        load([file])
    except DefinitionError as error:
        places = [problem.place for problem in error.problems]
    else:
        places = []
    assert all(place.file == str(file) and place.line >= 1 and place.column >= 1 for place in places)


def tables(depth):
    keys = st.sampled_from(
        ["apiVersion", "kind", "metadata", "name", "spec", "slo", "yield", "min", "p", "objectives", "target"]
    )
    leaves = st.sampled_from(["openslo/v1", "SLO", "SLI", "AlertPolicy", "85%", "a", "", 0, 3, 0.5, True, [], {}])
    if not depth:
        return leaves
    inner = tables(depth - 1)
    return leaves | st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6)


@anywhere
@given(
    document=tables(4),
    version=st.just("openslo/v1"),
    kind=st.sampled_from(["SLO", "SLI", "AlertPolicy", "DataSource", "Service"]),
)
def test_whatever_a_document_is_made_of_it_is_read_or_refused(tmp_path, document, version, kind):
    inner = document if isinstance(document, dict) else {"spec": document}
    (tmp_path / "slo.yaml").write_text(
        json.dumps({"metadata": {"name": "a"}, **inner, "apiVersion": version, "kind": kind})
    )
    levels = {"error"}
    try:
        load([tmp_path / "slo.yaml"])
    except DefinitionError as error:
        levels = {problem.level for problem in error.problems}
    assert "error" in levels


KEYS = st.text(string.ascii_letters + "-_ .'\"#=[]", min_size=1, max_size=6)
VALUES = st.recursive(
    st.integers() | st.booleans() | st.text(string.printable.replace("\r", ""), max_size=12) | st.just(1.5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=10,
)


def plain(node):
    if isinstance(node.value, dict):
        return {key: plain(part) for key, part in node.value.items()}
    return list(map(plain, node.value)) if isinstance(node.value, list) else node.value


def every(node):
    yield node
    for part in (
        node.value.values() if isinstance(node.value, dict) else node.value if isinstance(node.value, list) else ()
    ):
        yield from every(part)


def inline(value):
    """A value in TOML's inline form."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {inline(part)}" for key, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ",\n  ".join(map(inline, value)) + "]"
    value = float(value) if isinstance(value, Fraction) else value
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


@anywhere
@given(tables=st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4))
def test_every_value_of_a_toml_file_is_where_its_place_says(tables):
    lines = []
    for name, table in tables.items():
        lines += [
            f"[{json.dumps(name)}] # not = [this]",
            *(f"{json.dumps(key)}\t= {inline(part)}" for key, part in table.items()),
        ]
    text = "\n".join(lines)
    document = toml_node("slo.toml", text)
    assert plain(document) == tables
    starts = [0, *(place + 1 for place, letter in enumerate(text) if letter == "\n")]
    for node in every(document):
        if node.path:
            at = text[starts[node.place.line - 1] + node.place.column - 1 :]
            said = inline(node.value) if not isinstance(node.value, (dict, list)) else at[0]
            assert at.startswith(said)
            assert at[0] in '[{"-0123456789tf'


@anywhere
@given(document=st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_every_value_of_a_yaml_document_is_where_its_place_says(document):
    text = json.dumps(document, ensure_ascii=False, indent=1).replace("\x7f", "\\u007f")
    (found,) = yaml_nodes("slo.yaml", text)
    assert plain(found) == document
    starts = [0, *(place + 1 for place, letter in enumerate(text) if letter == "\n")]
    for node in every(found):
        at = text[starts[node.place.line - 1] + node.place.column - 1 :]
        assert at[0] == (
            "{" if isinstance(node.value, dict) else "[" if isinstance(node.value, list) else inline(node.value)[0]
        )
