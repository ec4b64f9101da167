"""`slo.toml`: what it says of the default objectives, and the objectives it adds.

    [slo.yield]
    min = "90%"

    [slo.head_p99]
    sql = "SELECT ts AS timestamp, elapsed_ms AS value, host FROM http_events WHERE method = 'HEAD'"
    p = 0.99
    max = "2s"

A table with none of `sql`, `sli`, `good`, `bad` and `total` is about the objective that has the name already.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, get_args

from retrospan.slo.definitions import (
    DEFAULTS,
    QUERY_SECONDS,
    SLI,
    SLO,
    Op,
    Query,
    Role,
    Statistic,
    TimeSlices,
    Unit,
    Window,
)
from retrospan.slo.documents import quantities
from retrospan.slo.documents.fields import Fields, text
from retrospan.slo.documents.places import Node, Problems, at_key, near

NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_]{0,58}[a-z0-9])?")

# How each key of a threshold compares, and which statistics it may be said of.
BOUNDS: Final[dict[str, Op]] = {"min": "gte", "max": "lte", "above": "gt", "below": "lt"}
STRICT: Final[frozenset[Statistic]] = frozenset({"percentile", "mean"})
UNITS: Final[dict[Statistic, Unit]] = {"share": "ratio", "count": "number", "worst_hour": "number"}
QUERIES: Final[dict[str, Role]] = {"sql": "events", "good": "good", "bad": "bad", "total": "total"}
INDICATORS: Final = {slo.sli.name: slo for slo in DEFAULTS.values()}
KEYS: Final = (
    "description", "enabled", *QUERIES, "sli", "statistic", "p", *BOUNDS,
    "window", "slices", "min_events", "max_unknown", "no_data", "timeout",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Off:
    """An objective that a file switches off."""

    name: str


def read(document: Node, before: Mapping[str, SLO], problems: Problems) -> list[SLO | Off]:
    """The objectives of a document, those of the same name `before` it taken as their ground."""
    root = Fields(document, problems, ("slo",))
    tables = root.get("slo")
    if tables is None:
        return []
    if not isinstance(tables.value, dict):
        problems.error(tables, "must be a table of objectives: write [slo.yield]")
        return []
    found: dict[str, SLO | Off] = {}
    for key, node in tables.value.items():
        name = key.replace("-", "_")
        reader = _Reader(name, node, before.get(name), before, problems)
        if not NAME.fullmatch(name):
            problems.error(at_key(node), "a name has at most 60 of a-z, 0-9 and _, and begins and ends with no _")
        elif name in found:
            problems.error(at_key(node), f"{name} stands in this file already (- equals _)")
        elif slo := reader.read():
            found[name] = slo
    return list(found.values())


def own_sli(*queries: Query) -> SLI:
    """The indicator of a file's queries; the same queries are the same indicator, whatever objectives ask of it."""
    return SLI("sql", None, (), "the query gave no event", queries=queries)


def settled(slo: SLO, node: Node, problems: Problems) -> SLO | None:
    """The objective as it is judged; None, and a problem, when no number of events could show its target met."""
    if slo.max_unknown == 1:
        slo = replace(slo, max_unknown=None)
    if slo.events_needed is None and slo.target == 1:
        problems.error(node, "no number of events can prove 100 %: say with min_events how many are enough")
        return None
    if slo.target != 1 and replace(slo, events_needed=None).min_events == slo.events_needed:
        return replace(slo, events_needed=None)
    return slo


class _Reader:
    """One table."""

    def __init__(self, name: str, node: Node, base: SLO | None, before: Mapping[str, SLO], problems: Problems) -> None:
        self._name = name
        self._node = node
        self._base = base
        self._before = before
        self._problems = problems
        self._fields = Fields(node, problems, KEYS)
        self._sources = [key for key in ("sli", *QUERIES) if key in self._fields]
        self._errors = problems.errors
        self._queries = self._own_queries()
        if self._fields.flag("enabled") is not False:
            problems.to_try(*self._queries)

    def read(self) -> SLO | Off | None:
        """The objective; None when there are problems with it."""
        slo = self._slo()
        if slo is None or self._problems.errors > self._errors:
            return None
        return Off(self._name) if self._fields.flag("enabled") is False else settled(slo, self._node, self._problems)

    def _slo(self) -> SLO | None:
        fields = self._fields
        ground = self._ground()
        if ground is None:
            return None
        slo = self._threshold(self._statistic(ground))
        place = self._node.key or self._node.place
        return replace(
            slo,
            description=slo.description if "description" not in fields else fields.text("description") or "",
            window=self._window() or slo.window,
            slices=self._slices() or slo.slices,
            events_needed=fields.count("min_events") or slo.events_needed,
            max_unknown=slo.max_unknown if "max_unknown" not in fields else self._share("max_unknown"),
            no_data=fields.choice("no_data", ("fail", "warn")) or slo.no_data,  # type: ignore[arg-type]  # one of the two
            default=False,
            file=place.file,
            line=place.line,
            column=place.column,
        )

    def _ground(self) -> SLO | None:
        """What the table builds on: the objective of its name, a built-in indicator, or its queries."""
        fields, problems, sources = self._fields, self._problems, self._sources
        if "timeout" in fields and sources in ([], ["sli"]):
            problems.error(at_key(fields.get("timeout") or self._node), "is for queries of one's own")
        if not sources:
            if self._base is None:
                names = near(self._name, self._before)
                problems.error(
                    at_key(self._node), f"no objective has this name: give it sql, good and total, or sli; {names}"
                )
            return self._base
        if sources == ["sli"]:
            known = fields.choice("sli", INDICATORS)
            return None if known is None else replace(INDICATORS[known], name=self._name, description="", quantile=None)
        if tuple(sources) not in (("sql",), ("good", "total"), ("bad", "total")):
            problems.error(
                self._node,
                f"{', '.join(sources)} do not make an indicator: give sql, or good and total, or bad and total",
            )
            return None
        sli = own_sli(*self._queries)
        # With bad and total the values are 1 for bad events, so that their share has a most.
        op: Op = "lte" if sources == ["bad", "total"] else "gte"
        statistic: Statistic = "mean" if sources == ["sql"] else "share"
        return SLO(self._name, "", sli, statistic, op, Fraction(0), unit="number" if sources == ["sql"] else "ratio")

    def _own_queries(self) -> list[Query]:
        """Those that are texts."""
        given = [(role, node) for key, role in QUERIES.items() if (node := self._fields.get(key)) is not None]
        seconds = quantities.duration(self._fields.get("timeout"), self._problems) if given else None
        return [
            Query(role, sql, seconds or QUERY_SECONDS, node.place.file, node.place.line, node.place.column, node.path)
            for role, node in given
            if (sql := text(node, self._problems)) is not None
        ]

    def _statistic(self, slo: SLO) -> SLO:
        fields, problems = self._fields, self._problems
        named = fields.choice("statistic", get_args(Statistic))
        guessed: Statistic = "percentile" if "p" in fields else slo.statistic
        statistic: Statistic = guessed if named is None else named  # type: ignore[assignment]  # one of them
        at = fields.get("statistic") or fields.get("p") or self._node
        if statistic != slo.statistic and not self._sources:
            said = f'{self._name} is a {slo.statistic}: to make another of it, give sli = "{slo.sli.name}", or its sql'
            problems.error(at_key(at), said)
        elif statistic != slo.statistic and len(slo.sli.queries) > 1:
            problems.error(at_key(at), "good and total make a share")
        elif statistic != "percentile" and "p" in fields:
            problems.error(at_key(fields.get("p") or self._node), "is for a percentile")
        elif statistic != "percentile":
            return replace(slo, statistic=statistic, quantile=None)
        elif "p" in fields or slo.quantile is None:
            exact = fields.number("p")
            if exact is not None and 0 <= exact <= 1:
                return replace(slo, statistic=statistic, quantile=exact)
            problems.error(fields.get("p") or self._node, "a percentile has a p from 0 to 1, as p = 0.95")
        return slo

    def _threshold(self, slo: SLO) -> SLO:
        fields, problems = self._fields, self._problems
        given = [key for key in BOUNDS if key in fields]
        if not given:
            if self._sources:
                problems.error(self._node, "lacks a threshold: give min or max")
            return _counted(slo, "p" in fields)
        node = fields.get(given[0]) or self._node
        if len(given) > 1:
            problems.error(at_key(node), f"{' and '.join(given)} cannot both be: each is an objective of its own")
        op = BOUNDS[given[0]]
        if (said := _unfit(slo, op, fixed=not self._sources or len(slo.sli.queries) > 1)) is not None:
            problems.error(at_key(node), said)
            return slo
        found = quantities.amount(node, problems)
        if found is None:
            return slo
        value, unit = found
        allowed = self._unit(slo, unit)
        if allowed is None:
            problems.error(node, f"must be {_WRITTEN[UNITS.get(slo.statistic, slo.unit)]}")
            return slo
        if allowed == "ratio" and slo.statistic != "percentile":
            share = quantities.share(node, problems)
            return slo if share is None else replace(slo, op=op, threshold=share, unit=allowed)
        return _counted(replace(slo, op=op, threshold=value, unit=allowed), "p" in fields)

    def _unit(self, slo: SLO, unit: Unit | None) -> Unit | None:
        """The unit of a threshold; None when it cannot be that of the statistic."""
        fixed = UNITS.get(slo.statistic)
        if fixed is not None:
            return fixed if unit in (None, fixed) else None
        if self._sources not in ([], ["sli"]):
            return unit or "number"
        return slo.unit if unit in (None, slo.unit) else None

    def _share(self, key: str) -> Fraction | None:
        return quantities.share(self._fields.get(key), self._problems)

    def _window(self) -> Window | None:
        node = self._fields.get("window")
        if node is None:
            return None
        if not isinstance(node.value, dict):
            said = text(node, self._problems)
            return None if said is None else quantities.window(node, said, self._problems)
        fields = Fields(node, self._problems, ("duration", "start", "time_zone"))
        fields.need("duration")
        said = fields.text("duration")
        window = None if said is None else quantities.window(node, said, self._problems)
        start, zone = fields.text("start"), fields.text("time_zone")
        if window is None or (start is None and zone is None):
            return window
        if start is None:
            self._problems.error(node, "lacks start: a calendar's window has one")
            return None
        return quantities.calendar(node, window.count, window.unit, start, zone or "UTC", self._problems)

    def _slices(self) -> TimeSlices | None:
        node = self._fields.get("slices")
        if node is None:
            return None
        fields = Fields(node, self._problems, ("length", "target"))
        fields.need("length")
        seconds = quantities.duration(fields.get("length"), self._problems)
        target = quantities.share(fields.get("target"), self._problems)
        return None if seconds is None else TimeSlices(seconds, target)


_WRITTEN: Final[dict[Unit, str]] = {
    "ratio": "a percentage, or a number from 0 to 1",
    "ms": "a time, as 20s, or a number of milliseconds",
    "number": "a number without a unit",
}


def _unfit(slo: SLO, op: Op, *, fixed: bool) -> str | None:
    """Why a statistic cannot be compared that way, its direction `fixed` or not; None when it can."""
    if op in ("gt", "lt") and slo.statistic not in STRICT:
        return f"a {slo.statistic} takes min or max"
    if slo.statistic in ("count", "worst_hour") and op != "lte":
        return f"a {slo.statistic} takes max"
    if fixed and (op in ("lte", "lt")) is not slo.upper:
        return f"takes {'max' if slo.upper else 'min'}: more of it is {'worse' if slo.upper else 'better'}"
    return None


def _counted(slo: SLO, given: bool) -> SLO:
    """The share of values that must keep the threshold of a percentile p: p below it, or 1 - p above."""
    if given and slo.quantile is not None and not slo.upper:
        return replace(slo, quantile=1 - slo.quantile)
    return slo
