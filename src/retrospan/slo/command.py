"""`retrospan slo`: judge one run of a record; and its subcommands, about the files that say by what.

    retrospan slo --db telemetry.sqlite --run latest --format json
    retrospan slo lint slo.toml

The result goes to stdout, everything else to stderr.
"""

from pathlib import Path

import click
from click.core import ParameterSource

from retrospan.options import source_option
from retrospan.slo.choosing import choice_options
from retrospan.slo.delivery import deliver, form_of
from retrospan.slo.disk import Disk
from retrospan.slo.documents.commands import config_option, export, lint, objectives
from retrospan.slo.explain import explain
from retrospan.slo.gate import PREVIOUS, Choice, Terms, judge
from retrospan.slo.output import FORMATS
from retrospan.slo.rules.command import rules
from retrospan.slo.suggest import suggest
from retrospan.slo.verdicts import Verdict
from retrospan.slo.windows import EVER


@click.group(invoke_without_command=True)
@source_option
@config_option
@choice_options
@click.option(
    "--format", "form", type=click.Choice(list(FORMATS)), default="text", show_default=True, help="Form of the output."
)
@click.option(
    "--output",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="Write the report there too, in the form its ending says: .json, .xml (JUnit), .md, .txt. May be given again.",
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
@click.option(
    "--baseline",
    metavar="RUN|FILE.json",
    help=f"Compare with a run of the record ({PREVIOUS}: the one before), or with a report that was kept as JSON.",
)
@click.option("--fail-on-regression", is_flag=True, help="Exit code 1 when anything is worse than the baseline.")
@click.option("--verify", type=click.Choice(["disk"]), help="Hash the stored files again; what differs is corruption.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="Where the stored files' relative paths begin (default: here).",
)
@click.pass_context
def slo(
    context: click.Context,
    db: Path | str,
    config: tuple[Path, ...],
    choice: Choice,
    form: str,
    files: tuple[Path, ...],
    no_data: str,
    insufficient: str,
    baseline: str | None,
    fail_on_regression: bool,
    verify: str | None,
    root: Path,
) -> None:
    """Judge a run by its SLOs.

    Without --run, --since, --from and --to an objective that has a window of its own is judged over that, the others by
    the latest run.

    Exit code 0: all pass. 1: one failed. 2: wrong usage, record or run, or an objective in error. 3: no data, or too
    few.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context, context.invoked_subcommand)
        return
    if fail_on_regression and baseline is None:
        raise click.UsageError("--fail-on-regression needs a --baseline to compare with")
    for file in files:
        form_of(file)
    policies: dict[Verdict, str] = {"no_data": no_data, "insufficient": insufficient}
    tolerated = frozenset(verdict for verdict, policy in policies.items() if policy == "warn")
    terms = Terms(tolerated, None if verify is None else Disk(root), baseline, fail_on_regression)
    report = judge(db, choice, objectives(config), terms)
    if not report.scope.runs:
        click.echo(f"retrospan: {db}: the record holds no run {_there(choice)}: nothing to judge", err=True)
    for run in report.scope.runs:
        if run.caveat:
            click.echo(f"retrospan: {db}: {run.caveat}", err=True)
    deliver(report, form, files)
    context.exit(report.exit_code)


def _refuse_options(context: click.Context, subcommand: str) -> None:
    """An option before a subcommand would be for nothing, without a word."""
    for option in context.command.params:
        if context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE:
            said = option.opts[0]
            raise click.UsageError(f"{said} belongs after {subcommand}: retrospan slo {subcommand} {said} ...", context)


def _there(choice: Choice) -> str:
    return "yet" if choice.span == EVER else "in that time"


slo.add_command(lint)
slo.add_command(export)
slo.add_command(explain)
slo.add_command(suggest)
slo.add_command(rules)
