"""`make demo`: the downloader against misbehaving servers on loopback, recorded and judged, in one command.

    python examples/downloader/demo.py --artifacts 350 --out demo-out

Starts `origin`, runs the downloader under `opentelemetry-instrument` with nothing set but where the record goes, and prints
what came of it. The exit code is 0 whatever the verdict; Ctrl-C and SIGTERM reach the downloader, and the record is kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
TABLES = ("http_events", "rate_events", "breaker_transitions", "fallback_attempts", "downloads", "run_summary")
# What the threaded variant, which holds no line of telemetry, is told from outside.
ZERO_CODE = {
    "RETROSPAN_FALLBACK": "downloader.orchestrator:FallbackOrchestrator",
    "RETROSPAN_DOWNLOAD": "downloader.store:store",
}
ORIGIN_SECONDS = 20.0
READY = "origin.env"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--artifacts", type=int, default=350)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--mode", choices=("asyncio", "threads"), default="asyncio")
    parser.add_argument("--client", choices=("httpx2", "httpx"), default="httpx2")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    wanted = parser.parse_args()
    out: Path = wanted.out.absolute()
    if (out / READY).exists():  # what an earlier demo left, and nothing else
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    record = out / "telemetry.sqlite"
    with origin(out, wanted.artifacts, wanted.seed) as addresses:
        environment = {**os.environ, **addresses, "RETROSPAN_DB": str(record)}
        if wanted.mode == "threads":
            environment.update(ZERO_CODE)
        options = ["--mode", wanted.mode, "--client", wanted.client, "--out", out / "papers"]
        launcher = [BIN / "opentelemetry-instrument", sys.executable, "-m", "downloader", out / "dois.txt"]
        run([*launcher, *options], environment)
    print(f"\nrecord: {wanted.out / record.name}")
    with closing(sqlite3.connect(record)) as connection:
        for table in TABLES:
            print(f"  {table:20} {connection.execute(f'SELECT COUNT(*) FROM {table}').fetchone()[0]:6} rows")
    print(flush=True)
    subprocess.run([BIN / "retrospan", "slo", "--db", record], check=False)


@contextmanager
def origin(out: Path, artifacts: int, seed: int) -> Iterator[dict[str, str]]:
    """The servers, while they run; yields the downloader's environment."""
    ready = out / READY
    files = {"--log": out / "access.jsonl", "--ready": ready, "--list": out / "dois.txt"}
    options = [str(part) for option in files.items() for part in option]
    command = [sys.executable, "-m", "origin", "--artifacts", str(artifacts), "--seed", str(seed), *options]
    # Of its own session, so that Ctrl-C ends the downloader and not what it talks to.
    servers = subprocess.Popen(command, cwd=HERE, start_new_session=True)
    try:
        deadline = time.monotonic() + ORIGIN_SECONDS
        while not ready.exists():
            if servers.poll() is not None or time.monotonic() > deadline:
                sys.exit("the origin servers did not start")
            time.sleep(0.02)
        yield dict(line.split("=", 1) for line in ready.read_text().splitlines())
    finally:
        servers.terminate()
        servers.wait()


def run(command: list[str | Path], environment: dict[str, str]) -> None:
    """Run the downloader to its end, whoever ends it."""
    downloader = subprocess.Popen(command, cwd=HERE, env=environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells the downloader itself
    signal.signal(signal.SIGTERM, lambda number, frame: downloader.send_signal(number))
    downloader.wait()


if __name__ == "__main__":
    main()
