"""Thresholds, durations and windows as people write them, and back.

    amount(node, problems)                # "85%" -> 17/20, "ratio"; "20s" -> 20000, "ms"; 12 -> 12, None
    span("5m")                            # 300 seconds
    written(Fraction(20000), "ms")        # "20s"

Everything is exact: a threshold is the decimal number that was written.
"""

import re
from dataclasses import replace
from fractions import Fraction
from typing import Final, get_args

from retrospan.slo.definitions import UNIT_SECONDS, Unit, Window, WindowUnit
from retrospan.slo.documents.fields import number
from retrospan.slo.documents.places import Node, Problems
from retrospan.slo.documents.places import number as exact_number

MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
# The units of a fixed length.
SECONDS: Final[dict[str, int]] = {unit: seconds for unit, seconds in UNIT_SECONDS.items() if unit in "mhdw"}
WINDOW_UNITS: Final[tuple[str, ...]] = get_args(WindowUnit)

_UNITS: Final[dict[str, tuple[Fraction, Unit | None]]] = {
    "": (Fraction(1), None),
    "%": (Fraction(1, 100), "ratio"),
    **{name: (Fraction(ms), "ms") for name, ms in MS.items()},
}
_MOST_SECONDS: Final = 36_500 * UNIT_SECONDS["d"]
_AMOUNT: Final = re.compile(r"([-+]?[0-9][0-9_]*(?:\.[0-9]+)?(?:e[-+]?[0-9]{1,3})?)\s*(%|[a-z]*)")
_SHORTHAND: Final = re.compile(r"([1-9][0-9]{0,8})([a-zA-Z]+)")


def amount(node: Node, problems: Problems) -> tuple[Fraction, Unit | None] | None:
    """A threshold and the unit that it names; None, and a problem, when it is none."""
    if not isinstance(node.value, str):
        plain = number(node, problems)
        return None if plain is None else (plain, None)
    found = _AMOUNT.fullmatch(node.value.strip())
    value = exact_number(found[1]) if found else None
    if found is None or value is None or isinstance(value, float):
        problems.error(node, f"{node.value!r} is no amount: write a number, a percentage (85%) or a time (20s)")
        return None
    scale, unit = _UNITS.get(found[2], (None, None))
    if scale is None:
        problems.error(node, f"{found[2]!r} is no unit: known are %, {', '.join(MS)}")
        return None
    # Within a float's range once more, now that the unit is in it.
    exact = number(replace(node, value=Fraction(value) * scale), problems)
    return None if exact is None else (exact, unit)


def share(node: Node | None, problems: Problems) -> Fraction | None:
    """A share of 1: a percentage, or a number from 0 to 1."""
    found = None if node is None else amount(node, problems)
    if node is None or found is None:
        return None
    value, unit = found
    if unit not in ("ratio", None):
        problems.error(node, "must be a percentage, or a number from 0 to 1")
    elif not 0 <= value <= 1:
        meant = f": did you mean {decimal(value)}%?" if unit is None and 1 < value <= 100 else ""
        problems.error(node, f"must be from 0 to 1, or 0% to 100%{meant}")
    else:
        return value
    return None


def duration(node: Node | None, problems: Problems) -> int | None:
    """A length of time in whole seconds: a number of them, or a text with its unit."""
    found = None if node is None else amount(node, problems)
    if node is None or found is None:
        return None
    value, unit = found
    seconds = value / 1000 if unit == "ms" else value
    if unit == "ratio" or seconds.denominator != 1 or not 1 <= seconds <= 366 * SECONDS["d"]:
        problems.error(node, "must be a time of whole seconds, at least one and at most a year")
        return None
    return seconds.numerator


def shorthand(node: Node, text: str, problems: Problems) -> tuple[int, WindowUnit] | None:
    """OpenSLO's duration: a whole number and one of m, h, d, w, M, Q, Y."""
    found = _SHORTHAND.fullmatch(text)
    if found is None or found[2] not in WINDOW_UNITS:
        problems.error(
            node, f"{text!r} is no duration: write a whole number and one of {', '.join(WINDOW_UNITS)}, as 28d"
        )
        return None
    unit: WindowUnit = found[2]  # type: ignore[assignment]  # one of them, as was seen
    if int(found[1]) * UNIT_SECONDS[unit] > _MOST_SECONDS:
        problems.error(node, f"{text!r} is longer than a hundred years")
        return None
    return int(found[1]), unit


def window(node: Node, text: str, problems: Problems) -> Window | None:
    """A rolling window of a duration."""
    found = shorthand(node, text, problems)
    return None if found is None else Window(*found)


def calendar(node: Node, count: int, unit: WindowUnit, start: str, zone: str, problems: Problems) -> Window | None:
    """A calendar's window, its start and zone checked."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    try:
        begin = datetime.fromisoformat(start)
    except ValueError:
        problems.error(node, f"{start!r} is no date and time: write 2026-01-01 00:00:00")
        return None
    if begin.tzinfo is not None:
        problems.error(node, "its start has an offset: say the zone by its name beside it")
        return None
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        problems.error(node, f"{zone!r} is no time zone: write its IANA name, as Europe/Berlin")
        return None
    return Window(count, unit, begin.isoformat(), zone)


def decimal(value: Fraction) -> str:
    """The number as a decimal, exactly. Raises ValueError for one that has no end."""
    if value.denominator == 1:
        return str(value.numerator)
    places, rest = 0, value.denominator
    while rest % 10 == 0:
        places, rest = places + 1, rest // 10
    for factor in (2, 5):
        while rest % factor == 0:
            places, rest = places + 1, rest // factor
    if rest != 1:
        raise ValueError(f"{value} has no end as a decimal")
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    shown = f"{digits[:-places]}.{digits[-places:]}".rstrip("0")
    return f"-{shown}" if value < 0 else shown


def written(value: Fraction, unit: Unit) -> str:
    """A threshold as `amount` reads it back: in percent, in the largest unit of time that keeps it whole, or plain."""
    if unit == "ratio":
        return f"{decimal(value * 100)}%"
    if unit == "ms":
        name = next((name for name, ms in reversed(MS.items()) if value and value % ms == 0), "ms")
        return f"{decimal(value / MS[name])}{name}"
    return decimal(value)
