"""Objectives as an `slo.toml` that reads back as the same.

    print(as_toml(load(["slos.yaml"]).slos))

Every objective is written out, so that the file says what is asked whatever the defaults become; those defaults that are
not among them are switched off.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from retrospan.slo.definitions import DEFAULTS, QUERY_SECONDS, SLO, Statistic
from retrospan.slo.documents.quantities import decimal, written
from retrospan.slo.documents.slo_toml import BOUNDS, INDICATORS, QUERIES

_KEYS: Final = {op: key for key, op in BOUNDS.items()}
_SOURCES: Final = {role: key for key, role in QUERIES.items()}


def as_toml(slos: Iterable[SLO]) -> str:
    """The file's text."""
    written_out = list(slos)
    names = {slo.name for slo in written_out}
    tables = [_table(slo) for slo in written_out]
    tables += [f"[slo.{name}]\nenabled = false\n" for name in DEFAULTS if name not in names]
    return "\n".join(tables)


def _table(slo: SLO) -> str:
    ground = _ground(slo)
    lines = [f"[slo.{slo.name}]", *_said(slo, ground)]
    return "\n".join([*lines, ""])


def _ground(slo: SLO) -> SLO | None:
    """The default that a table without a source is about, when it is one of this objective's indicator and kind."""
    base = DEFAULTS.get(slo.name)
    if base is None or (base.sli, base.statistic, base.upper) != (slo.sli, slo.statistic, slo.upper):
        return None
    return base


def _said(slo: SLO, ground: SLO | None) -> Iterator[str]:
    base = ground or _source_default(slo)
    if slo.description != base.description:
        yield f"description = {text(slo.description)}"
    if ground is None:
        yield from _source(slo, base)
    if slo.quantile is not None and (ground is None or slo.quantile != base.quantile):
        yield f"p = {decimal(slo.quantile if slo.upper else 1 - slo.quantile)}"
    threshold = written(slo.threshold, slo.unit)
    yield f"{_KEYS[slo.op]} = {threshold if slo.unit == 'number' else text(threshold)}"
    if slo.window is not None:
        duration = text(f"{slo.window.count}{slo.window.unit}")
        calendar = f"start = {text(slo.window.start or '')}, time_zone = {text(slo.window.time_zone or '')}"
        yield f"window = {duration if slo.window.rolling else f'{{ duration = {duration}, {calendar} }}'}"
    if slo.slices is not None:
        target = "" if slo.slices.target is None else f", target = {text(written(slo.slices.target, 'ratio'))}"
        yield f"slices = {{ length = {text(f'{slo.slices.seconds}s')}{target} }}"
    if slo.events_needed is not None:
        yield f"min_events = {slo.events_needed}"
    if slo.max_unknown != base.max_unknown:
        yield f"max_unknown = {text('100%' if slo.max_unknown is None else written(slo.max_unknown, 'ratio'))}"
    if slo.no_data is not None:
        yield f"no_data = {text(slo.no_data)}"


def _source_default(slo: SLO) -> SLO:
    """What a table with a source says when it says nothing else."""
    if not slo.sli.queries:
        return replace(INDICATORS[slo.sli.name], description="")
    statistic: Statistic = "mean" if len(slo.sli.queries) == 1 else "share"
    return replace(slo, description="", statistic=statistic, max_unknown=None)


def _source(slo: SLO, base: SLO) -> Iterator[str]:
    if not slo.sli.queries:
        yield f"sli = {text(slo.sli.name)}"
    for query in slo.sli.queries:
        yield f"{_SOURCES[query.role]} = {text(query.sql)}"
    seconds = max((query.seconds for query in slo.sli.queries), default=QUERY_SECONDS)
    if seconds != QUERY_SECONDS:
        yield f"timeout = {text(f'{seconds}s')}"
    if slo.statistic not in (base.statistic, "percentile"):
        yield f"statistic = {text(slo.statistic)}"


def text(said: str) -> str:
    """A TOML string: over several lines where that shows it as it is, else a basic string."""
    shown = all(line.isprintable() for line in said.replace("\t", " ").split("\n"))
    if "\n" in said and shown and "'''" not in said and not said.endswith("'"):
        return f"'''\n{said}'''"
    # JSON's escapes are TOML's, but for those of characters beyond 16 bits, which need none, and DEL.
    return json.dumps(said, ensure_ascii=False).replace("\x7f", "\\u007f")
