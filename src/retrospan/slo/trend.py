"""`retrospan trend`: one objective day by day or week by week, and what is left of its budget over long windows.

    retrospan trend http_429 --from archive/ --since 90d --by week
    retrospan trend yield --db telemetry.sqlite --format csv > yield.csv

Each period is judged by itself, on the rows of all runs that ended in it, as `retrospan slo --from … --to …` would; so is each
window, up to the end of what is asked for. A period without events is there, too, with nothing in it.
"""

import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from retrospan.engines import Engine, read
from retrospan.options import source_option
from retrospan.record import RecordError
from retrospan.runs import runs
from retrospan.slo.choosing import span_options
from retrospan.slo.definitions import SLO
from retrospan.slo.documents.commands import config_option, objectives
from retrospan.slo.drawing import ASCII_BAR, BLOCK
from retrospan.slo.explain import named
from retrospan.slo.gate import Choice
from retrospan.slo.measure import Measure
from retrospan.slo.output import wording
from retrospan.slo.output.fields import number
from retrospan.slo.output.plain import Style, coloured
from retrospan.slo.verdicts import Result, evaluate
from retrospan.slo.windows import Span, duration, over
from retrospan.text import printable

_DAYS: Final = {"day": 1, "week": 7}
_MOST_PERIODS: Final = 3700
_WIDTH: Final = 32
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Judged:
    """An objective over one stretch of time."""

    first: float
    last: float
    result: Result


@dataclass(frozen=True, slots=True)
class Trend:
    """An objective over equal periods, and over windows (by their names) that end with the last."""

    slo: SLO
    by: str
    periods: tuple[Judged, ...]
    windows: dict[str, Judged]


@click.command()
@click.argument("name")
@source_option
@config_option
@span_options
@click.option(
    "--by", type=click.Choice(list(_DAYS)), default="day", show_default=True, help="Length of a period (UTC)."
)
@click.option(
    "--window",
    "windows",
    multiple=True,
    metavar="DURATION",
    default=("28d", "90d"),
    show_default=True,
    help="What is left of the budget over so long a time, up to the end. May be given again.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "csv", "json"]),
    default="text",
    show_default=True,
    help="Form of the output.",
)
def trend(
    name: str, db: Path | str, config: tuple[Path, ...], choice: Choice, by: str, windows: tuple[str, ...], form: str
) -> None:
    """Show how one objective went, day by day or week by week.

    NAME is the objective's. All runs are told together; without --since and --from, from the day or week of the first
    event on. Exit code 0, whatever the verdicts; 2 for wrong usage, record or name.
    """
    slo = named(objectives(config), name)
    try:
        lengths = {text: duration(text) for text in windows}
    except ValueError as error:
        raise click.UsageError(f"--window: {error}") from error
    found = read(db, lambda record: trend_of(record, choice, slo, by, lengths))
    click.echo(_FORMS[form](found), nl=form != "csv")


def trend_of(record: Engine, choice: Choice, slo: SLO, by: str, windows: dict[str, float]) -> Trend:
    """The trend of what is chosen. Raises RecordError when the record cannot be read, or there is nothing to tell."""
    known = runs(record)

    def judged(first: float, last: float) -> Judged:
        (result,) = evaluate(Measure(record, over(record, Span(first, last), known)), [slo], explained=False)
        return Judged(first, last, result)

    first, last = _ends(record, choice, slo, by)
    periods = tuple(judged(begin, min(end, last)) for begin, end in _periods(first, last, by))
    return Trend(slo, by, periods, {name: judged(last - length, last) for name, length in windows.items()})


def _ends(record: Engine, choice: Choice, slo: SLO, by: str) -> tuple[float, float]:
    """From when to when: as was said, else from the begin of the first event's period to now.

    From the event itself would be too late: that of an artifact bears the time of its last row, and the rows before it,
    of other artifacts too, would be cut off.
    """
    first = choice.span.first
    if first is None:
        events = Measure(record, over(record, choice.span)).events(slo.sli)
        ((count, earliest),) = events.rows("COUNT(*), MIN(timestamp)")
        if not count:
            raise RecordError(f"{record.name}: has no event of {printable(slo.name)} there: nothing to tell")
        first = _begin(earliest, by).timestamp()
    return first, choice.now if choice.span.last is None else choice.span.last


def _begin(moment: float, by: str) -> datetime:
    """Midnight (UTC) of the day, or of the Monday of the week, that a moment lies in."""
    day = datetime.fromtimestamp(moment, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday()) if by == "week" else day


def _periods(first: float, last: float, by: str) -> Iterator[tuple[float, float]]:
    """The days, or the weeks from Monday on, that overlap [first, last)."""
    length = timedelta(days=_DAYS[by])
    if (last - first) / length.total_seconds() > _MOST_PERIODS:
        raise RecordError(f"more than {_MOST_PERIODS} periods: say --since or --from, or --by week")
    begin = _begin(first, by)
    while begin.timestamp() < last:
        yield max(first, begin.timestamp()), (begin + length).timestamp()
        begin += length


def as_text(found: Trend) -> str:
    """A chart: a line a period, its bar, value, events and verdict; then the budgets."""
    slo, style = found.slo, Style.of(sys.stdout)
    bar = BLOCK if style.unicode else ASCII_BAR
    values = [one.result.value for one in found.periods if one.result.value is not None]
    goal = float(slo.threshold)
    most = max([goal, *values]) or 1.0
    lines = [f"{printable(slo.name)} by {found.by}, asked {wording.objective(slo)}"]
    for one in found.periods:
        told = one.result
        drawn = _drawn(told.value, goal, most, bar)
        total = "-" if told.sample is None else wording.count(told.sample.total)
        line = f"{_date(one.first)} {drawn} {wording.amount(slo, told.value):>10}  {total:>8}  {told.verdict}"
        lines.append(coloured(line, told.verdict, style))
    for name, one in found.windows.items():
        lines.append(f"last {name}: {_spent(slo, one.result)}")
    return "\n".join(lines)


def _drawn(value: float | None, goal: float, most: float, bar: str) -> str:
    """A value's bar, with a mark where the threshold is."""
    filled = 0 if value is None else round(_WIDTH * min(value, most) / most)
    mark = min(_WIDTH - 1, round(_WIDTH * goal / most))
    letters = [bar if place < filled else " " for place in range(_WIDTH)]
    letters[mark] = "|"
    return "".join(letters)


def _spent(slo: SLO, result: Result) -> str:
    value = f"{wording.amount(slo, result.value)}, {result.verdict}"
    if result.budget is None:
        return value
    bad, allowed, left = (
        wording.count(round(float(number), 2))
        for number in (result.budget.bad, result.budget.allowed, result.budget.left)
    )
    rate = result.budget.burn_rate
    spent = "" if rate is None else f", {100 * rate:.3g} % of the budget spent"
    return f"{value}{spent} ({bad} bad of {allowed} allowed, {left} left)"


def as_csv(found: Trend) -> str:
    """A line a period, under a head; what is not known is empty."""
    told = io.StringIO()
    writer = csv.writer(told, lineterminator="\n")
    fields = [_fields(one) for one in found.periods]
    writer.writerow(fields[0])
    writer.writerows(one.values() for one in fields)
    return told.getvalue()


def as_json(found: Trend) -> str:
    """The periods and the windows, with their budgets."""
    slo = found.slo
    told = {
        "schema_version": 1,
        "name": slo.name,
        "by": found.by,
        "op": slo.op,
        "threshold": float(slo.threshold),
        "target": None if slo.target is None else float(slo.target),
        "periods": [_fields(one) for one in found.periods],
        "windows": [
            {"window": name, **_fields(one), "budget": _budget(one.result)} for name, one in found.windows.items()
        ],
    }
    return json.dumps(told, indent=2, allow_nan=False)


def _fields(one: Judged) -> dict[str, Any]:
    result, sample = one.result, one.result.sample
    low, high = result.ci or (None, None)
    return {
        "from": _moment(one.first),
        "to": _moment(one.last),
        "verdict": result.verdict,
        "value": result.value,
        "good": None if sample is None else number(sample.good),
        "total": None if sample is None else number(sample.total),
        "unknown": None if sample is None else sample.unknown,
        "ci_low": low,
        "ci_high": high,
    }


def _budget(result: Result) -> dict[str, Any] | None:
    if result.budget is None:
        return None
    told = {name: float(getattr(result.budget, name)) for name in ("allowed", "bad", "left")}
    return {**told, "consumed": result.budget.burn_rate}


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def _moment(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


_FORMS: Final[dict[str, Callable[[Trend], str]]] = {"text": as_text, "csv": as_csv, "json": as_json}
