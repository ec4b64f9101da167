"""The forms in which a report is told: for people, for programs, for CI. Nothing is judged here.

    FORMATS["junit"](report)

Each form has a module of its own, imported when it is asked for; what they say alike stands in `wording`.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

from retrospan.slo.gate import Report

Form = Callable[[Report], str]


def _form(module: str) -> Form:
    def tell(report: Report) -> str:
        return cast("Form", import_module(f"{__name__}.{module}").tell)(report)

    return tell


FORMATS: Final[dict[str, Form]] = {
    "text": _form("plain"),
    "json": _form("fields"),
    "junit": _form("junit"),
    "github": _form("github"),
    "markdown": _form("markdown"),
}
