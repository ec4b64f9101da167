"""`retrospan slo rules`: recording rules and alerts for Prometheus.

retrospan slo rules --config slo.toml > rules.yml
"""

from pathlib import Path

import click

from retrospan.options import read_by
from retrospan.slo.documents.commands import USAGE, config_option, objectives
from retrospan.slo.windows import duration


def _period(text: str) -> float:
    seconds = duration(text)
    if seconds % 60 or not seconds:
        raise ValueError(f"{text!r} is no time of whole minutes")
    return seconds


@click.command()
@config_option
@click.option(
    "--period",
    default="30d",
    show_default=True,
    metavar="DURATION",
    callback=read_by(_period),
    help="What objectives without a window of their own are promised for.",
)
@click.pass_context
def rules(context: click.Context, config: tuple[Path, ...], period: float) -> None:
    """Write recording rules and alerts for Prometheus.

    They go with the counters of `retrospan metrics`: multi-window burn rates for objectives with a target, after the SRE
    workbook, or what an OpenSLO file's alert policies say; plain limits for counts. Start the sidecar with the same
    --config. An objective that no series tells of is left out, which is said on stderr and in the file. Exit code 2 when
    nothing is left.
    """
    from retrospan.slo.rules.alerts import rules_for

    made = rules_for(objectives(config), int(period))
    for name, reason in made.omitted:
        click.echo(f"retrospan: {name}: no rule: {reason}", err=True)
    if not made.alerts:
        click.echo("retrospan: no series tells of any of the objectives: no rules were written", err=True)
        context.exit(USAGE)
    click.echo(made.text(), nl=False)
