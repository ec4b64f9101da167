"""`retrospan engines`: what an engine has to be told once, before it is asked.

retrospan engines ddl clickhouse --database otel | clickhouse-client --multiquery
"""

import click

from retrospan.engines.views import views


@click.group()
def engines() -> None:
    """Prepare an engine of a fleet."""


@engines.command()
@click.argument("engine", type=click.Choice(["clickhouse"]))
@click.option(
    "--database", default="otel", show_default=True, help="Where the Collector's table is, and the views will be."
)
@click.option("--table", default="otel_traces", show_default=True, help="The Collector's table of spans.")
def ddl(engine: str, database: str, table: str) -> None:
    """Print the views that make a record's tables of a Collector's spans."""
    click.echo({"clickhouse": views}[engine](database, table), nl=False)
