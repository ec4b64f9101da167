"""`retrospan parquet` and `retrospan prune`: archive a record, and let go of what is archived.

    retrospan parquet --db telemetry.sqlite --out archive/
    retrospan prune --db telemetry.sqlite --older-than 30d --archive archive/

What was done goes to stdout; the progress bar, where stderr is a terminal, and everything else to stderr.
"""

import sys
import time
from contextlib import ExitStack
from pathlib import Path

import click

from retrospan.archive.export import Advance, export
from retrospan.archive.places import place_of
from retrospan.archive.pruning import prune as pruned
from retrospan.options import db_option, read_by
from retrospan.slo.windows import duration


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
    told = ", ".join(f"{rows:,} {table}" for table, rows in done.rows.items() if rows) or (
        "no new rows" if done.files else "nothing new"
    )
    if dry_run:
        click.echo(f"{place.name}: would get {told}")
    else:
        click.echo(f"{place.name}: {told}; {done.files:,} files written")
    if done.left_out:
        click.echo(f"retrospan: {db}: {done.left_out} rows without a run or a time left out", err=True)


@click.command()
@db_option
@click.option(
    "--older-than",
    "age",
    required=True,
    metavar="DURATION",
    callback=read_by(duration),
    help="Rows that ended so long ago go: 12h, 30d, 26w.",
)
@click.option("--archive", metavar="DIR|URL", help="Only what this archive holds of this very record goes.")
@click.option("--unarchived-too", is_flag=True, help="Whatever is old goes, whether an archive has it or not.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and delete nothing.")
def prune(db: Path, age: float, archive: str | None, unarchived_too: bool, dry_run: bool) -> None:
    """Delete old rows of a record that its archive holds, while writers write.

    The newest row of each table stays, and a run that is not complete keeps its place in the list of runs.
    """
    if archive is None and not unarchived_too:
        raise click.UsageError(
            "say --archive DIR, so that only what it holds goes; or --unarchived-too, for better or worse"
        )
    place = None if archive is None else place_of(archive)
    done = pruned(db, place, time.time() - age, unarchived_too=unarchived_too, dry_run=dry_run)
    told = ", ".join(f"{rows:,} {table}" for table, rows in done.rows.items() if rows) or "nothing"
    click.echo(
        f"{db}: {told} {'would go' if dry_run else f'gone, {done.runs:,} runs, {done.bytes:,} bytes given back'}"
    )
    if kept := done.kept.total():
        name = "" if place is None else place.name
        click.echo(
            f"retrospan: {db}: {kept:,} old rows stay, since {name} does not hold them: archive them first", err=True
        )
