"""Loaded by `opentelemetry-instrument` before it starts the program: makes ours the distro, whichever others are installed.

Without it the first one in a directory listing would be taken. A choice of the user's stands. Switched off, ours is the distro
that sets nothing.
"""

import os

os.environ.setdefault("OTEL_PYTHON_DISTRO", "retrospan")
