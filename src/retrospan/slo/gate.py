"""One run, judged: what `retrospan slo` prints and `retrospan run --slo` exits with.

    report = judge_run("telemetry.sqlite", "latest")
    print(output.as_text(report))
    sys.exit(report.exit_code)

The report is made on one consistent state of the record; how it is told is the business of `output`.
"""

import os
from collections.abc import Iterable, Set
from dataclasses import dataclass

from retrospan.record import Record, RecordError, read
from retrospan.runs import LATEST, Run, find
from retrospan.slo.definitions import DEFAULTS, SLO
from retrospan.slo.measure import Measure
from retrospan.slo.verdicts import Result, Verdict, evaluate, exit_code, overall
from retrospan.summary import Columns, summary_columns


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a run. Without a run (an empty record) there are no results, and the verdict is no_data.

    `summary` holds the columns of `run_summary` as the rows have them now, None when they cannot be had. `tolerated`
    verdicts leave the exit code alone.
    """

    run: Run | None
    results: tuple[Result, ...] = ()
    summary: Columns | None = None
    tolerated: frozenset[Verdict] = frozenset()

    @property
    def verdict(self) -> Verdict:
        """The strongest verdict of all, tolerated or not."""
        return overall(result.verdict for result in self.results)

    @property
    def exit_code(self) -> int:
        """0, 1, 2 or 3: see `verdicts.exit_code`."""
        return exit_code((result.verdict for result in self.results), self.tolerated)


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
    objectives = tuple(slos)
    return read(path, lambda record: _judge(record, run_id, objectives, frozenset(tolerated)))


def _judge(record: Record, run_id: str, slos: tuple[SLO, ...], tolerated: frozenset[Verdict]) -> Report:
    run = find(record, run_id)
    if run is None:
        return Report(None, tolerated=tolerated)
    measure = Measure(record, run)
    results = tuple(evaluate(measure, slos))
    try:
        summary = summary_columns(record, measure, run)
    except RecordError:
        summary = None  # what stands in the way is said by the results in error
    return Report(run, results, summary, tolerated)
