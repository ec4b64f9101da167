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

from retrospan.record import Record, RecordError, read
from retrospan.runs import LATEST, Run
from retrospan.slo.definitions import DEFAULTS, SLO
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

    def scope(self, record: Record) -> Scope:
        """The rows for objectives without a window of their own. Raises RecordError for an unknown run."""
        if self.run_ids or not self.said:
            return named(record, self.run_ids or (LATEST,), self.span)
        return over(record, self.span)


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on what is in `scope`. Without a run in it there are no results, and the verdict is no_data.

    `summary` holds the columns of `run_summary` as the rows have them now, None when they cannot be had or when it is not
    one whole run that is judged. `tolerated` verdicts leave the exit code alone.
    """

    scope: Scope
    results: tuple[Result, ...] = ()
    summary: Columns | None = None
    tolerated: frozenset[Verdict] = frozenset()

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
        """0, 1, 2 or 3: see `verdicts.exit_code`. What an objective's definition says of no data wins over `tolerated`."""
        verdicts: list[Verdict] = [result.verdict for result in self.results]
        if set(verdicts) <= {"not_applicable"}:
            return exit_code(verdicts, self.tolerated)
        spared: list[Verdict] = ["pass" if self._is_spared(result) else result.verdict for result in self.results]
        return exit_code(spared, self.tolerated - {"no_data"})

    def _is_spared(self, result: Result) -> bool:
        policy = result.slo.no_data or ("warn" if "no_data" in self.tolerated else "fail")
        return result.verdict == "no_data" and policy == "warn"


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
    return judge(path, Choice((run_id,)), tuple(slos), tolerated)


def judge(
    path: str | os.PathLike[str],
    choice: Choice,
    slos: Sequence[SLO] = tuple(DEFAULTS.values()),
    tolerated: Set[Verdict] = frozenset(),
) -> Report:
    """Judge what is chosen of the record at `path`, on one consistent state of it.

    Raises RecordError when the record cannot be opened or a named run is not in it.
    """
    return read(path, lambda record: judge_record(record, choice, slos, tolerated))


def judge_record(record: Record, choice: Choice, slos: Sequence[SLO], tolerated: Set[Verdict] = frozenset()) -> Report:
    """Judge what is chosen of an open record. Raises RecordError when a named run is not in it."""
    scope = choice.scope(record)
    own = {} if choice.said else {slo: _own(record, slo, choice.now) for slo in slos if slo.window is not None}
    if not scope.runs and not own:
        return Report(scope, tolerated=frozenset(tolerated))
    results = {slo: result for slo, result in own.items() if isinstance(result, Result)}
    # By scope, so that each indicator's text runs once in each.
    for window in dict.fromkeys(result for result in own.values() if isinstance(result, Scope)):
        measure = Measure(record, window)
        found = evaluate(measure, [slo for slo, scope in own.items() if scope == window])
        results |= {result.slo: replace(result, scope=window) for result in found}
    measure = Measure(record, scope)
    rest = [slo for slo in slos if slo not in own]
    results |= {result.slo: result for result in evaluate_side_by_side(measure, rest)}
    return Report(scope, tuple(results[slo] for slo in slos), _summary(record, measure), frozenset(tolerated))


def _own(record: Record, slo: SLO, now: float) -> Scope | Result:
    """The rows of an objective's own window; a result in error when that cannot be known."""
    assert slo.window is not None, f"{slo.name} has no window"
    try:
        return over(record, promised(slo.window, now))
    except RecordError as error:
        return Result(slo, "error", str(error))


def _summary(record: Record, measure: Measure) -> Columns | None:
    run = measure.scope.run
    if run is None:
        return None
    try:
        return summary_columns(record, measure, run)
    except RecordError:
        return None  # what stands in the way is said by the results in error
