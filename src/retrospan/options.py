"""Options that several commands share."""

from pathlib import Path

import click

db_option = click.option(
    "--db",
    type=click.Path(path_type=Path),
    envvar="RETROSPAN_DB",
    default="telemetry.sqlite",
    show_default=True,
    show_envvar=True,
    help="The record.",
)
