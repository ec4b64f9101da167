"""Configuration of gunicorn that tells of workers that take requests and signals, and of those that have ended.

Gunicorn loses a SIGTERM that a worker gets while it boots, and then waits half a minute before it kills it.
"""

import sys
from typing import Any


def post_worker_init(worker: Any) -> None:
    print("+worker", file=sys.stderr, flush=True)


def child_exit(server: Any, worker: Any) -> None:
    print("-worker", file=sys.stderr, flush=True)
