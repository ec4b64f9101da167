"""Retrospan, the flight recorder for resilient Python HTTP clients.

    import retrospan

    recorder = retrospan.configure(db="telemetry.sqlite")
    with retrospan.resolution("10.1000/182"), retrospan.attempt("direct_oa", "unpaywall"):
        ...

Importing it loads nothing else: each name comes when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retrospan.configuration import Recorder, configure
    from retrospan_instrumentation.api import attempt, download, head_skip, resolution, role

__all__ = ["Recorder", "attempt", "configure", "download", "head_skip", "resolution", "role"]

_HOMES = {"Recorder": "retrospan.configuration", "configure": "retrospan.configuration"}
_API = "retrospan_instrumentation.api"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES.get(name, _API)), name)
    return value
