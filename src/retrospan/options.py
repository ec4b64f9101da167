"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path

import click

Read = Callable[[click.Context, click.Parameter, str | None], float | None]

db_option = click.option(
    "--db",
    type=click.Path(path_type=Path),
    envvar="RETROSPAN_DB",
    default="telemetry.sqlite",
    show_default=True,
    show_envvar=True,
    help="The record.",
)


def read_by(read: Callable[[str], float]) -> Read:
    """A callback that reads a text, or says that it is wrong usage where the function raises ValueError."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback
