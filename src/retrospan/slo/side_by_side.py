"""Judging on two cores: a second reader of the same state of the record takes half of the indicators.

    results = evaluate_side_by_side(measure, slos)

SQLite lets go of the interpreter while it reads, so two threads with a connection each take little more than half the
time. A small record, one core, or a record that was written to meanwhile is judged by one.
"""

import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from retrospan.record import Record, RecordError
from retrospan.slo.definitions import DEFAULTS, SLI, SLO
from retrospan.slo.measure import Measure
from retrospan.slo.verdicts import Result, evaluate

_LARGE: Final = 200_000


def evaluate_side_by_side(measure: Measure, slos: Sequence[SLO]) -> list[Result]:
    """As `verdicts.evaluate`, on two connections where that pays.

    What the default objectives come to is known to `measure` afterwards, for the summary.
    """
    by_sli: dict[SLI, list[SLO]] = {slo.sli: [] for slo in slos}
    for slo in slos:
        by_sli[slo.sli].append(slo)
    left = deque(by_sli.values())
    results: dict[SLO, Result] = {}

    def work(measure: Measure) -> None:
        while left:
            try:
                group = left.popleft()
            except IndexError:  # the other took the last one just now
                return
            results.update((result.slo, result) for result in evaluate(measure, group))
            _measure_defaults(measure, group[0].sli)

    def help_out() -> None:
        try:
            with Record.open(measure.record.name) as twin:
                if twin.state() == state:
                    other = Measure(twin, measure.scope, measure.disk)
                    work(other)
                    measure.adopt(other)
        except RecordError:
            return  # whoever reads the rest meets it too, and tells

    state = measure.record.state()
    if sum(state) < _LARGE or (os.cpu_count() or 1) < 2:
        work(measure)
    else:
        helper = threading.Thread(target=help_out, daemon=True)
        helper.start()
        work(measure)
        helper.join()
    missed = [slo for slo in slos if slo not in results]
    results.update((result.slo, result) for result in evaluate(measure, missed))
    return [results[slo] for slo in slos]


def _measure_defaults(measure: Measure, sli: SLI) -> None:
    for slo in DEFAULTS.values():
        if slo.sli == sli:
            try:
                measure.sample(slo)
            except RecordError:
                return
