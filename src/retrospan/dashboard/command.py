"""`retrospan dashboard`: a dashboard for Grafana.

retrospan dashboard --config slo.toml > dashboard.json
"""

from pathlib import Path

import click

from retrospan.slo.documents.commands import config_option, objectives


@click.command()
@config_option
def dashboard(config: tuple[Path, ...]) -> None:
    """Write a dashboard for Grafana.

    It goes with `retrospan metrics`: verdicts and error budgets of the objectives, tiers, hosts, limiters and breakers.
    Needs the extra `dashboard`: pip install 'retrospan[dashboard]'.
    """
    slos = objectives(config)
    try:
        from retrospan.dashboard.panels import as_json
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "grafana_foundation_sdk":
            raise
        raise click.UsageError("grafana-foundation-sdk is not installed: pip install 'retrospan[dashboard]'") from error
    click.echo(as_json(slos), nl=False)
