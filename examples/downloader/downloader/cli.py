"""The command line: what is wanted in, PDFs and a manifest out, an exit code.

Exit codes: 0 all stored · 1 some missing · 2 usage · 130, 143 ended by Ctrl-C, SIGTERM (128 + signal).
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from .artifacts import Artifact, works_of
from .attempts import Resolution
from .manifest import NAME, Manifest
from .progress import progress
from .settings import Settings
from .stopping import Stopping
from .store import clear_leftovers

MODES = {"threads": "downloader.threaded", "asyncio": "downloader.aio"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    parser = _parser(os.environ)
    arguments = vars(parser.parse_args(argv))
    wanted = arguments.pop("wanted")
    if not wanted and sys.stdin.isatty():
        parser.error("no DOI, URL or file of them")
    settings = Settings(**arguments)
    try:
        works = works_of(_lines(wanted or ["-"]), settings.versions)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if not settings.email:
        print("downloader: no --email, so Unpaywall is not asked", file=sys.stderr)
    return _run(settings, works)


def _run(settings: Settings, works: list[list[Artifact]]) -> int:
    clear_leftovers(settings.out)
    with Stopping() as stopping, Manifest(settings.out) as manifest:
        todo = [[artifact for artifact in work if not manifest.has(artifact.artifact_id)] for work in works]
        total = sum(map(len, todo))
        with progress(total) as advance:

            def done(resolution: Resolution) -> None:
                manifest.write(resolution)
                advance()

            importlib.import_module(MODES[settings.mode]).run(settings, todo, done, stopping)
        counts = manifest.counts
        kept = sum(map(len, works)) - total
        print(
            f"downloader: {counts['stored']} stored ({counts['hardlink'] + counts['copy']} with known content), "
            f"{total - counts['stored']} missing, {kept} kept from before; see {settings.out / NAME}",
            file=sys.stderr,
        )
        if stopping.signum:
            return 128 + stopping.signum
        return 0 if counts["stored"] == total else 1


def _lines(wanted: Iterable[str]) -> list[str]:
    """The lines of every file (`-`: standard input) named, and every DOI or URL itself."""
    lines: list[str] = []
    for argument in wanted:
        if argument == "-":
            lines += sys.stdin
        elif Path(argument).is_file():
            lines += Path(argument).read_text().splitlines()
        else:
            lines.append(argument)
    return lines


def _parser(environ: Mapping[str, str]) -> argparse.ArgumentParser:
    """One option a setting; its default is its variable, if set."""
    parser = argparse.ArgumentParser(
        prog="downloader",
        description="Downloads open-access PDFs into a content-addressed store.",
        epilog="Every option is also an environment variable: --rate-metadata is DOWNLOADER_RATE_METADATA.",
    )
    parser.add_argument("wanted", nargs="*", help="DOIs, URLs, or files of them; standard input if none")
    for setting in fields(Settings):
        _add(parser, setting, environ.get(f"DOWNLOADER_{setting.name.upper()}"))
    return parser


def _add(parser: argparse.ArgumentParser, setting: Field[Any], from_environment: str | None) -> None:
    shown = ",".join(setting.default) if isinstance(setting.default, tuple) else setting.default
    parser.add_argument(
        f"--{setting.name.replace('_', '-')}",
        # argparse parses a default that is a string as if it had been typed, so a bad variable is a usage error too.
        default=setting.default if from_environment is None else from_environment,
        type=setting.metadata["parse"],
        metavar=setting.metadata["parse"].__name__.upper(),
        help=f"{setting.metadata['meaning']} (default: {shown if shown != '' else 'none'})",
    )
