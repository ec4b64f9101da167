"""The metrics endpoint of a watched process: `OTEL_METRICS_EXPORTER=prometheus`, which costs the process nothing else.

    with endpoint.asked_for() as is_asked:      # the SDK's configurator does not see `prometheus` in here
        super()._configure(**kwargs)
    if is_asked:
        endpoint.serve(metrics.get_meter_provider())

The stock endpoint ends the whole start when its port is taken; this one is then missing, with one warning. It shows what
the stock one shows, the program's own `prometheus_client` metrics among it, without labels of the instrumentation's scope.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.environment_variables import OTEL_METRICS_EXPORTER
from opentelemetry.sdk.environment_variables import OTEL_EXPORTER_PROMETHEUS_HOST, OTEL_EXPORTER_PROMETHEUS_PORT

if TYPE_CHECKING:
    from retrospan.prometheus.server import Page, Server

NAME: Final = "prometheus"
HOST: Final = "localhost"
PORT: Final = "9464"
_NONE: Final = "none"
_LAST_PORT: Final = 65535

_logger = getLogger("retrospan")


@contextmanager
def asked_for() -> Iterator[bool]:
    """Whether OTEL_METRICS_EXPORTER names `prometheus`; inside, it does not."""
    asked = os.environ.get(OTEL_METRICS_EXPORTER)
    names = [name.strip() for name in (asked or "").split(",")]
    if asked is None or NAME not in names:
        yield False
        return
    os.environ[OTEL_METRICS_EXPORTER] = ",".join(name for name in names if name and name != NAME) or _NONE
    try:
        yield True
    finally:
        os.environ[OTEL_METRICS_EXPORTER] = asked


def serve(provider: Any) -> "Server | None":
    """Serve the metrics of a meter provider of the SDK where the standard variables say.

    None, after one warning, when they cannot be served there.
    """
    try:
        if not hasattr(provider, "add_metric_reader"):
            raise _Unusable("another library has set a meter provider that takes no reader")
        server = _open()
    except _Unusable as error:
        _logger.warning("The metrics endpoint cannot be opened: %s. This process has none.", error)
        return None
    _listen(provider)
    server.keep_out_of_children()
    server.start()
    return server


class _Unusable(Exception):
    """Why there is no endpoint, and what to do."""


def _open() -> "Server":
    # Late: a process that is asked for no metrics shall not pay for an HTTP server's import.
    from retrospan.prometheus.server import Server

    host = os.environ.get(OTEL_EXPORTER_PROMETHEUS_HOST) or HOST
    port = os.environ.get(OTEL_EXPORTER_PROMETHEUS_PORT) or PORT
    if not port.isdecimal() or not 1 <= int(port) <= _LAST_PORT:
        raise _Unusable(
            f"{OTEL_EXPORTER_PROMETHEUS_PORT}={port!r} is no port, which is a number from 1 to {_LAST_PORT}"
        )
    try:
        return Server(host, int(port), _render)
    except (socket.gaierror, UnicodeError) as error:
        raise _Unusable(f"{OTEL_EXPORTER_PROMETHEUS_HOST}={host!r} is no address of this machine") from error
    except OSError as error:
        raise _Unusable(
            f"{host}:{port}: {error.strerror} (another process of this program may have it; else set"
            f" {OTEL_EXPORTER_PROMETHEUS_HOST} or {OTEL_EXPORTER_PROMETHEUS_PORT})"
        ) from error


def _listen(provider: Any) -> None:
    """Have the registry that `_render` reads ask the provider."""
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    provider.add_metric_reader(PrometheusMetricReader(scope_info_enabled=False))


def _render() -> "Page":
    from prometheus_client import generate_latest

    from retrospan.prometheus.server import Page

    return Page(generate_latest())
