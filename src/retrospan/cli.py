"""The `retrospan` command: a table of subcommands, each imported only when it is called.

    retrospan slo --db telemetry.sqlite --run latest

What a command does stands in the room it belongs to; here stand its name, where it is, and a line of help.
"""

import sys
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

USAGE: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141


class Entry(NamedTuple):
    """Where a command is ("module:attribute"), and what it does in a line."""

    target: str
    help: str


COMMANDS: Final = {
    "run": Entry("retrospan.launch:run", "Run a program and record it."),
    "slo": Entry("retrospan.slo.command:slo", "Judge a run by its SLOs."),
    "trend": Entry("retrospan.slo.trend:trend", "Show how one objective went, day by day or week by week."),
    "metrics": Entry("retrospan.prometheus.command:metrics", "Serve the metrics of records to Prometheus."),
    "dashboard": Entry("retrospan.dashboard.command:dashboard", "Write a dashboard for Grafana."),
    "runs": Entry("retrospan.commands:runs", "List the runs of a record, the latest first."),
    "summarize": Entry("retrospan.commands:summarize", "Write the summary of a run that was killed before it could."),
    "import": Entry("retrospan.files:import_", "Make a record of the lines that the exporter `jsonl` wrote."),
    "merge": Entry("retrospan.files:merge", "Make one record of several."),
    "parquet": Entry("retrospan.archive.command:parquet", "Bring what is new of a record into its Parquet archive."),
    "prune": Entry(
        "retrospan.archive.command:prune", "Delete old rows of a record that its archive holds, while writers write."
    ),
    "engines": Entry("retrospan.engines.command:engines", "Prepare an engine of a fleet."),
    "optimize": Entry("retrospan.commands:optimize", "Give a finished record an index for looking traces up."),
    "ddl": Entry("retrospan.commands:ddl", "Print the schema of a record."),
}


class Failure(click.ClickException):
    """What went wrong, in a line each on stderr; never exit code 1, which says that an SLO failed."""

    exit_code = USAGE

    def show(self, file: Any = None) -> None:
        """Print the lines."""
        for line in self.format_message().splitlines():
            click.echo(f"retrospan: {line}", file=file, err=True)


class LazyGroup(click.Group):
    """A group whose help and command line need none of its commands."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name].target.split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table into the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command; what cannot be read is told in a line."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from retrospan.record import RecordError
            from retrospan.slo.documents.places import DefinitionError

            if isinstance(error, (RecordError, DefinitionError)):
                raise Failure(str(error)) from error
            raise


def _version(ctx: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        click.echo(f"retrospan {version('retrospan')}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def cli() -> None:
    """The flight recorder for resilient Python HTTP clients."""


def _fault(error: Exception) -> int:
    """Tell of a fault of our own in a line that a bug report can quote."""
    from traceback import extract_tb

    place = extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())
    click.echo(
        f"retrospan: a fault of its own: {type(error).__name__} in {place.name}, line {place.lineno}: {said}", err=True
    )
    return USAGE


def _unwritten(error: OSError) -> int:
    click.echo(f"retrospan: the output cannot be written: {error.strerror or type(error).__name__}", err=True)
    return USAGE


def main() -> None:
    """Run the command line and exit: with the command's code, 2 for wrong usage or a fault, 130 when interrupted, and 141,
    as of SIGPIPE, when whoever reads the output has gone."""
    try:
        code = cli.main(prog_name="retrospan", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = INTERRUPTED
    except SystemExit:  # click's own, of a broken pipe; with 1, which would say that an SLO failed
        code = BROKEN_PIPE
    except OSError as error:
        # Whoever opens a file says its name; without one it is the output that could not be written.
        code = _fault(error) if error.filename is not None else _unwritten(error)
    except Exception as error:
        code = _fault(error)
    sys.exit(code)
