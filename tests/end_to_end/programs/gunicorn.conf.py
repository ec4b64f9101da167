"""Configuration of gunicorn that tells of workers that take requests and signals, and of those that have ended.

Gunicorn loses a SIGTERM that a worker gets while it boots, and then waits half a minute before it kills it. Each line is one
write: an unbuffered `print` makes two, and several processes write here.
"""

import os
from typing import Any


def post_worker_init(worker: Any) -> None:
    os.write(2, b"+worker\n")


def child_exit(server: Any, worker: Any) -> None:
    os.write(2, b"-worker\n")
