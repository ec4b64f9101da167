"""Which rows are judged: those of one run, of several, or of a stretch of time whatever run they belong to.

    scope = Scope.of(run)                                   # one run
    scope = over(record, Span(moment("2026-11-01"), None))  # all rows since
    scope.bind(record)

A stretch [first, last) holds the rows whose `ts`, the end of what they record, lies in it. Without an offset a date is
UTC. A row that ended within belongs to it whole: an artifact that was tried before and after counts by what lies inside.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from retrospan.engines import Engine
from retrospan.record import RecordError
from retrospan.runs import Run, find, runs
from retrospan.slo.definitions import Window, WindowUnit

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MONTHS: Final[dict[WindowUnit, int]] = {"M": 1, "Q": 3, "Y": 12}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time [first, last) in seconds since 1970; None is open."""

    first: float | None = None
    last: float | None = None


EVER: Final = Span()


@dataclass(frozen=True, slots=True)
class Scope:
    """What is judged: the rows of `runs` alone, or with `every` those of any run, within a stretch of time if there is one."""

    runs: tuple[Run, ...] = ()
    span: Span = EVER
    every: bool = False

    @classmethod
    def of(cls, run: Run | None) -> "Scope":
        """One whole run; of none, no row."""
        return cls(() if run is None else (run,))

    @property
    def run(self) -> Run | None:
        """The one run that is judged whole, if it is one."""
        return self.runs[0] if len(self.runs) == 1 and not self.every and self.span == EVER else None

    @property
    def layers(self) -> frozenset[str] | None:
        """The layers that any of the runs entered; None when one of them does not say, or there is none."""
        known = [run.layers for run in self.runs]
        return None if not known or None in known else frozenset().union(*(layers for layers in known if layers))

    @property
    def provisional(self) -> bool:
        """Whether a run that is judged may still get rows."""
        return any(run.provisional for run in self.runs)

    def bounds(self) -> dict[str, object]:
        """What a query may ask for by name; None for what is open, or more than one."""
        run_id = self.runs[0].run_id if len(self.runs) == 1 and not self.every else None
        return {"run_id": run_id, "date_from": self.span.first, "date_to": self.span.last}

    def bind(self, record: Engine) -> None:
        """Let the names of the event tables mean these rows."""
        record.bind_where(lambda table: self._condition(record, table))

    def _condition(self, record: Engine, table: str) -> str:
        named = " OR ".join(f"({record.where(table, run.run_id)})" for run in self.runs) or "1 = 0"
        within = record.within(self.span.first, self.span.last)
        return within if self.every else f"({named}) AND {within}"


def named(record: Engine, wanted: Iterable[str], span: Span = EVER) -> Scope:
    """The runs of these ids, "latest" among them, each once. Raises RecordError for one that is not in the record."""
    found = (find(record, run_id) for run_id in wanted)
    return Scope(tuple({run.run_id: run for run in found if run is not None}.values()), span)


def over(record: Engine, span: Span, known: Iterable[Run] | None = None) -> Scope:
    """All rows of a stretch of time; its runs are those that were under way in it, the latest first.

    `known` are all runs of the record, where they have been listed already.
    """
    return Scope(
        tuple(run for run in (runs(record) if known is None else known) if _under_way(run, span)), span, every=True
    )


def _under_way(run: Run, span: Span) -> bool:
    starts_in_time = span.last is None or run.started_at is None or run.started_at < span.last
    return starts_in_time and (span.first is None or run.finished_at is None or run.finished_at >= span.first)


def duration(text: str) -> float:
    """Seconds of "90s", "30m", "12h", "7d" or "2w", or of several in a row. Raises ValueError for anything else."""
    parts = _DURATION.findall(text)
    if not parts or _DURATION.sub("", text).strip():
        raise ValueError(f"{text!r} is no duration: say 90s, 30m, 12h, 7d or 2w")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def moment(text: str) -> float:
    """Seconds since 1970 of an ISO 8601 date or date and time (UTC unless it says otherwise), or of such a number.

    Raises ValueError for anything else.
    """
    try:
        return float(text) if re.fullmatch(r"\d{9,10}(\.\d+)?", text) else _utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no moment: say 2026-11-24, 2026-11-24T18:00, 2026-11-24T18:00+01:00, or seconds since 1970"
        ) from None


def promised(window: Window, now: float) -> Span:
    """The stretch of time that an objective's window means at a moment: up to now, or the calendar's period around it.

    Raises RecordError for a time zone that this machine does not know, or a start that is no date.
    """
    if window.start is None:
        return Span(_begin_of_rolling(window, now), now)
    try:
        zone = ZoneInfo(window.time_zone or "UTC")
        origin = datetime.fromisoformat(window.start).replace(tzinfo=None)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise RecordError(
            f"window from {window.start} in {window.time_zone}: {type(error).__name__}: give an ISO date and time and an"
            " IANA time zone (install tzdata where the system has none)"
        ) from error
    here = datetime.fromtimestamp(now, zone).replace(tzinfo=None)
    first, last = _period(window, origin, here)
    return Span(first.replace(tzinfo=zone).timestamp(), last.replace(tzinfo=zone).timestamp())


def _utc(parsed: datetime) -> float:
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _begin_of_rolling(window: Window, now: float) -> float:
    if window.unit in _MONTHS:
        return _utc(_later(datetime.fromtimestamp(now, UTC), -window.count * _MONTHS[window.unit]))
    return now - window.count * _SECONDS[window.unit]


def _period(window: Window, origin: datetime, now: datetime) -> tuple[datetime, datetime]:
    """The period around `now`, of those that follow each other from `origin`, by the wall clock."""
    if window.unit in _MONTHS:
        step = window.count * _MONTHS[window.unit]
        place = ((now.year - origin.year) * 12 + now.month - origin.month) // step
        if _later(origin, place * step) > now:
            place -= 1
        return _later(origin, place * step), _later(origin, (place + 1) * step)
    length = timedelta(seconds=window.count * _SECONDS[window.unit])
    first = origin + (now - origin) // length * length
    return first, first + length


def _later(start: datetime, months: int) -> datetime:
    """The same day so many months later, or the month's last where it has no such day."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    after = datetime(year + (month == 11), (month + 1) % 12 + 1, 1)
    last_day = (after - timedelta(days=1)).day
    return start.replace(year=year, month=month + 1, day=min(start.day, last_day))
