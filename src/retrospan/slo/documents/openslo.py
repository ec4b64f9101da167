"""OpenSLO v1's SLOs, each of its objectives compiled to one of ours.

    slos = compile_slo(objects, objects.add(node))

A ratio is a share of events, a raw ratio the mean of values, and a threshold metric a percentile: "the share of values
up to t is at least q" is exactly "the nearest-rank q-quantile is at most t". What our model has and OpenSLO has no word
for stands in annotations `retrospan.dev/...`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Final, TypeVar

from retrospan.slo.definitions import SLO, Op, Policy, Statistic, TimeSlices, Unit, Window
from retrospan.slo.documents import quantities
from retrospan.slo.documents.fields import Fields, number
from retrospan.slo.documents.openslo_alerts import compile_policies
from retrospan.slo.documents.openslo_objects import OPS, PREFIX, Object, Objects
from retrospan.slo.documents.openslo_sli import Indicator, compile_sli
from retrospan.slo.documents.places import Node, Problems, at_key, near
from retrospan.slo.documents.places import number as exact_number
from retrospan.slo.documents.slo_toml import INDICATORS, NAME, settled

Word = TypeVar("Word")

METHODS: Final = ("Occurrences", "Timeslices", "RatioTimeslices")
STATISTICS: Final[dict[str, Statistic]] = {"worst-hour": "worst_hour", "count-bad": "count", "mean": "mean"}
UNITS: Final[dict[str, Unit]] = {"ratio": "ratio", "ms": "ms", "count": "number", "number": "number"}
POLICIES: Final[dict[str, Policy]] = {"fail": "fail", "warn": "warn"}

_OBJECTIVE: Final = (
    "displayName", "op", "value", "target", "targetPercent", "timeSliceTarget", "timeSliceWindow",
    "indicator", "indicatorRef", "compositeWeight",
)  # fmt: skip
_INDICATORS: Final = {"indicator", "indicatorRef"}


def compile_slo(objects: Objects, one: Object) -> list[SLO]:
    """The objectives of an SLO; those with problems are left out, and the problems told.

    Several are named after the SLO and their place in it, from 1.
    """
    return _Compiler(objects, one).slos()


class _Compiler:
    """One SLO."""

    def __init__(self, objects: Objects, one: Object) -> None:
        self._objects = objects
        self._problems = objects.problems
        self._one = one
        self._spec = one.spec
        self._name = re.sub(r"[^a-z0-9]", "_", one.name.lower())
        self._notes = Annotations(one, self._problems)

    def slos(self) -> list[SLO]:
        """Its objectives."""
        spec = self._spec
        spec.text("service")
        alerts = [one for node in spec.items("alertPolicies") for one in compile_policies(self._objects, node)]
        window, method, nodes = self._window(), self._method(), spec.items("objectives")
        if not nodes and "objectives" in spec:
            self._problems.error(spec.get("objectives") or self._one.node, "must hold an objective")
        is_named = NAME.fullmatch(self._name)
        if not is_named:
            self._problems.error(
                self._one.node, "its name must begin and end with a-z or 0-9, and have at most 60 characters"
            )
        own = (isinstance(node.value, dict) and _INDICATORS & node.value.keys() for node in nodes)
        if not _INDICATORS & spec.keys() and not all(own):
            self._problems.error(spec.node, "lacks indicator or indicatorRef")
        shared = self._indicator(spec)
        if shared is not None and shared.op is None and len(nodes) > 1:
            self._problems.warning(spec.get("objectives") or spec.node, "a thresholdMetric has one objective")
        found = []
        for n, node in enumerate(nodes, start=1):
            slo = self._objective(node, self._name if len(nodes) == 1 else f"{self._name}_{n}", shared, method)
            if slo is not None:
                found.append(replace(slo, window=window, alerts=tuple(alerts)))
        return found if is_named else []

    def _objective(self, node: Node, name: str, shared: Indicator | None, method: str) -> SLO | None:
        errors = self._problems.errors
        fields = Fields(node, self._problems, _OBJECTIVE, strict=False)
        if "compositeWeight" in fields:
            said = "is left out: each objective is judged by itself"
            self._problems.warning(fields.get("compositeWeight") or node, said)
        indicator = self._indicator(fields) if _INDICATORS & fields.keys() else shared
        target, slices = self._target(fields), self._slices(fields, method)
        if indicator is None or target is None:
            return None
        slo = (
            self._values(fields, indicator, target) if indicator.op is None else self._ratio(fields, indicator, target)
        )
        if slo is None or self._problems.errors > errors:
            return None
        titles = [self._spec.text("description") or self._one.title]
        if name != self._name:
            titles.append(fields.text("displayName") or "")
        return settled(
            replace(self._notes.applied(slo), name=name, description=" / ".join(filter(None, titles)), slices=slices),
            node,
            self._problems,
        )

    def _ratio(self, fields: Fields, indicator: Indicator, target: Fraction) -> SLO:
        for key in ("op", "value"):
            if key in fields:
                self._problems.warning(
                    at_key(fields.get(key) or fields.node), "is only for a thresholdMetric: left out"
                )
        assert indicator.op is not None, "the values of a ratio stand for good or bad events"
        threshold = target if indicator.op == "gte" else 1 - target
        return self._slo(fields, indicator, indicator.statistic, indicator.op, threshold)

    def _values(self, fields: Fields, indicator: Indicator, target: Fraction) -> SLO | None:
        statistic = self._notes.statistic()
        most = self._notes.number("max")
        if statistic in ("worst_hour", "count"):
            if most is None:
                self._problems.error(self._one.node, f"the annotation statistic needs {PREFIX}max beside it")
                return None
            return self._slo(fields, indicator, statistic, "lte", most, unit="number")
        for key in ("op", "value"):
            fields.need(key)
        op, value = fields.choice("op", OPS), fields.number("value")
        if op is None or value is None:
            return None
        default = INDICATORS.get(indicator.sli.name)
        said = self._notes.unit()
        # The values of a built-in indicator are what they are.
        unit = (said or "number") if default is None or indicator.sli.queries else default.unit
        if said not in (None, unit):
            self._problems.warning(self._one.node, f"the values of {indicator.sli.name} are of unit {unit}: left out")
        if statistic == "mean":
            if unit == "ratio" and not 0 <= value <= 1:
                self._problems.error(fields.get("value") or fields.node, "the mean of ratios is from 0 to 1")
            return self._slo(fields, indicator, "mean", OPS[op], value, unit=unit)
        shown = self._notes.share("show-percentile")
        if shown is not None and shown != target:
            self._problems.warning(self._one.node, "the annotation show-percentile is not the target: left out")
        return self._slo(fields, indicator, "percentile", OPS[op], value, target, unit)

    def _slo(
        self,
        fields: Fields,
        indicator: Indicator,
        statistic: Statistic,
        op: Op,
        threshold: Fraction,
        quantile: Fraction | None = None,
        unit: Unit = "ratio",
    ) -> SLO:
        place = fields.node.place
        return SLO(
            self._name,
            "",
            indicator.sli,
            statistic,
            op,
            threshold,
            quantile,
            unit=unit,
            file=place.file,
            line=place.line,
            column=place.column,
        )

    def _indicator(self, fields: Fields) -> Indicator | None:
        inline, reference = fields.get("indicator"), fields.get("indicatorRef")
        if inline is not None and reference is not None:
            self._problems.error(at_key(reference), "cannot be beside indicator")
            return None
        if reference is not None:
            found = self._objects.find("SLI", reference)
            return None if found is None else compile_sli(self._objects, found.spec)
        if inline is None:
            return None
        held = Fields(inline, self._problems, ("metadata", "spec"), strict=False)
        if "metadata" not in held and isinstance(inline.value, dict):
            self._problems.warning(inline, "lacks metadata")
        node = held.need("spec")
        known = ("description", "ratioMetric", "thresholdMetric")
        spec = None if node is None else Fields(node, self._problems, known, strict=False)
        return None if spec is None else compile_sli(self._objects, spec)

    def _target(self, fields: Fields) -> Fraction | None:
        given = [key for key in ("target", "targetPercent") if key in fields]
        if len(given) != 1:
            self._problems.error(fields.node, "must have one of target and targetPercent")
            return None
        value = fields.number(given[0])
        if value is None:
            return None
        target = value if given == ["target"] else value / 100
        node = fields.get(given[0]) or fields.node
        if not 0 <= target <= 1:
            most = "1" if given == ["target"] else "100"
            self._problems.error(node, f"must be at least 0 and less than {most}")
            return None
        if target == 1:
            self._problems.warning(node, "OpenSLO has targets below 100 %")
        return target

    def _method(self) -> str:
        node = self._spec.get("budgetingMethod")
        if node is None:
            self._problems.warning(self._spec.node, "lacks budgetingMethod: Occurrences is meant")
            return METHODS[0]
        by_name = {method.lower(): method for method in METHODS}
        if isinstance(node.value, str) and node.value not in METHODS and node.value.lower() in by_name:
            self._problems.warning(node, f"is written {by_name[node.value.lower()]}")
            return by_name[node.value.lower()]
        return self._spec.choice("budgetingMethod", METHODS) or METHODS[0]

    def _slices(self, fields: Fields, method: str) -> TimeSlices | None:
        if method == "Occurrences":
            for key in ("timeSliceTarget", "timeSliceWindow"):
                if key in fields:
                    self._problems.warning(at_key(fields.get(key) or fields.node), "is only for time slices: left out")
            return None
        node = fields.need("timeSliceWindow")
        seconds = None if node is None else self._slice_seconds(node)
        target = None
        if method == "RatioTimeslices":
            if "timeSliceTarget" in fields:
                said = "is only for Timeslices: left out"
                self._problems.warning(at_key(fields.get("timeSliceTarget") or fields.node), said)
        else:
            fields.need("timeSliceTarget")
            target = quantities.share(fields.get("timeSliceTarget"), self._problems)
        return None if seconds is None else TimeSlices(seconds, target)

    def _slice_seconds(self, node: Node) -> int | None:
        if not isinstance(node.value, str):  # without a unit they are minutes
            minutes = number(node, self._problems)
            if minutes is not None and minutes.denominator == 1 and 1 <= minutes <= 366 * 24 * 60:
                return minutes.numerator * 60
            if minutes is not None:
                self._problems.error(node, "must be a whole number of minutes, or a duration as 5m")
            return None
        found = quantities.shorthand(node, node.value, self._problems)
        if found is not None and found[1] not in quantities.SECONDS:
            self._problems.error(node, "a time slice is of minutes, hours, days or weeks")
        elif found is not None:
            return found[0] * quantities.SECONDS[found[1]]
        return None

    def _window(self) -> Window | None:
        if self._notes.run():
            return None
        nodes = self._spec.items("timeWindow")
        if len(nodes) != 1:
            tell = self._problems.warning if not nodes else self._problems.error
            tell(self._spec.get("timeWindow") or self._spec.node, "must have exactly one timeWindow")
            return None
        fields = Fields(nodes[0], self._problems, ("duration", "isRolling", "calendar"), strict=False)
        rolling = fields.flag("isRolling")
        node, said = fields.need("duration"), fields.text("duration")
        window = None if node is None or said is None else quantities.window(node, said, self._problems)
        calendar = fields.get("calendar")
        if calendar is None:
            if rolling is not True and isinstance(nodes[0].value, dict):
                self._problems.warning(
                    nodes[0], "has no calendar, and says not isRolling: true: a rolling window is meant"
                )
            return window
        if rolling:
            self._problems.error(at_key(calendar), "a window with a calendar is not rolling")
        named = Fields(calendar, self._problems, ("startTime", "timeZone"), strict=False)
        named.need("startTime")
        named.need("timeZone")
        start, zone = named.text("startTime"), named.text("timeZone")
        if window is None or start is None or zone is None:
            return None
        return quantities.calendar(calendar, window.count, window.unit, start, zone, self._problems)


class Annotations:
    """What `retrospan.dev/...` says of an SLO. The values are texts, as OpenSLO has it, or what they read as."""

    def __init__(self, one: Object, problems: Problems) -> None:
        """Of one object."""
        self._nodes = one.annotations
        self._problems = problems

    def applied(self, slo: SLO) -> SLO:
        """The objective with what the annotations say beside its statistic."""
        needed = self.number("min-events")
        if needed is not None and (needed.denominator != 1 or not 1 <= needed <= 10**15):
            self._problems.error(self._nodes["min-events"], "must be a whole number of at least 1")
            needed = None
        return replace(
            slo,
            events_needed=None if needed is None else needed.numerator,
            max_unknown=self.share("max-unknown"),
            no_data=self._choice("no-data", POLICIES),
        )

    def statistic(self) -> Statistic | None:
        """The statistic, when it is none that OpenSLO knows."""
        return self._choice("statistic", STATISTICS)

    def run(self) -> bool:
        """Whether the window is the run, whatever OpenSLO wants to have said."""
        return self._choice("window", {"run": True}) or False

    def unit(self) -> Unit | None:
        """What the values are."""
        return self._choice("unit", UNITS)

    def number(self, key: str) -> Fraction | None:
        """A number."""
        return number(self._read(key), self._problems)

    def share(self, key: str) -> Fraction | None:
        """A share of 1."""
        return quantities.share(self._read(key), self._problems)

    def _read(self, key: str) -> Node | None:
        node = self._nodes.get(key)
        if node is None or not isinstance(node.value, str):
            return node
        exact = exact_number(node.value)
        return node if exact is None else replace(node, value=exact)

    def _choice(self, key: str, known: Mapping[str, Word]) -> Word | None:
        node = self._nodes.get(key)
        if node is None:
            return None
        if isinstance(node.value, str) and node.value in known:
            return known[node.value]
        self._problems.error(node, f"{node.value!r} is not known: {near(str(node.value), known)}")
        return None
