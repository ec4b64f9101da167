"""`retrospan slo lint` and `retrospan slo export`, and the option that names definition files.

retrospan slo lint slo.toml
retrospan slo export --format openslo --config slo.toml
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import click

from retrospan.slo.definitions import DEFAULTS, SLO

USAGE: Final = 2

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="slo.toml, or OpenSLO v1 (.yaml): overrides the built-in objectives and adds to them. May be given again.",
)


def objectives(files: Sequence[Path]) -> tuple[SLO, ...]:
    """The objectives of definition files over the built-in ones; warnings are told on stderr.

    Raises DefinitionError.
    """
    if not files:
        return tuple(DEFAULTS.values())
    from retrospan.slo.documents.load import load

    found = load(files)
    for warning in found.warnings:
        click.echo(f"retrospan: {warning}", err=True)
    return found.slos


@click.command()
@click.argument("files", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--db",
    type=click.Path(path_type=Path),
    help="Try the queries on the latest run of this record, which may have columns of its own.",
)
@click.pass_context
def lint(context: click.Context, files: tuple[Path, ...], db: Path | None) -> None:
    """Tell all that is wrong in definition files.

    A line a problem: file:line:column, how bad, the property, and what is near. Queries are tried, on no row unless
    --db names a record. Exit code 2 when there is an error, 0 when there are warnings at most.
    """
    from retrospan.slo.documents.load import compiled
    from retrospan.slo.documents.places import Problems
    from retrospan.slo.documents.trial import try_queries

    problems = Problems()
    slos = compiled(files, problems)
    try_queries(slos, problems, db)
    for problem in sorted(problems.found, key=lambda problem: problem.place):
        click.echo(str(problem))
    warnings = len(problems.found) - problems.errors
    click.echo(f"{len(slos)} objectives; errors: {problems.errors}, warnings: {warnings}")
    context.exit(USAGE if problems.errors else 0)


@click.command()
@click.option("--format", "form", type=click.Choice(["toml", "openslo"]), required=True, help="Form of the output.")
@config_option
def export(form: str, config: tuple[Path, ...]) -> None:
    """Write the objectives out: the built-in ones, with what definition files say of them and add.

    What is written can be read back, and then asks the same.
    """
    click.echo(_writer(form)(objectives(config)), nl=False)


def _writer(form: str) -> Callable[[Iterable[SLO]], str]:
    if form == "toml":
        from retrospan.slo.documents.write_toml import as_toml

        return as_toml
    from retrospan.slo.documents.write_openslo import as_openslo

    return as_openslo
