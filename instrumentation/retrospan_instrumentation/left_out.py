"""Which requests are not ours to record: excluded URLs, and code in which instrumentation is suppressed."""

import logging
import os
import re
from typing import Final

from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY, _SUPPRESS_INSTRUMENTATION_KEY, Context

_logger = logging.getLogger("retrospan")

SUPPRESS_HTTP: Final = _SUPPRESS_HTTP_INSTRUMENTATION_KEY
"""The standard key for suppressing HTTP instrumentation."""
# What it holds when we set it: true for the official instrumentation, wherever it sits, which leaves the request to us; told
# apart by us, since a transport may make requests of its own.
OURS: Final = "retrospan"
SHUNNED: Final = "retrospan: not this client"
_NOT_OTHERS = (None, False, OURS)
_SUPPRESS_OLD = "suppress_instrumentation"
SUPPRESSING = frozenset((SUPPRESS_HTTP, _SUPPRESS_INSTRUMENTATION_KEY, _SUPPRESS_OLD))


def excluded_urls(library: str) -> re.Pattern[str] | None:
    """The URLs that the environment leaves out, as OpenTelemetry has it: regular expressions, commas between."""
    own = f"OTEL_PYTHON_{library.upper()}_EXCLUDED_URLS"
    variable = own if own in os.environ else "OTEL_PYTHON_EXCLUDED_URLS"
    patterns = [pattern.strip() for pattern in os.environ.get(variable, "").split(",") if pattern.strip()]
    try:
        return re.compile("|".join(patterns)) if patterns else None
    except re.error:
        _logger.error("%s holds no list of regular expressions: no URL is left out.", variable)
        return None


def is_suppressed(context: Context) -> bool:
    """Whether somebody else, or a client that is to be left alone, has suppressed it here."""
    return not SUPPRESSING.isdisjoint(context) and (
        context.get(SUPPRESS_HTTP) not in _NOT_OTHERS
        or bool(context.get(_SUPPRESS_INSTRUMENTATION_KEY))
        or bool(context.get(_SUPPRESS_OLD))
    )
