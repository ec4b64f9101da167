"""Loopback servers for the downloader: see `python -m origin --help`."""

from __future__ import annotations

import argparse
from pathlib import Path

from .plan import Plan
from .server import serve


def main() -> None:
    parser = argparse.ArgumentParser(prog="origin", description="Loopback services that misbehave by plan.")
    parser.add_argument("--artifacts", type=int, default=300, help="how many there are, rounded up to whole works")
    parser.add_argument("--seed", type=int, default=7, help="who misbehaves")
    parser.add_argument("--log", type=Path, required=True, help="access log (JSON lines), appended to")
    parser.add_argument("--ready", type=Path, help="file that gets the downloader's environment when all listen")
    parser.add_argument("--list", type=Path, dest="dois", help="file that gets the DOIs of all works")
    arguments = parser.parse_args()
    serve(Plan(arguments.artifacts, arguments.seed), log=arguments.log, ready=arguments.ready, dois=arguments.dois)


if __name__ == "__main__":
    main()
