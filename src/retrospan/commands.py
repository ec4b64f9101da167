"""The commands about a record itself: `retrospan runs`, `summarize`, `optimize` and `ddl`."""

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from retrospan import runs as listing
from retrospan.engines import read
from retrospan.optimizing import optimize as optimize_record
from retrospan.options import db_option, source_option
from retrospan.record import RecordError
from retrospan.summary import summarize as summarize_run
from retrospan.text import printable, table
from retrospan_exporters import tables


@click.command()
@source_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of the output.",
)
def runs(db: Path | str, form: str) -> None:
    """List the runs of a record, the latest first.

    A run is finished, live, killed (its process is gone), or unknown when its process cannot be asked after from here.
    """
    found = read(db, listing.runs)
    if form == "json":
        click.echo(json.dumps([_fields(run) for run in found], indent=2, allow_nan=False))
    elif found:
        click.echo(
            table(("RUN", "STATE", "STARTED (UTC)", "SECONDS", "COMMAND", "HOST"), [_cells(run) for run in found])
        )
    else:
        click.echo(f"retrospan: {db}: the record holds no run yet", err=True)


@click.command()
@db_option
@click.option(
    "--run", "run_id", default=listing.LATEST, show_default=True, metavar="ID", help="Run to sum up, or latest."
)
def summarize(db: Path, run_id: str) -> None:
    """Write the summary of a run that was killed before it could."""
    run = read(db, lambda record: listing.find(record, run_id))
    if run is None:
        raise RecordError(f"{db}: the record holds no run yet: nothing to sum up")
    if run.state == "live":
        raise RecordError(
            f"{db}: run {printable(run.run_id)} is still live (process {run.owner_process_id}): it sums itself up at its end"
        )
    inserted = summarize_run(db, run.run_id)
    click.echo(f"run {printable(run.run_id)}: {'summary written' if inserted else 'had its summary already'}")


@click.command()
@db_option
@click.option("--drop", is_flag=True, help="Take the index away again.")
@click.option("--force", is_flag=True, help="Even while a run is live, whose writing it slows down.")
def optimize(db: Path, drop: bool, force: bool) -> None:
    """Give a finished record an index for looking traces up.

    Says what it costs, in bytes of the record and in seconds.
    """
    cost = optimize_record(db, drop=drop, force=force)
    change = "given back" if drop else "taken by the index"
    click.echo(f"{db}: {abs(cost.bytes):,} bytes {change}, in {cost.seconds:.2f} s")


@click.command()
@click.argument("engine", type=click.Choice(["sqlite"]))
def ddl(engine: str) -> None:
    """Print the schema of a record."""
    click.echo({"sqlite": tables.ddl}[engine](), nl=False)


def _fields(run: listing.Run) -> dict[str, object]:
    return asdict(run) | {"layers": None if run.layers is None else sorted(run.layers)}


def _cells(run: listing.Run) -> tuple[str, ...]:
    seconds = None if run.started_at is None or run.finished_at is None else run.finished_at - run.started_at
    return (
        printable(run.run_id),
        run.state,
        "-" if run.started_at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(run.started_at)),
        "-" if seconds is None else f"{seconds:.1f}",
        printable(run.command or "-"),
        printable(run.host_name or "-"),
    )
