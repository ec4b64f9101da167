"""`retrospan run`: start a program recorded, pass its exit code and signals through, sum the run up, judge it.

    retrospan run --db telemetry.sqlite --slo slo.toml -- python downloader.py

The parent begins the run and ends it, so a program that is killed outright still gets its summary, and whatever processes
it starts belong to the same run.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from retrospan.options import db_option
from retrospan.record import RecordError

if TYPE_CHECKING:
    from retrospan.slo.definitions import SLO

_BUILT_IN: Final = ""
_DEFINITIONS: Final = (".toml", ".yaml", ".yml")
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_FORWARDED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")


@click.command(context_settings={"allow_interspersed_args": False})
@db_option
@click.option("--run-id", metavar="ID", help="Id of the run; made unless given.")
@click.option(
    "--slo",
    is_flag=False,
    flag_value=_BUILT_IN,
    multiple=True,
    metavar="[FILE]",
    help="Print the verdict when the program has ended, and exit with its code. A next word that ends in .toml, .yaml or"
    " .yml is a file of objectives; may be given again.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [ARGUMENT]...")
@click.pass_context
def run(context: click.Context, db: Path, run_id: str | None, slo: tuple[str, ...], command: tuple[str, ...]) -> None:
    """Run a program and record it.

    COMMAND is started as `opentelemetry-instrument` would start it. Signals are passed on to it. Exit code: the program's
    when that is not 0 (128 + n when signal n ended it), else with --slo the verdict's; 126 and 127 when the program cannot
    be started. The verdict is told on stderr, since stdout is the program's.
    """
    from retrospan_instrumentation.hooks import is_disabled

    files, command = _apart(slo, command)
    if not command:
        raise click.UsageError("Missing argument 'COMMAND'.", context)
    if is_disabled():
        context.exit(_run(command, os.environ))
    slos = _objectives(files) if slo else ()
    if which(command[0]) is None:
        context.exit(_run(command, os.environ))  # it says why it cannot be started, and no run begins
    ending = _Ending(db, run_id, command)
    code = _run(command, ending.environment())
    try:
        ending.sum_up()
        context.exit(code or (ending.judge(slos) if slo else 0))
    except RecordError as error:
        if not code:
            raise
        click.echo(f"retrospan: {error}", err=True)
        context.exit(code)


def _apart(given: Sequence[str], command: tuple[str, ...]) -> tuple[list[Path], tuple[str, ...]]:
    """The files that --slo names, and the command: its first word, when --slo took that for its own."""
    files = [Path(word) for word in given if word.endswith(_DEFINITIONS)]
    return files, (*(word for word in given if word and not word.endswith(_DEFINITIONS)), *command)


def _objectives(files: Sequence[Path]) -> tuple["SLO", ...]:
    from retrospan.slo.documents.commands import objectives

    return objectives(files)


class _Ending:
    """The run, from the parent's side: begun before the program starts, summed up and judged after."""

    def __init__(self, db: Path, run_id: str | None, command: Sequence[str]) -> None:
        from retrospan_exporters.database import Database, Refused, advice
        from retrospan_exporters.run import Run

        self._run = Run(run_id, command)
        self._database = Database(db)
        try:
            with self._database.transaction() as connection:
                self._run.begin(connection)
            self._database.release()
        except (Refused, OSError) as error:
            raise RecordError(f"{db}: {advice(error)}") from error
        except Exception as error:
            raise RecordError(f"{db}: cannot be written: {advice(error)}") from error

    def environment(self) -> dict[str, str]:
        """The program's environment: the launcher's hook on the path, this record, this run."""
        from retrospan_exporters.run import RUN_ID
        from retrospan_exporters.settings import DB

        return {**_launched(os.environ), DB: self._database.path, RUN_ID: self._run.id}

    def sum_up(self) -> None:
        """Write the summary."""
        from retrospan.summary import summarize

        summarize(self._database.path, self._run.id, finished_at=time.time())

    def judge(self, slos: Sequence["SLO"]) -> int:
        """Tell the verdict by these objectives; its exit code."""
        from retrospan.slo.gate import judge_run
        from retrospan.slo.output import FORMATS

        report = judge_run(self._database.path, self._run.id, slos=slos)
        if report.run is not None and report.run.caveat:
            click.echo(f"retrospan: {report.run.caveat}", err=True)
        click.echo(FORMATS["text"](report), err=True)
        return report.exit_code


def _launched(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which a Python program starts instrumented, as `opentelemetry-instrument` makes it."""
    from retrospan import environment_variables  # noqa: F401  # chooses our distro, in os.environ

    spec = find_spec("opentelemetry.instrumentation.auto_instrumentation")
    if spec is None or spec.origin is None:
        raise RecordError("opentelemetry-instrumentation is not installed: install retrospan again")
    hook = str(Path(spec.origin).parent)
    path = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != hook]
    here = str(Path.cwd())
    path = [hook, *([] if here in path else [here]), *path]
    return {**environment, **os.environ, "PYTHONPATH": os.pathsep.join(path)}


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the program to its end; its exit code as a shell gives it."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        # What is typed at a terminal reaches the whole foreground group by itself.
        if number == signal.SIGINT and _is_in_foreground():
            return
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    before: dict[int, Any] = {}
    for name in _FORWARDED:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, forward)
    try:
        child = subprocess.Popen(command, env=environment)
        for number in early:
            child.send_signal(number)
        code = child.wait()
    except FileNotFoundError:
        click.echo(f"retrospan: {command[0]}: no such program", err=True)
        return NOT_FOUND
    except OSError as error:
        click.echo(f"retrospan: {command[0]}: cannot be started: {error.strerror}", err=True)
        return NOT_EXECUTABLE
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def _is_in_foreground() -> bool:
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) == os.getpgrp()
    except (OSError, ValueError, AttributeError):
        return False
