"""The commands that make new files of rows that are there: `retrospan import`, `retrospan merge`."""

from pathlib import Path

import click

from retrospan.importing import import_lines
from retrospan.merging import merge as merge_records
from retrospan.text import printable
from retrospan_exporters.tables import EVENT_TABLES


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option(
    "--db", required=True, metavar="OUT", type=click.Path(path_type=Path), help="The record to make: a new file."
)
@click.option("--skip-bad-lines", is_flag=True, help="Leave out lines that are no row, instead of making nothing.")
def import_(files: tuple[Path, ...], db: Path, skip_bad_lines: bool) -> None:
    """Make a record of the lines that the exporter `jsonl` wrote.

    Lines that are no row are named on stderr, as FILE:LINE; then exit code 2, and nothing is made.
    """
    done = import_lines(files, db, lambda line: click.echo(f"retrospan: {line}", err=True), skip_bad=skip_bad_lines)
    left_out = f", {done.bad} lines left out" if done.bad else ""
    click.echo(f"{db}: {done.rows.total()} rows of {_runs(done.runs)}{left_out}")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("records", nargs=-1, required=True, metavar="RECORD…", type=click.Path(path_type=Path))
def merge(out: Path, records: tuple[Path, ...]) -> None:
    """Make one record of several.

    Runs stay apart: of two with the same id the later one's goes on as ID.2, which is told on stderr.
    """
    merged = merge_records(out, records, lambda line: click.echo(f"retrospan: {line}", err=True))
    left_out = f", {merged.left_out} rows without a run or a time left out" if merged.left_out else ""
    rows = sum(merged.rows[table.name] for table in EVENT_TABLES)
    click.echo(f"{out}: {rows} rows of {_runs(sorted(merged.runs))} from {len(records)} records{left_out}")


def _runs(ids: list[str]) -> str:
    return f"run {printable(ids[0])}" if len(ids) == 1 else f"{len(ids)} runs"
