"""Loaded by `opentelemetry-instrument` before it starts the program: makes ours the distro, whichever others are installed.

Without it the first one in a directory listing would be taken. A choice of the user's stands.
"""

import os

if os.environ.get("RETROSPAN_DISABLED", "").strip().lower() not in ("1", "true"):
    os.environ.setdefault("OTEL_PYTHON_DISTRO", "retrospan")
