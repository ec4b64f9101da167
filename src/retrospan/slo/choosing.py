"""The options that say which rows are judged, for every command that judges.

@choice_options
def command(choice: Choice): ...
"""

import os
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from retrospan.options import read_by
from retrospan.runs import LATEST
from retrospan.slo.gate import Choice
from retrospan.slo.windows import Span, duration, moment

_RUN: Final = click.option(
    "--run",
    "run_ids",
    multiple=True,
    metavar="ID",
    help=f"Run to judge, or {LATEST} (the default). May be given again: their rows are judged together.",
)
_SPAN: Final = (
    click.option(
        "--since",
        metavar="DURATION",
        callback=read_by(duration),
        help="Judge the rows of the last 90s, 30m, 12h, 7d or 2w.",
    ),
    click.option(
        "--from",
        "begin",
        metavar="MOMENT|PLACE",
        multiple=True,
        help="Judge rows from this date and time (UTC) on; or those of an archive, as --db. May be given for each.",
    ),
    click.option(
        "--to", "last", metavar="MOMENT", callback=read_by(moment), help="Judge rows before this date and time (UTC)."
    ),
)


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options, and what they say as `choice`."""
    return _RUN(span_options(command))


def span_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that is of all runs: without --run."""

    @wraps(command)
    def chosen(
        *args: Any,
        since: float | None,
        begin: tuple[str, ...],
        last: float | None,
        run_ids: tuple[str, ...] = (),
        **kwargs: Any,
    ) -> Any:
        now = time.time()
        first, place = _begin(begin)
        if place is not None:
            kwargs["db"] = place
        if since is not None and (first is not None or last is not None):
            raise click.UsageError("--since already says from when to when: leave --from and --to out")
        if since is not None:
            first = now - since
        if first is not None and last is not None and first >= last:
            raise click.UsageError("--from must lie before --to")
        return command(*args, choice=Choice(run_ids, Span(first, last), now), **kwargs)

    for option in reversed(_SPAN):
        chosen = option(chosen)
    return chosen


def _begin(said: tuple[str, ...]) -> tuple[float | None, Path | str | None]:
    """The moment and the place among what --from was given. Raises UsageError for what is neither, or two of one kind."""
    moments: list[float] = []
    places: list[Path | str] = []
    for text in said:
        try:
            moments.append(moment(text))
        except ValueError as error:
            if "://" not in text and not os.path.lexists(text):
                raise click.UsageError(f"--from: {error}; nor is there such a file or folder") from error
            places.append(text if "://" in text else Path(text))
    if len(moments) > 1 or len(places) > 1:
        raise click.UsageError("--from may name one moment and one place")
    return next(iter(moments), None), next(iter(places), None)
