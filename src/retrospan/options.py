"""Options that several commands share."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from retrospan.text import printable
from retrospan_exporters.settings import DB, DEFAULT_DB

Read = Callable[[click.Context, click.Parameter, str | None], float | None]


class Source(click.ParamType):  # type: ignore[type-arg]  # a generic from click 8.2 on
    """A path, or a URL as it is."""

    name = "path"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        """A Path, unless it is a URL, whose slashes a Path would change."""
        return value if isinstance(value, str) and "://" in value else Path(value)


_db = partial(click.option, "--db", envvar=DB, default=DEFAULT_DB, show_default=True, show_envvar=True)
db_option = _db(type=click.Path(path_type=Path), help="The record.")
source_option = _db(type=Source(), help="The record; or an archive's folder or URL, or clickhouse://HOST/DATABASE.")


def spoken(source: Path | str) -> str:
    """What a source is called in messages: a URL without the user and password that it may hold."""
    scheme, is_url, rest = str(source).partition("://")
    return printable(f"{scheme}://{rest.rpartition('@')[2]}") if is_url else str(source)


def read_by(read: Callable[[str], float]) -> Read:
    """A callback that reads a text, or says that it is wrong usage where the function raises ValueError."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        try:
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from error

    return callback
