"""One record on every engine: the same values, counts, intervals, verdicts and offenders."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrospan.archive.export import export
from retrospan.archive.places import place_of
from retrospan.engines import read
from retrospan.slo.blame import Blame
from retrospan.slo.definitions import DEFAULTS
from retrospan.slo.gate import Choice, judge, judge_record
from retrospan.slo.verdicts import Result
from retrospan.slo.windows import Span

from .archives import command, fill
from .records import START, healthy, making, stored

DAY = 86_400.0
SLOS = tuple(DEFAULTS.values())
CHOICES = (
    Choice(("latest",)),
    Choice(("R0", "R1")),
    Choice((), Span(START, None)),
    Choice((), Span(START + 0.5 * DAY, START + 1.75 * DAY)),
    Choice((), Span(START + 20 * DAY, None)),
)


def told(result: Result) -> Result:
    """A result without what engines may name in another order: traces of equal rank, and ids in hex or not."""
    offenders = tuple(replace(one, traces=()) for one in result.offenders)
    return replace(result, blame=Blame(result.blame.bad, offenders, result.blame.worst))


def results(source: Path | str, *choices: Choice) -> list[list[Result]]:
    """The results on each choice, by one opening of the source."""
    return read(
        source, lambda one: [[told(found) for found in judge_record(one, choice, SLOS).results] for choice in choices]
    )


def random_record(path: Path, seed: int, rows: int = 400) -> None:
    rng = random.Random(seed)
    with making(path) as record:
        for number in range(3):
            fill(record, rng, run_id=f"R{number}", rows=rng.randrange(rows), processes=1, days=2)
        if rng.random() < 0.5:
            healthy(record, rng.randrange(60), "R1")


def test_a_healthy_record_and_its_archive_have_the_same_verdicts(path, tmp_path):
    with making(path) as record:
        record.run()
        healthy(record)
        record.ended()
    export(path, place_of(tmp_path / "archive"))
    here, there = (judge(place, Choice()) for place in (path, tmp_path / "archive"))
    assert [told(one) for one in here.results] == [told(one) for one in there.results]
    assert {one.verdict for one in here.results} == {"pass"}
    assert here.summary == there.summary


@pytest.mark.parametrize("examples", [1, pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_random_records_and_their_archives_have_the_same_numbers(tmp_path_factory, examples):
    @settings(max_examples=examples)
    @given(seed=st.integers(0, 1_000_000))
    def same(seed: int) -> None:
        path = tmp_path_factory.mktemp("engines") / "telemetry.sqlite"
        random_record(path, seed)
        export(path, place_of(path.with_name("archive")))
        assert results(path, *CHOICES) == results(path.with_name("archive"), *CHOICES)

    same()


def test_a_legacy_record_and_its_archive_have_the_same_numbers(path, tmp_path):
    with making(path, legacy=True) as record:
        for number in range(60):
            shared = {"ts": START + number, "host": "h", "run_id": "R"}
            record.add(
                "http_events",
                ranged=False,
                role="metadata",
                method="GET",
                status=200 + 229 * (number % 7 == 0),
                **shared,
            )
            record.add(
                "fallback_attempts", ranged=False, artifact_id=str(number), outcome="success", elapsed_ms=5, **shared
            )
            if number % 5:
                record.add("downloads", ranged=False, artifact_id=str(number), **stored(number), **shared)
    export(path, place_of(tmp_path / "archive"))
    choices = (Choice(), Choice(("R",)), Choice((), Span(START + 5, START + 30)))
    assert results(path, *choices) == results(tmp_path / "archive", *choices)


def test_an_archive_of_several_records_is_judged_as_one(tmp_path):
    """What two machines of a fleet recorded of one run, and of others, is judged together, as their merged record is."""
    archive, paths = tmp_path / "archive", []
    for number in range(2):
        paths.append(tmp_path / f"{number}.sqlite")
        with making(paths[-1]) as record:
            record.run(f"R{number}", layers=("http", "cache")[number], started_at=START + number)
            record.run("SHARED", layers=("http", "cache")[number], started_at=START + 7 + number)
            record.add("http_events", *[{"status": 200, "wire": 1, "hop_last": 1}] * 150, run_id="SHARED")
            record.add("http_events", *[{"status": 429, "wire": 1}] * 3, run_id=f"R{number}")
        export(paths[-1], place_of(archive))
    (verdict,) = (one for one in judge(archive, Choice(("SHARED",))).results if one.slo.name == "http_429")
    assert (verdict.verdict, verdict.sample.total) == ("pass", 300)
    assert [run.run_id for run in judge(archive, Choice((), Span(START, None))).scope.runs] == ["SHARED", "R1", "R0"]
    assert judge(archive, Choice(("SHARED",))).scope.layers == {"http", "cache"}
    merged = tmp_path / "merged.sqlite"
    assert command("merge", merged, *paths).exit_code == 0
    assert results(archive, Choice((), Span(START, None))) == results(merged, Choice((), Span(START, None)))


def test_the_command_judges_an_archive_and_names_a_moment_beside_it(path, tmp_path):
    archive = tmp_path / "archive"
    with making(path) as record:
        record.run()
        healthy(record)
    export(path, place_of(archive))
    for place in (("--from", archive), ("--db", archive)):
        whole = command("slo", *place, "--format", "json")
        assert whole.exit_code == 0, whole.stderr
        assert json.loads(whole.stdout) == json.loads(command("slo", "--db", path, "--format", "json").stdout)
    cut = command("slo", "--from", archive, "--from", "2025-10-09", "--to", "2025-10-10", "--format", "json")
    assert json.loads(cut.stdout)["slos"][3]["total"] == 250
    assert command("slo", "--from", archive, "--since", "1d").exit_code == 3
    assert "yield" in command("slo", "explain", "yield", "--from", archive).stdout
    assert "01K9Z3NDEKTS" in command("runs", "--db", archive).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "yesterday"), "nor is there such a file or folder"),
        (("--from", "2025-01-01", "--from", "2025-01-02"), "one moment and one place"),
        (("--from", "EMPTY"), "is no archive"),
        (("--from", "ARCHIVE", "--run", "NONE"), "no run 'NONE'"),
        (("--from", "ARCHIVE", "--verify", "disk"), "for SQLite records alone"),
        (("--from", "ARCHIVE", "--config", "OWN"), "for SQLite records alone"),
    ],
)
def test_what_an_archive_cannot_do_is_told_and_exits_with_2(path, tmp_path, arguments, said):
    places = {"EMPTY": tmp_path / "empty", "ARCHIVE": tmp_path / "archive", "OWN": tmp_path / "slo.toml"}
    places["EMPTY"].mkdir()
    places["OWN"].write_text("[slo.own]\nsql = 'SELECT ts AS timestamp, 1 AS value FROM http_events'\nmin = '90%'\n")
    with making(path) as record:
        record.run()
        healthy(record, 5)
    export(path, place_of(places["ARCHIVE"]))
    refused = command("slo", *(places.get(argument, argument) for argument in arguments))
    assert refused.exit_code == 2
    assert said in refused.stdout + refused.stderr


def test_memory_of_the_engine_is_bounded_as_is_said(path, tmp_path, monkeypatch):
    with making(path) as record:
        healthy(record, 5)
    export(path, place_of(tmp_path / "archive"))
    monkeypatch.setenv("RETROSPAN_ENGINE_MEMORY", "much")
    refused = command("slo", "--from", tmp_path / "archive")
    assert refused.exit_code == 2
    assert "RETROSPAN_ENGINE_MEMORY" in refused.stderr
    monkeypatch.setenv("RETROSPAN_ENGINE_MEMORY", "300MB")
    assert command("slo", "--from", tmp_path / "archive").exit_code in (0, 1, 3)
