"""The options that say which rows are judged, for every command that judges.

@choice_options
def command(choice: Choice): ...
"""

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import click

from retrospan.runs import LATEST
from retrospan.slo.gate import Choice
from retrospan.slo.windows import Span, duration, moment

Read = Callable[[click.Context, click.Parameter, str | None], float | None]


def read_by(read: Callable[[str], float]) -> Read:
    """A callback that reads a text, or says that it is wrong usage where the function raises ValueError."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback


_OPTIONS: Final = (
    click.option(
        "--run",
        "run_ids",
        multiple=True,
        metavar="ID",
        help=f"Run to judge, or {LATEST} (the default). May be given again: their rows are judged together.",
    ),
    click.option(
        "--since",
        metavar="DURATION",
        callback=read_by(duration),
        help="Judge the rows of the last 90s, 30m, 12h, 7d or 2w.",
    ),
    click.option(
        "--from",
        "first",
        metavar="MOMENT",
        callback=read_by(moment),
        help="Judge rows from this date and time (UTC) on.",
    ),
    click.option(
        "--to", "last", metavar="MOMENT", callback=read_by(moment), help="Judge rows before this date and time (UTC)."
    ),
)


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options, and what they say as `choice`."""

    @wraps(command)
    def chosen(
        *args: Any,
        run_ids: tuple[str, ...],
        since: float | None,
        first: float | None,
        last: float | None,
        **kwargs: Any,
    ) -> Any:
        now = time.time()
        if since is not None and (first is not None or last is not None):
            raise click.UsageError("--since already says from when to when: leave --from and --to out")
        if since is not None:
            first = now - since
        if first is not None and last is not None and first >= last:
            raise click.UsageError("--from must lie before --to")
        return command(*args, choice=Choice(run_ids, Span(first, last), now), **kwargs)

    for option in reversed(_OPTIONS):
        chosen = option(chosen)
    return chosen
