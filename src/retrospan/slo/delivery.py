"""Where a report goes: stdout, files beside it, and the step summary of a GitHub job.

deliver(report, "text", [Path("report.xml"), Path("report.json")])
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from retrospan.record import RecordError
from retrospan.slo.gate import Report
from retrospan.slo.output import FORMATS

# What a file's ending says of its form.
ENDINGS: Final = {".json": "json", ".xml": "junit", ".md": "markdown", ".txt": "text"}
STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"


def deliver(report: Report, form: str, files: Sequence[Path] = ()) -> None:
    """Write the report to stdout in one form, and to files in the form that their ending says.

    Raises RecordError for a file that cannot be written, or an ending that says no form.
    """
    for file in files:
        _write(file, FORMATS[form_of(file)](report))
    told = FORMATS[form](report)
    if form == "text":
        from retrospan.slo.output.plain import Style, tell

        told = tell(report, Style.of(sys.stdout))
    if told:
        click.echo(told)
    if form == "github" and os.environ.get(STEP_SUMMARY):
        _append(Path(os.environ[STEP_SUMMARY]), FORMATS["markdown"](report))


def form_of(file: Path) -> str:
    """The form that a file's ending says. Raises RecordError for another."""
    form = ENDINGS.get(file.suffix.lower())
    if form is None:
        raise RecordError(f"{file}: its ending says no form: use {', '.join(ENDINGS)}")
    return form


def _write(file: Path, text: str) -> None:
    """The whole file or, when it cannot be written, what was there before."""
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        try:
            unfinished.write_text(f"{text}\n", encoding="utf-8")
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise RecordError(f"{file}: cannot be written: {error.strerror}") from error


def _append(file: Path, text: str) -> None:
    try:
        with file.open("a", encoding="utf-8") as stream:
            stream.write(f"{text}\n")
    except OSError as error:
        raise RecordError(f"{file}: the step summary cannot be written: {error.strerror}") from error
