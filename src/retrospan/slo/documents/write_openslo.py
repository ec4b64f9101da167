"""Objectives as OpenSLO v1, strictly as the specification has it, that reads back as the same.

    print(as_openslo(load(["slo.toml"]).slos))

What OpenSLO has no word for stands in annotations `retrospan.dev/...`.
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Final

from retrospan.slo.definitions import QUERY_SECONDS, SLI, SLO, Query, Statistic
from retrospan.slo.documents.openslo import METHODS, STATISTICS
from retrospan.slo.documents.openslo_objects import PREFIX, VERSION
from retrospan.slo.documents.openslo_sli import ALL, ENGINE, SOME
from retrospan.slo.documents.places import Place, fatal
from retrospan.slo.documents.quantities import SECONDS, decimal
from retrospan.slo.documents.yaml_text import Number, dumped

SOURCE: Final = "telemetry-sqlite"
SERVICE: Final = "recorded-program"
_LENGTHS: Final = tuple(reversed(SECONDS.items()))
_WORDS: Final[dict[Statistic, str]] = {statistic: word for word, statistic in STATISTICS.items()}


def as_openslo(slos: Iterable[SLO]) -> str:
    """The documents. Raises DefinitionError for a target of 100 %, which OpenSLO does not have."""
    documents = [
        _object("DataSource", SOURCE, {"type": ENGINE, "connectionDetails": {"path": "${RETROSPAN_DB}"}}),
        _object("Service", SERVICE, {"description": "The program that was recorded."}),
        *map(_slo, slos),
    ]
    return dumped(documents)


def _object(kind: str, name: str, spec: dict[str, Any], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if annotations:
        metadata["annotations"] = {f"{PREFIX}{key}": value for key, value in annotations.items()}
    return {"apiVersion": VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _slo(slo: SLO) -> dict[str, Any]:
    name = slo.name.replace("_", "-")
    if slo.target == 1:
        raise fatal(
            Place(slo.file or "", slo.line or 1, slo.column or 1), f"{slo.name}: OpenSLO has no target of 100 %"
        )
    metric, objective = _metric(slo)
    spec: dict[str, Any] = {"description": slo.description} if slo.description else {}
    spec["service"] = SERVICE
    spec["indicator"] = {"metadata": {"name": f"{name[:58]}-sli"}, "spec": metric}
    spec["timeWindow"] = [_window(slo)]
    spec["budgetingMethod"] = METHODS[0]
    if slo.slices is not None:
        spec["budgetingMethod"] = METHODS[2 if slo.slices.target is None else 1]
        objective |= _slices(slo.slices.seconds, slo.slices.target)
    spec["objectives"] = [objective]
    return _object("SLO", name, spec, _annotations(slo))


def _metric(slo: SLO) -> tuple[dict[str, Any], dict[str, Any]]:
    """The specification of the SLI, and its objective."""
    if slo.statistic == "share":
        parts = {query.role: _source(query.sql, query.seconds) for query in slo.sli.queries}
        if len(parts) < 2:
            sql, seconds = _text(slo.sli)
            parts = {
                "bad" if slo.upper else "good": _source(SOME.format(sql), seconds),
                "total": _source(ALL.format(sql), seconds),
            }
        return {"ratioMetric": {"counter": False, **parts}}, {"target": _number(slo.target)}
    source = _source(*_text(slo.sli))
    if slo.statistic == "mean" and slo.target is not None and slo.op in ("gte", "lte"):
        kind = "failure" if slo.upper else "success"
        return {"ratioMetric": {"rawType": kind, "raw": source}}, {"target": _number(slo.target)}
    compared = {"op": slo.op, "value": _number(slo.threshold)}
    if slo.statistic in ("count", "worst_hour"):
        compared = {"op": "lte", "value": _number(Fraction(0))}
    return {"thresholdMetric": source}, {**compared, "target": _number(slo.quantile or Fraction(0))}


def _text(sli: SLI) -> tuple[str, int]:
    (query,) = sli.queries or (Query("events", sli.text().strip()),)
    return query.sql, query.seconds


def _source(sql: str, seconds: int) -> dict[str, Any]:
    spec: dict[str, Any] = {"query": sql}
    if seconds != QUERY_SECONDS:
        spec["timeout"] = f"{seconds}s"
    return {"metricSource": {"metricSourceRef": SOURCE, "type": ENGINE, "spec": spec}}


def _annotations(slo: SLO) -> dict[str, str]:
    said: dict[str, str] = {}
    if slo.statistic in ("count", "worst_hour"):
        said |= {"statistic": _WORDS[slo.statistic], "max": decimal(slo.threshold)}
    elif slo.statistic == "mean" and not (slo.target is not None and slo.op in ("gte", "lte")):
        said |= {"statistic": _WORDS[slo.statistic], "unit": slo.unit}
    elif slo.statistic == "percentile":
        said |= {"unit": slo.unit} | ({"show-percentile": decimal(slo.quantile or Fraction(0))} if slo.upper else {})
    if slo.events_needed is not None:
        said["min-events"] = str(slo.events_needed)
    if slo.max_unknown is not None:
        said["max-unknown"] = decimal(slo.max_unknown)
    if slo.no_data is not None:
        said["no-data"] = slo.no_data
    if slo.window is None:
        said["window"] = "run"
    return said


def _window(slo: SLO) -> dict[str, Any]:
    # The specification wants a window; that of an objective without one is the run, as an annotation says.
    if slo.window is None:
        return {"duration": "28d", "isRolling": True}
    duration = {"duration": f"{slo.window.count}{slo.window.unit}", "isRolling": slo.window.rolling}
    if slo.window.rolling:
        return duration
    start = (slo.window.start or "").replace("T", " ")
    return duration | {"calendar": {"startTime": start, "timeZone": slo.window.time_zone}}


def _slices(seconds: int, target: Fraction | None) -> dict[str, Any]:
    said: dict[str, Any] = {} if target is None else {"timeSliceTarget": _number(target)}
    unit, length = next((unit, length) for unit, length in _LENGTHS if seconds % length == 0)
    return said | {"timeSliceWindow": f"{seconds // length}{unit}"}


def _number(value: Fraction | None) -> Number:
    return Number(decimal(value or Fraction(0)))
