"""`retrospan parquet`: archive a record.

    retrospan parquet --db telemetry.sqlite --out archive/

What was done goes to stdout; the progress bar, where stderr is a terminal, and everything else to stderr.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

import click

from retrospan.archive.export import Advance, export
from retrospan.archive.places import place_of
from retrospan.options import db_option


@click.command()
@db_option
@click.option(
    "--out",
    required=True,
    metavar="DIR|URL",
    help="The archive: a folder, or what fsspec reaches, as s3://bucket/archive.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be archived, and change nothing.")
def parquet(db: Path, out: str, dry_run: bool) -> None:
    """Bring what is new of a record into its Parquet archive.

    May be repeated and killed at any time: no row is archived twice, and none is missed.
    """
    with ExitStack() as stack:

        def begin(total: int) -> Advance:
            bar = click.progressbar(length=total, label="archiving", file=sys.stderr, hidden=not sys.stderr.isatty())
            return stack.enter_context(bar).update

        place = place_of(out)
        done = export(db, place, dry_run=dry_run, begin=begin)
    told = ", ".join(f"{rows:,} {table}" for table, rows in done.rows.items() if rows) or "nothing new"
    if dry_run:
        click.echo(f"{place.name}: would get {told}")
    else:
        click.echo(f"{place.name}: {told}; {done.files:,} files written")
    if done.left_out:
        click.echo(f"retrospan: {db}: {done.left_out} rows without a run or a time left out", err=True)
