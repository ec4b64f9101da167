"""`retrospan slo explain`: one objective in full: numbers, how values spread or when it went wrong, who, where to look.

    retrospan slo explain http_429 --db telemetry.sqlite

Text from the record is made printable; the picture is plain ASCII where the terminal can do no more.
"""

import sys
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import click

from retrospan.engines import Engine, read
from retrospan.options import source_option
from retrospan.record import RecordError, Row
from retrospan.slo.blame import Offender, blame, trace_of
from retrospan.slo.choosing import choice_options
from retrospan.slo.definitions import SLO
from retrospan.slo.documents.commands import config_option, objectives
from retrospan.slo.drawing import ASCII_BAR, BLOCK, histogram, step_of, timeline
from retrospan.slo.gate import Choice, scope_for
from retrospan.slo.measure import REFUSED, Measure, values
from retrospan.slo.output import wording
from retrospan.slo.output.plain import Style, coloured
from retrospan.slo.verdicts import Result, evaluate
from retrospan.text import printable, table

_MOST: Final = 10
_NAMED: Final = 5


@click.command()
@click.argument("name")
@source_option
@config_option
@choice_options
@click.pass_context
def explain(context: click.Context, name: str, db: Path | str, config: tuple[Path, ...], choice: Choice) -> None:
    """Explain the verdict on one objective.

    NAME is the objective's. Told are its numbers, a histogram of its values or a timeline of its bad events, who has most
    of these by each dimension, and the worst events with their traces. Exit code 0, whatever the verdict; 2 for wrong
    usage, record, run or name.
    """
    slo = named(objectives(config), name)
    style = Style.of(sys.stdout)
    click.echo("\n".join(read(db, lambda record: list(explained(record, choice, slo, style)))))


def named(slos: Sequence[SLO], name: str) -> SLO:
    """The objective of that name. Raises UsageError, with what is near, when there is none."""
    names = {slo.name: slo for slo in slos}
    wanted = name.replace("-", "_")
    if wanted in names:
        return names[wanted]
    near = get_close_matches(wanted, names) or list(names)
    raise click.UsageError(f"no objective {printable(name)!r}: did you mean {' or '.join(map(printable, near))}?")


def explained(record: Engine, choice: Choice, slo: SLO, style: Style) -> Iterator[str]:
    """The lines. Raises RecordError when the record cannot be read, or holds no such run."""
    scope = scope_for(record, choice, slo)
    if not scope.runs:
        raise RecordError(f"{record.name}: the record holds no run there: nothing to explain")
    measure = Measure(record, scope)
    (result,) = evaluate(measure, [slo])
    yield coloured(f"{printable(slo.name)}: {result.verdict}", result.verdict, style)
    yield from (f"  {name:8} {told}" for name, told in _numbers(measure, result) if told)
    if result.sample is None or not result.sample.total:
        return
    bar = BLOCK if style.unicode else ASCII_BAR
    yield from ["", *_picture(measure, slo, bar)]
    found = blame(measure, slo, _MOST)
    if found.offenders:
        yield from ["", *_offenders(found.offenders)]
    if found.worst is not None:
        within = wording.stretch(found.worst.first, found.worst.last)
        yield from ["", f"{found.worst.bad} of {found.bad} bad events came within {within}"]
    yield from _worst(measure, slo)


def _numbers(measure: Measure, result: Result) -> Iterator[tuple[str, str]]:
    slo, sample, budget = result.slo, result.sample, result.budget
    yield "what", printable(slo.description, 200)
    place = "built in" if slo.file is None else f"{printable(slo.file)}:{slo.line}"
    yield "asked", f"{wording.objective(slo)} ({place})"
    yield "judged", wording.judged(measure.scope)
    yield "is", wording.amount(slo, result.value)
    yield "why", printable(result.reason or "", 300)
    if sample is not None:
        yield (
            "events",
            f"{wording.count(sample.good)} of {wording.count(sample.total)} good, {slo.min_events} needed to tell",
        )
        yield "beside", f"{sample.unknown} {slo.sli.unknown}" if sample.unknown else ""
    if result.ci is not None:
        yield "interval", f"{wording.interval(result)} % good, at 95 %; {wording.percent(slo.target)} needed"
    if budget is not None:
        numbers = (wording.count(round(float(number), 2)) for number in (budget.allowed, budget.bad, budget.left))
        rate = "" if budget.burn_rate is None else f"; burn rate {budget.burn_rate:.3g}"
        yield "budget", "{} bad allowed, {} there are, {} left".format(*numbers) + rate


def _picture(measure: Measure, slo: SLO, bar: str) -> list[str]:
    if slo.statistic in ("percentile", "mean") and slo.unit != "ratio":
        known = values(measure, slo)
        finite = [(value, n) for value, n in known if value < REFUSED]
        unit = " ms" if slo.unit == "ms" else ""
        lines = histogram(finite, float(slo.threshold), unit, bar) if finite else []
        never = sum(n for value, n in known if value >= REFUSED)
        return lines + ([f"refused, so never: {wording.count(never)}"] if never else [])
    events = measure.events(slo.sli)
    ((first, last),) = events.rows("MIN(timestamp), MAX(timestamp)", "WHERE value IS NOT NULL")
    step = step_of(first, last)
    begin = f"{measure.record.floor(f'timestamp / {step}')} * {step}"
    rows = events.rows(
        f"{begin} AS begin, COUNT(CASE WHEN NOT ({slo.good}) THEN 1 END), COUNT(*)",
        "WHERE value IS NOT NULL GROUP BY begin ORDER BY begin",
    )
    return timeline([(row[0], row[1], row[2]) for row in rows], bar)


def _offenders(offenders: Sequence[Offender]) -> list[str]:
    head = ("BY", "WHO", "BAD", "OF", "OF ALL BAD", "FROM (UTC)", "TO", "TRACE")
    rows = [
        (
            printable(one.dimension),
            "(unknown)" if one.value is None else printable(one.value),
            str(one.bad),
            str(one.total),
            wording.percent(one.share),
            *wording.stretch(one.first, one.last).removesuffix("Z").split(" to "),
            printable(one.traces[0]) if one.traces else "-",
        )
        for one in offenders
    ]
    return table(head, rows).splitlines()


def _worst(measure: Measure, slo: SLO) -> list[str]:
    """The worst events themselves: when, what, the value of each dimension, and the trace."""
    events = measure.events(slo.sli)
    names = [*events.dimensions, *(["trace_id"] if events.traced else [])]
    columns = ", ".join(['"' + name.replace('"', '""') + '"' for name in names]) or "NULL"
    order = "value DESC" if slo.upper else "value"
    rows = events.rows(
        f"timestamp, value, {columns}",
        f"WHERE value IS NOT NULL AND NOT ({slo.good}) ORDER BY {order}, timestamp LIMIT {_NAMED}",
    )
    if not rows:
        return []
    head = ("WORST AT (UTC)", "VALUE", *(printable(name).upper() for name in names))
    return ["", *table(head, [_event(slo, row) for row in rows]).splitlines()]


def _event(slo: SLO, row: Row) -> tuple[str, ...]:
    moment, value, *rest = row
    told = "refused" if value >= REFUSED else f"{value:.10g}" + (" ms" if slo.unit == "ms" else "")
    first = wording.stretch(moment, moment).split(" to ")[0]
    return first, told, *("-" if cell is None else printable(trace_of(cell)) for cell in rest)
