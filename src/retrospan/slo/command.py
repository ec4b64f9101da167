"""`retrospan slo`: judge one run of a record; and its subcommands, about the files that say by what.

    retrospan slo --db telemetry.sqlite --run latest --format json
    retrospan slo lint slo.toml

The result goes to stdout, everything else to stderr.
"""

from pathlib import Path

import click

from retrospan.options import db_option
from retrospan.runs import LATEST
from retrospan.slo.documents.commands import config_option, export, lint, objectives
from retrospan.slo.gate import judge_run
from retrospan.slo.output import FORMATS
from retrospan.slo.verdicts import Verdict


@click.group(invoke_without_command=True)
@db_option
@config_option
@click.option("--run", "run_id", default=LATEST, show_default=True, metavar="ID", help="Run to judge, or latest.")
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="text", show_default=True, help="Form of the output."
)
@click.option(
    "--no-data",
    type=click.Choice(["fail", "warn"]),
    default="fail",
    show_default=True,
    help="What an objective without data does: exit code 3, or only a line.",
)
@click.option(
    "--insufficient",
    type=click.Choice(["fail", "warn"]),
    default="fail",
    show_default=True,
    help="What an objective with too few events does: exit code 3, or only a line.",
)
@click.pass_context
def slo(
    context: click.Context, db: Path, config: tuple[Path, ...], run_id: str, form: str, no_data: str, insufficient: str
) -> None:
    """Judge a run by its SLOs.

    Exit code 0: all pass. 1: one failed. 2: wrong usage, record or run, or an objective in error. 3: no data, or too
    few.
    """
    if context.invoked_subcommand is not None:
        return
    policies: dict[Verdict, str] = {"no_data": no_data, "insufficient": insufficient}
    tolerated = {verdict for verdict, policy in policies.items() if policy == "warn"}
    report = judge_run(db, run_id, slos=objectives(config), tolerated=tolerated)
    if report.run is None:
        click.echo(f"retrospan: {db}: the record holds no run yet: nothing to judge", err=True)
    if report.run is not None or form != "text":
        click.echo(FORMATS[form](report))
    context.exit(report.exit_code)


slo.add_command(lint)
slo.add_command(export)
