"""Better, same or worse than before: the difference to a past run, or to a report kept as JSON, with its own interval.

    compare(result, of_file(Path("main.json"))["http_429"]).verdict          # "same"

Compared are the shares of good events (within the threshold, for a percentile), by Newcombe's interval; numbers of bad
events by that of two Poisson means. A difference counts when its 95 % interval does not hold 0.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from retrospan.record import RecordError
from retrospan.slo.statistics import Counts, difference_of_counts, newcombe
from retrospan.slo.verdicts import Result
from retrospan.text import printable

Change = Literal["better", "same", "worse", "unknown"]
_SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Past:
    """What an objective came to before; None is what is not known."""

    op: str
    threshold: float
    value: float | None
    counts: Counts | None

    @classmethod
    def of(cls, result: Result) -> "Past":
        """Of a result of today's."""
        sample = result.sample
        counts = None if sample is None or not sample.total else (sample.good, sample.total, sample.events)
        known = result.verdict in ("pass", "fail", "insufficient")
        return cls(result.slo.op, float(result.slo.threshold), result.value, counts if known else None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The change of one objective.

    `difference` is after - before with its interval `ci`: of the shares of good events, or of numbers of bad ones (then
    less is better). `value` is what it came to before. An unknown change has a reason.
    """

    verdict: Change
    value: float | None = None
    difference: float | None = None
    ci: tuple[float, float] | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is compared with, by name, and the changes by objective."""

    name: str
    changes: Mapping[str, Comparison]

    @property
    def regressed(self) -> bool:
        """Whether anything is worse."""
        return any(change.verdict == "worse" for change in self.changes.values())


def compare(result: Result, before: Past | None) -> Comparison:
    """The change of an objective since `before`."""
    slo, after = result.slo, Past.of(result)
    if before is None:
        return Comparison("unknown", reason="the baseline does not have it")
    if slo.quantile is not None and (before.op, before.threshold) != (after.op, after.threshold):
        return Comparison("unknown", before.value, reason="the baseline had another threshold")
    if slo.statistic == "worst_hour":
        if before.value is None or after.value is None:
            return Comparison("unknown", before.value, reason="no number then or now")
        return _changed(before, after.value - before.value, difference_of_counts(before.value, after.value), -1)
    if before.counts is None or after.counts is None:
        return Comparison("unknown", before.value, reason="no events then or now")
    if slo.statistic == "mean" and slo.target is None:
        return Comparison("unknown", before.value, reason="the mean of such values has no interval")
    interval = newcombe(before.counts, after.counts)
    return _changed(before, _share(after.counts) - _share(before.counts), interval, 1)


def of_file(file: Path) -> dict[str, Past]:
    """What a report in JSON says, by objective. Raises RecordError when the file is none."""
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        version = report["schema_version"]
        if version != _SCHEMA_VERSION:
            raise RecordError(f"{file}: a report of schema version {version}, this Retrospan reads {_SCHEMA_VERSION}")
        return {slo["name"]: _of_fields(slo) for slo in report["slos"]}
    except OSError as error:
        raise RecordError(f"{file}: cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"{file}: is no report of this command ({type(error).__name__}): make one with"
            f" `retrospan slo --format json > {printable(file.name)}`"
        ) from error


def _of_fields(slo: dict[str, Any]) -> Past:
    known = slo["total"] and slo["verdict"] in ("pass", "fail", "insufficient")
    numbers = [slo["threshold"], slo["value"] or 0, slo["good"] or 0, slo["total"] or 0]
    if not isinstance(slo["name"], str) or not all(isinstance(number, int | float) for number in numbers):
        raise TypeError("not the fields of a report")
    if known and not 0 <= slo["good"] <= slo["total"]:
        raise ValueError("more good events than events")
    counts = (slo["good"], slo["total"], slo.get("effective_events")) if known else None
    return Past(slo["op"], slo["threshold"], slo["value"], counts)


def _changed(before: Past, difference: float, interval: tuple[float, float], better: int) -> Comparison:
    low, high = sorted(bound * better for bound in interval)
    verdict: Change = "better" if low > 0 else "worse" if high < 0 else "same"
    return Comparison(verdict, before.value, difference, interval)


def _share(counts: Counts) -> float:
    good, total = counts[0], counts[1]
    return float(good) / float(total)
