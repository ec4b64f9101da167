"""`retrospan metrics`: the metrics of one or several records for Prometheus, beside the programs that write them.

    retrospan metrics --db telemetry.sqlite --port 9108

Runs until SIGTERM, which ends it with 0.
"""

import math
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from retrospan.slo.documents.commands import config_option, objectives
from retrospan_exporters.settings import DB, DEFAULT_DB, record_path

if TYPE_CHECKING:
    from retrospan.prometheus.server import Server

# With the classes of status, or the outcomes of attempts, so many stay within what the SDK tells apart.
_MOST_HOSTS: Final = 230
_SWITCH_SECONDS: Final = 0.0005


class _Seconds(click.FloatRange):
    """A number of seconds; a range alone lets through what is no number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, within its range."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is no number", param, ctx)
        return seconds


@click.command()
@click.option(
    "--db",
    "records",
    multiple=True,
    metavar="PATH",
    help=f"A record, or a glob of records. May be given again. [default: {DB}, else {DEFAULT_DB}]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(1, 65535), default=9108, show_default=True, help="Port to listen on.")
@click.option(
    "--poll",
    type=_Seconds(0.1, 3600),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks for new rows.",
)
@click.option("--run", "run_id", metavar="ID", help="Show this run alone, however long ago it ended.")
@click.option(
    "--keep",
    type=_Seconds(0, 86400),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the series of a run stay that has ended.",
)
@click.option(
    "--max-hosts",
    type=click.IntRange(1, _MOST_HOSTS),
    default=200,
    show_default=True,
    help="So many hosts, and sources, are told apart; all others are `other`.",
)
@config_option
def metrics(
    records: tuple[str, ...],
    host: str,
    port: int,
    poll: float,
    run_id: str | None,
    keep: float,
    max_hosts: int,
    config: tuple[Path, ...],
) -> None:
    """Serve the metrics of records to Prometheus."""
    from retrospan.prometheus.sidecar import Sidecar
    from retrospan.prometheus.watch import Terms

    # A scrape needs the interpreter a few times, and shall not wait 5 ms each time while a page is rendered.
    sys.setswitchinterval(_SWITCH_SECONDS)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    terms = Terms(objectives(config), run_id, keep)
    sidecar = Sidecar(records or (record_path(),), terms, poll=poll, most_hosts=max_hosts)
    sidecar.check()
    server = _listening(host, port, sidecar)
    sidecar.start()
    server.start()
    click.echo(f"retrospan: serving http://{_authority(host, port)}/metrics", err=True)
    try:
        stop.wait()
    finally:
        server.shutdown()
        server.server_close()
        sidecar.stop()


def _listening(host: str, port: int, sidecar: Any) -> "Server":
    from retrospan.prometheus.server import Server

    try:
        return Server(host, port, sidecar.page, sidecar.is_fresh)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "no such address"
        raise click.UsageError(
            f"{_authority(host, port)} cannot be listened on ({why}): say --host or --port"
        ) from error


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
