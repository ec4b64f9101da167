"""`retrospan slo suggest`: objectives that past runs would have met, as an `slo.toml` that says why beside each.

    retrospan slo suggest --runs 20 > slo.toml

A target is the worst of what the runs came to, rounded to the generous side; a share is asked no more strictly than the
smallest of these runs could have shown. Runs that had too few events, or none, have no say.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Final

import click

from retrospan.engines import Engine, read
from retrospan.options import source_option
from retrospan.record import RecordError
from retrospan.runs import runs as listed
from retrospan.slo.definitions import SLO
from retrospan.slo.documents.commands import config_option, objectives
from retrospan.slo.documents.write_toml import as_toml
from retrospan.slo.measure import Measure
from retrospan.slo.output import wording
from retrospan.slo.statistics import Z
from retrospan.slo.verdicts import Result, evaluate
from retrospan.slo.windows import Scope
from retrospan.text import printable

# Shares are suggested in tenths of a percent, other numbers by two digits.
_STEPS: Final = 1000
_DIGITS: Final = 2


@click.command()
@source_option
@config_option
@click.option(
    "--runs",
    "most",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="How many of the latest finished runs.",
)
def suggest(db: Path | str, config: tuple[Path, ...], most: int) -> None:
    """Print an slo.toml whose objectives the latest runs would have met.

    The reason stands beside each as a comment. Numbers are rounded to the generous side; read them, and keep what you
    would defend.
    """
    slos = objectives(config)
    click.echo(read(db, lambda record: suggestion(record, slos, most)), nl=False)


def suggestion(record: Engine, slos: Sequence[SLO], most: int) -> str:
    """The file. Raises RecordError when the record holds no finished run."""
    past = [run for run in listed(record) if not run.provisional][:most]
    if not past:
        raise RecordError(f"{record.name}: the record holds no finished run yet: nothing to learn from")
    by_run = [evaluate(Measure(record, Scope.of(run)), slos) for run in past]
    suggested = [_suggested(slo, [results[place] for results in by_run]) for place, slo in enumerate(slos)]
    text = as_toml(slo for slo, _ in suggested)
    for slo, reason in suggested:
        text = text.replace(f"[slo.{slo.name}]\n", f"# {reason}\n[slo.{slo.name}]\n", 1)
    ids = ", ".join(printable(run.run_id) for run in past)
    return f"# What the {len(past)} latest finished runs would have met: {ids}.\n\n{text}"


def _suggested(slo: SLO, results: Sequence[Result]) -> tuple[SLO, str]:
    """The objective with its threshold moved, and why."""
    told = [result for result in results if result.verdict in ("pass", "fail") and result.sample is not None]
    refused = sum(result.value is None for result in told)
    known = [Fraction(result.value) for result in told if result.value is not None]
    asked = f"{wording.objective(slo)} was asked"
    if not known or refused:
        why = f"{refused} of {len(results)} runs ended on a refusal" if refused else "no run had enough events"
        return slo, f"{why}: left as it was"
    worst, best = (max(known), min(known)) if slo.upper else (min(known), max(known))
    least = min(result.sample.total for result in told if result.sample is not None)
    moved = replace(slo, threshold=_threshold(slo, worst, int(least)))
    numbers = (wording.amount(moved, float(number)) for number in (worst, median(known), best))
    return moved, "{} of {} runs: worst {}, median {}, best {}; {}".format(len(told), len(results), *numbers, asked)


def _threshold(slo: SLO, worst: Fraction, least: int) -> Fraction:
    """The worst value, rounded to the generous side."""
    if slo.unit != "ratio":
        return _rounded(worst, up=slo.upper)
    # All good, so many events have the lower bound of their interval here: more than that they could not show.
    shown = Fraction(least) / (least + Fraction(Z) ** 2)
    if slo.upper:
        return Fraction(math.ceil(max(worst, 1 - shown) * _STEPS), _STEPS)
    return Fraction(math.floor(min(worst, shown) * _STEPS), _STEPS)


def _rounded(number: Fraction, *, up: bool) -> Fraction:
    """To two digits, whole numbers of more digits than that and all others alike."""
    if number == 0 or (number.denominator == 1 and abs(number) < 10**_DIGITS):
        return number
    unit = Fraction(10) ** (math.floor(math.log10(abs(number))) + 1 - _DIGITS)
    return (math.ceil if up else math.floor)(number / unit) * unit
