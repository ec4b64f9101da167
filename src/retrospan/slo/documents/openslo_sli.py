"""OpenSLO v1's SLIs: their queries, and how an objective is to be said of what these give.

    indicator = compile_sli(objects, one.spec)

A query that `write_openslo` made of a built-in indicator is known again by its text, and judged with all that is known of
that indicator. Any other is run as it stands, by `user_sql`.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from typing import Final

from retrospan.slo.definitions import QUERY_SECONDS, SLI, Op, Query, Role, Statistic
from retrospan.slo.documents import quantities
from retrospan.slo.documents.fields import Fields
from retrospan.slo.documents.openslo_objects import Objects
from retrospan.slo.documents.places import at_key
from retrospan.slo.documents.slo_toml import INDICATORS, own_sli

ENGINE: Final = "sqlite"

# How the good (or bad) events of one SELECT are asked for, and all of them.
SOME: Final = "SELECT * FROM (\n{}\n) AS e WHERE value >= 1"
ALL: Final = "SELECT * FROM (\n{}\n) AS e WHERE value IS NOT NULL"
_SOME, _ALL = (
    re.compile(rf"\s*{re.escape(form).replace(re.escape('{}'), '(.*)')}\s*", re.DOTALL) for form in (SOME, ALL)
)
_RATIO_KEYS: Final = ("counter", "good", "bad", "total", "rawType", "raw")


@dataclass(frozen=True, slots=True)
class Indicator:
    """What an SLI comes to: the events, and how an objective is to be said of them.

    `op` is gte when the values stand for good events, lte when for bad ones; None for values to be compared.
    """

    sli: SLI
    statistic: Statistic
    op: Op | None


def compile_sli(objects: Objects, spec: Fields) -> Indicator | None:
    """The specification of an SLI, referred to or inline; None, and problems, when it cannot be used."""
    return _Sources(objects).indicator(spec)


class _Sources:
    """The queries of one SLI."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._problems = objects.problems

    def indicator(self, spec: Fields) -> Indicator | None:
        """What it comes to."""
        kinds = [key for key in ("ratioMetric", "thresholdMetric") if key in spec]
        if len(kinds) != 1:
            self._problems.error(spec.node, "must have one of ratioMetric and thresholdMetric")
            return None
        node = spec.get(kinds[0]) or spec.node
        if kinds == ["thresholdMetric"]:
            query = self._query("events", Fields(node, self._problems, ("metricSource",), strict=False))
            return None if query is None else Indicator(self._sli(query), "percentile", None)
        return self._ratio(Fields(node, self._problems, _RATIO_KEYS, strict=False))

    def _ratio(self, ratio: Fields) -> Indicator | None:
        if ratio.flag("counter"):
            said = "rows are events, and counted: what a counter has gone up by is not asked for"
            self._problems.warning(ratio.get("counter") or ratio.node, said)
        parts = [key for key in ("good", "bad", "total", "raw") if key in ratio]
        if parts == ["raw"]:
            return self._raw(ratio)
        if parts == ["good", "bad", "total"]:
            self._problems.warning(
                at_key(ratio.get("bad") or ratio.node), "is not needed beside good and total: left out"
            )
            parts.remove("bad")
        if parts not in (["good", "total"], ["bad", "total"]):
            self._problems.error(ratio.node, "must have good and total, bad and total, or raw")
            return None
        if "rawType" in ratio:
            self._problems.warning(at_key(ratio.get("rawType") or ratio.node), "is only for raw: left out")
        roles: list[Role] = ["good", "total"] if parts == ["good", "total"] else ["bad", "total"]
        part, total = (self._query(role, self._metric(ratio, role)) for role in roles)
        if part is None or total is None:
            self._problems.to_try(*filter(None, (part, total)))
            return None
        op: Op = "gte" if roles[0] == "good" else "lte"
        seconds = max(part.seconds, total.seconds)
        part, total = replace(part, seconds=seconds), replace(total, seconds=seconds)
        wrapped = _unwrapped(part, total)
        sli = self._sli(part, total) if wrapped is None else self._sli(wrapped)
        return Indicator(sli, "share", op)

    def _raw(self, ratio: Fields) -> Indicator | None:
        ratio.need("rawType")
        kind = ratio.choice("rawType", ("success", "failure"))
        query = self._query("events", self._metric(ratio, "raw"))
        sli = None if query is None else self._sli(query)
        if kind is None or sli is None:
            return None
        return Indicator(sli, "mean", "gte" if kind == "success" else "lte")

    def _metric(self, ratio: Fields, key: str) -> Fields:
        return Fields(ratio.get(key) or ratio.node, self._problems, ("metricSource",), strict=False)

    def _query(self, role: Role, metric: Fields) -> Query | None:
        node = metric.need("metricSource")
        if node is None:
            return None
        source = Fields(node, self._problems, ("metricSourceRef", "type", "spec"), strict=False)
        if not self._is_of_our_engine(source):
            return None
        spec = source.need("spec")
        if spec is None:
            return None
        # Whatever a source needs may stand in its specification, so no key is unknown.
        free = Fields(spec, self._problems, tuple(spec.value) if isinstance(spec.value, dict) else ())
        place, sql = free.need("query"), free.text("query")
        seconds = quantities.duration(free.get("timeout"), self._problems) or QUERY_SECONDS
        if place is None or sql is None:
            return None
        return Query(role, sql, seconds, place.place.file, place.place.line, place.place.column, place.path)

    def _is_of_our_engine(self, source: Fields) -> bool:
        kind, reference = source.get("type"), source.get("metricSourceRef")
        if reference is not None:
            found = self._objects.find("DataSource", reference, needed=kind is None)
            if found is None and kind is None:
                return False
            kind = kind or (None if found is None else found.spec.get("type"))
        if kind is None:
            self._problems.warning(source.node, f"lacks type: {ENGINE} is meant")
        elif str(kind.value).lower() != ENGINE:
            self._problems.error(kind, f"a record is asked in {ENGINE}'s SQL, and nothing else")
            return False
        return True

    def _sli(self, *queries: Query) -> SLI:
        known = _built_in(queries[0].sql) if len(queries) == 1 else None
        if known is not None:
            return known
        self._problems.to_try(*queries)
        return own_sli(*queries)


def _unwrapped(part: Query, total: Query) -> Query | None:
    """The one SELECT that both ask, when they are its events of value 1 and its known ones."""
    some, every = _SOME.fullmatch(part.sql), _ALL.fullmatch(total.sql)
    if some is None or every is None or some[1] != every[1]:
        return None
    return replace(part, role="events", sql=some[1])


def _built_in(sql: str) -> SLI | None:
    plain = _plain(sql)
    return _texts().get(plain) or _FORMER.get(sha256(plain.encode()).hexdigest())


@cache
def _texts() -> dict[str, SLI]:
    return {_plain(slo.sli.text()): slo.sli for slo in INDICATORS.values()}


def _plain(sql: str) -> str:
    """The text without comments, and each white space as one blank."""
    return " ".join(re.sub(r"--[^\n]*", "", sql).split())


# What built-in indicators were asked by before, of which files made then still speak; by the digest of the plain text.
_FORMER: Final = {
    digest: INDICATORS[name].sli
    for digest, name in {
        "0888e800563a10594bc46423fc35a62b0ecb6d0682b1c823f0799549bad279c2": "breaker_opens",
        "0dd195aeadfc3fc7fd5658add6e90fc006050b5513595e7fc9c532587bbf2399": "cache_hit",
        "7bb6f148a5ea86df6b80cbd6bc0fe3647cb18cd92d643f4cd980260db766079b": "corruption",
        "55d00f51a9b57ce6ac3d093fd627427b3ff9e4cb953a97e3870bbde51345674b": "http_429",
        "4c5fd899b863c616ee3bf8bfcc6655b84396120fc47e12338ebc7a68dde6686f": "rate_delay",
        "6a0c902bf3c34df7bd2288cf8588edff4f6e0f360bff68e1cd96e4d8a3786353": "ttfp",
        "7e01341fc92ebaad9b4c1a4411554f0f3c5cdd0babc979b9fd12d0b68af2dd7c": "yield",
    }.items()
}
