"""Spans of the official instrumentations are rows from the first day, by the names they have now and by the old ones."""

import hashlib
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from origin import Answer, Origin

from .support import LAUNCHER, environment, read

PROGRAM = Path(__file__).with_name("programs") / "official.py"
# Each library's host, and what it raises where nobody listens.
LIBRARIES = {
    "127.0.0.2": "ConnectionError",  # requests
    "127.0.0.3": "NewConnectionError",  # urllib3
    "127.0.0.4": "ClientConnectorError",  # aiohttp
    "127.0.0.5": "ConnectError",  # httpx
}
NOBODY = "http://HOST:1/refused?key=planted"


def hashed(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:16]


@pytest.mark.parametrize("opt_in", ["", "http", "http/dup"], ids=["old names", "new names", "both"])
def test_every_request_of_an_official_instrumentation_is_one_row(tmp_path: Path, opt_in: str) -> None:
    record, expected = tmp_path / "telemetry.sqlite", []
    with ExitStack() as stack:
        origins = [stack.enter_context(Origin(host)) for host in LIBRARIES]
        for origin in origins:
            expected += [
                (origin.host, "GET", 200, None, hashed(origin.script("/found", Answer(200)) + "?key=planted")),
                (origin.host, "GET", 404, None, hashed(origin.script("/missing", Answer(404)))),
                (origin.host, "GET", None, LIBRARIES[origin.host], hashed(NOBODY.replace("HOST", origin.host))),
            ]
        subprocess.run(
            [LAUNCHER, sys.executable, PROGRAM, *(origin.url("") for origin in origins), NOBODY],
            env=environment(
                record,
                OTEL_SEMCONV_STABILITY_OPT_IN=opt_in,
                OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="retrospan-httpx, retrospan-httpx2",
            ),
            capture_output=True,
            timeout=50,
            check=True,
        )
        asked = [(logged.host, logged.status, logged.span_id) for origin in origins for logged in origin.log]
    assert read(record, "SELECT host, method, status, error, url_hash FROM http_events ORDER BY id") == expected
    # The rows are the requests that the servers saw, each by the span that its traceparent named.
    rows = read(
        record, "SELECT host, status, lower(hex(span_id)) FROM http_events WHERE status IS NOT NULL ORDER BY id"
    )
    assert rows == asked
    assert b"planted" not in record.read_bytes()
