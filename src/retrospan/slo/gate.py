"""What is judged and by which objectives: what `retrospan slo` prints and `retrospan run --slo` exits with.

    report = judge_run("telemetry.sqlite", "latest")
    print(output.as_text(report))
    sys.exit(report.exit_code)

The report is made on one consistent state of the record; how it is told is the business of `output`.
"""

import os
import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from retrospan.engines import Engine, read
from retrospan.record import RecordError
from retrospan.runs import LATEST, Run, runs
from retrospan.slo.baseline import Baseline, Past, compare, of_file
from retrospan.slo.definitions import DEFAULTS, SLO
from retrospan.slo.disk import Disk
from retrospan.slo.measure import Measure
from retrospan.slo.side_by_side import evaluate_side_by_side
from retrospan.slo.verdicts import Result, Verdict, evaluate, exit_code, overall
from retrospan.slo.windows import EVER, Scope, Span, named, over, promised
from retrospan.summary import Columns, summary_columns


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows are asked for.

    `run_ids` name runs ("latest": the one that started last); without any, the rows of every run in `span`, and without
    that too, each objective's own window where it has one, else the latest run. `now` is where rolling windows end.
    """

    run_ids: tuple[str, ...] = ()
    span: Span = EVER
    now: float = field(default_factory=time.time)

    @property
    def said(self) -> bool:
        """Whether it was said which rows, so that the objectives' own windows do not count."""
        return bool(self.run_ids) or self.span != EVER

    def scope(self, record: Engine) -> Scope:
        """The rows for objectives without a window of their own. Raises RecordError for an unknown run."""
        if self.run_ids or not self.said:
            return named(record, self.run_ids or (LATEST,), self.span)
        return over(record, self.span)


@dataclass(frozen=True, slots=True)
class Terms:
    """How it is judged: `tolerated` verdicts leave the exit code alone; `disk` says where stored files lie, to look at
    them; `baseline` is a report's file, a run or "previous", and with `fail_on_regression` worse than it is a failure."""

    tolerated: frozenset[Verdict] = frozenset()
    disk: Disk | None = None
    baseline: str | None = None
    fail_on_regression: bool = False


TERMS: Final = Terms()
PREVIOUS: Final = "previous"


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on what is in `scope`. Without a run in it there are no results, and the verdict is no_data.

    `summary` holds the columns of `run_summary` as the rows have them now, None when they cannot be had or when it is not
    one whole run that is judged.
    """

    scope: Scope
    results: tuple[Result, ...] = ()
    summary: Columns | None = None
    terms: Terms = TERMS
    baseline: Baseline | None = None

    @property
    def run(self) -> Run | None:
        """The run that is judged, if it is one whole run."""
        return self.scope.run

    @property
    def verdict(self) -> Verdict:
        """The strongest verdict of all, tolerated or not."""
        return overall(result.verdict for result in self.results)

    @property
    def exit_code(self) -> int:
        """0, 1, 2 or 3: see `verdicts.exit_code`. What an objective's definition says of no data wins over the terms."""
        verdicts: list[Verdict] = [result.verdict for result in self.results]
        if set(verdicts) <= {"not_applicable"}:
            return exit_code(verdicts, self.terms.tolerated)
        told: list[Verdict] = ["pass" if self.tolerates(result) else result.verdict for result in self.results]
        if self.terms.fail_on_regression and self.baseline is not None and self.baseline.regressed:
            told.append("fail")
        return exit_code(told)

    def tolerates(self, result: Result) -> bool:
        """Whether the verdict on an objective leaves the exit code alone, though it is no pass."""
        if result.verdict == "no_data" and result.slo.no_data is not None:
            return result.slo.no_data == "warn"
        return result.verdict in self.terms.tolerated


def judge_run(
    path: str | os.PathLike[str],
    run_id: str = LATEST,
    *,
    slos: Iterable[SLO] = tuple(DEFAULTS.values()),
    tolerated: Set[Verdict] = frozenset(),
) -> Report:
    """Judge one run ("latest": the one that started last) of the record at `path`, on one consistent state of it.

    Raises RecordError when the record cannot be opened or the run is not in it.
    """
    return judge(path, Choice((run_id,)), tuple(slos), Terms(frozenset(tolerated)))


def judge(
    path: str | os.PathLike[str],
    choice: Choice,
    slos: Sequence[SLO] = tuple(DEFAULTS.values()),
    terms: Terms = TERMS,
) -> Report:
    """Judge what is chosen of the record at `path`, on one consistent state of it.

    Raises RecordError when the record cannot be opened, or a named run or the baseline is not there.
    """
    return read(path, lambda record: judge_record(record, choice, slos, terms))


def judge_record(record: Engine, choice: Choice, slos: Sequence[SLO], terms: Terms = TERMS) -> Report:
    """Judge what is chosen of an open record. Raises RecordError when a named run or the baseline is not there."""
    scope = choice.scope(record)
    own = {} if choice.said else {slo: _own(record, choice, slo) for slo in slos if slo.window is not None}
    if not scope.runs and not own:
        return Report(scope, terms=terms)
    results = {slo: result for slo, result in own.items() if isinstance(result, Result)}
    # By scope, so that each indicator's text runs once in each.
    for window in dict.fromkeys(result for result in own.values() if isinstance(result, Scope)):
        measure = Measure(record, window, terms.disk)
        found = evaluate(measure, [slo for slo, scope in own.items() if scope == window])
        results |= {result.slo: replace(result, scope=window) for result in found}
    measure = Measure(record, scope, terms.disk)
    rest = [slo for slo in slos if slo not in own]
    results |= {result.slo: result for result in evaluate_side_by_side(measure, rest)}
    told = tuple(results[slo] for slo in slos)
    report = Report(scope, told, _summary(record, measure), terms)
    return replace(report, baseline=_baseline(record, report, terms.baseline)) if terms.baseline else report


def scope_for(record: Engine, choice: Choice, slo: SLO) -> Scope:
    """The rows by which one objective is judged. Raises RecordError for an unknown run, or a window of no known time."""
    if choice.said or slo.window is None:
        return choice.scope(record)
    return over(record, promised(slo.window, choice.now))


def _own(record: Engine, choice: Choice, slo: SLO) -> Scope | Result:
    """The rows of an objective's own window; a result in error when that cannot be known."""
    try:
        return scope_for(record, choice, slo)
    except RecordError as error:
        return Result(slo, "error", str(error))


def _summary(record: Engine, measure: Measure) -> Columns | None:
    run = measure.scope.run
    if run is None:
        return None
    try:
        return summary_columns(record, measure, run)
    except RecordError:
        return None  # what stands in the way is said by the results in error


def _baseline(record: Engine, report: Report, asked: str) -> Baseline:
    """The changes since a report's file (its name ends in .json), a run, or the run before the one that is judged."""
    if asked.endswith(".json"):
        before = of_file(Path(asked))
    else:
        scope = Scope.of(_before(record, report.run)) if asked == PREVIOUS else named(record, (asked,))
        asked = f"run {scope.runs[0].run_id}" if scope.runs else asked
        # Files are as they are now, so what they were then cannot be looked up.
        found = evaluate_side_by_side(Measure(record, scope), [result.slo for result in report.results])
        before = {result.slo.name: Past.of(result) for result in found}
    changes = {result.slo.name: compare(result, before.get(result.slo.name)) for result in report.results}
    return Baseline(asked, changes)


def _before(record: Engine, run: Run | None) -> Run:
    earlier = [one for one in runs(record) if run is not None and (one.started_at or 0) < (run.started_at or 0)]
    if not earlier:
        raise RecordError(f"{record.name}: no run before the one that is judged: name a baseline, or leave it out")
    return earlier[0]
