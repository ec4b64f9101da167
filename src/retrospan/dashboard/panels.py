"""How the queries are shown: panels in rows, by grafana-foundation-sdk.

    print(as_json(DEFAULTS.values()))

The library has Grafana's own types, so that what it writes is what Grafana reads.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import BigValueColorMode, BigValueGraphMode, VizOrientation
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableModel,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from retrospan.dashboard.queries import (
    FAILED,
    FEW,
    PASSED,
    RATES,
    RECORD,
    RUNS,
    Query,
    budget_left,
    burn_rate,
    has_budget,
    told,
    verdict,
)
from retrospan.prometheus import names
from retrospan.slo.definitions import SLO

Panel = stat.Panel | timeseries.Panel | bargauge.Panel | statetimeline.Panel

UID: Final = "retrospan"
TITLE: Final = "Retrospan"
_WIDTH: Final = 24
_SOURCE: Final = DataSourceRef("prometheus", "${datasource}")
_GREEN, _YELLOW, _RED, _BLUE = "green", "yellow", "red", "blue"
_VERDICTS: Final = {FAILED: ("fail", _RED), PASSED: ("pass", _GREEN), FEW: ("too few", _YELLOW)}
_STATES: Final = {0: ("closed", _GREEN), 1: ("half-open", _YELLOW), 2: ("open", _RED)}


def as_json(slos: Sequence[SLO]) -> str:
    """The dashboard for these objectives, as Grafana imports it."""
    board = (
        dashboard.Dashboard(TITLE)
        .uid(UID)
        .description("What a downloader's record says of it: the metrics of `retrospan metrics`.")
        .tags(["retrospan"])
        .time("now-6h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .variables(_variables())
    )
    numbers = count(1)
    for title, panels in _rows(list(told(slos))):
        board.with_row(dashboard.Row(title).id(next(numbers)))
        for panel in panels:
            board.with_panel(panel.id(next(numbers)).datasource(_SOURCE).height(8).span(_WIDTH // len(panels)))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _rows(slos: Sequence[SLO]) -> Iterable[tuple[str, list[Panel]]]:
    shared = [slo for slo in slos if has_budget(slo)]
    if slos:
        objectives: list[Panel] = [_verdicts(map(verdict, slos))]
        if shared:
            objectives += [_budgets(map(budget_left, shared)), _burning(map(burn_rate, shared))]
        yield "Objectives, over the time shown", objectives
    yield (
        "Artifacts",
        [
            _lines("Yield", "Artifacts stored among those attempted, by run.", "percentunit", RUNS["yield"])
            .min(0)
            .max(1),
            _lines("Time to first PDF", "Nearest rank, by run.", "s", RUNS["ttfp_p50"], RUNS["ttfp_p95"]),
            _number("Saved", "Bytes that were not stored twice.", "bytes", _BLUE, RATES["saved"]),
        ],
    )
    yield (
        "Tiers",
        [
            _lines("Attempts", "A second, by tier and outcome.", "ops", RATES["outcomes"]),
            _shares("Success by source", "Of the attempts in the time shown, by tier and source.", RATES["tiers"]),
        ],
    )
    yield (
        "HTTP",
        [
            _lines(
                "429 by host", "Among the responses from the network, the worst run.", "percentunit", RUNS["http_429"]
            ),
            _lines("Requests by status", "Sends a second.", "reqps", RATES["requests"]),
            _lines("Requests by host", "Sends a second.", "reqps", RATES["by_host"]),
            _lines("Metadata cache hit", "Metadata GETs from the cache, by run.", "percentunit", RUNS["cache_hit"]),
        ],
    )
    yield (
        "Limiters and breakers",
        [
            _lines("Limiter wait", "Of metadata requests, by run.", "s", RUNS["limiter_wait"]),
            _states("Breakers", "By host, the worst run's.", RUNS["breaker_state"]),
            _lines("Breaker openings in an hour", "Re-openings count.", "short", RATES["breaker_opens"]),
        ],
    )
    yield (
        "Record",
        [
            _number("Corrupt files", "Without hash, path or length.", "short", _RED, RATES["corruptions"]),
            _number("Rows dropped", "What a recorder could not write.", "short", _RED, RATES["dropped"]),
            _lines("Record", "Its size with its log.", "bytes", RECORD["size"]),
            _lines("Lag", "Age of the newest row.", "s", RECORD["lag"]),
        ],
    )


def _verdicts(queries: Iterable[Query]) -> stat.Panel:
    panel = (
        stat.Panel()
        .title("Verdicts")
        .description("As the gate judges: the target of each objective, and its least number of events.")
        .mappings([_mapped(_VERDICTS)])
        .color_mode(BigValueColorMode.BACKGROUND)
        .graph_mode(BigValueGraphMode.NONE)
        .no_value("no data")
    )
    return panel.reduce_options(_last()).targets(_targets(queries, instant=True))


def _budgets(queries: Iterable[Query]) -> bargauge.Panel:
    panel = (
        bargauge.Panel()
        .title("Error budget left")
        .description("Of what may be bad among the events in the time shown; below 0 it is overdrawn.")
        .unit("percentunit")
        .min(0)
        .max(1)
        .orientation(VizOrientation.HORIZONTAL)
        .thresholds(_thresholds((None, _RED), (0.0, _YELLOW), (0.25, _GREEN)))
    )
    return panel.reduce_options(_last()).targets(_targets(queries, instant=True))


def _burning(queries: Iterable[Query]) -> timeseries.Panel:
    said = "In the hour before: at 1 the budget lasts just as long as its window."
    return _lines("Burn rate", said, "none", *queries).thresholds(_thresholds((None, _GREEN), (1.0, _RED)))


def _lines(title: str, said: str, unit: str, *queries: Query) -> timeseries.Panel:
    panel = timeseries.Panel().title(title).description(said).unit(unit).fill_opacity(10)
    return panel.targets(_targets(queries))


def _shares(title: str, said: str, query: Query) -> bargauge.Panel:
    panel = bargauge.Panel().title(title).description(said).unit("percentunit").min(0).max(1)
    panel = panel.orientation(VizOrientation.HORIZONTAL).reduce_options(_last())
    return panel.targets(_targets([query], instant=True))


def _states(title: str, said: str, query: Query) -> statetimeline.Panel:
    return (
        statetimeline.Panel()
        .title(title)
        .description(said)
        .mappings([_mapped(_STATES)])
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS))
        .targets(_targets([query]))
    )


def _number(title: str, said: str, unit: str, colour: str, query: Query) -> stat.Panel:
    panel = stat.Panel().title(title).description(said).unit(unit).graph_mode(BigValueGraphMode.NONE)
    above = _thresholds((None, _GREEN), (0.5, colour))
    panel = panel.thresholds(above).no_value("no data").reduce_options(_last())
    return panel.targets(_targets([query], instant=True))


def _targets(queries: Iterable[Query], *, instant: bool = False) -> list[Builder[Dataquery]]:
    return [_target(query, f"Q{number}", instant) for number, query in enumerate(queries, start=1)]


def _target(query: Query, name: str, instant: bool) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).legend_format(query.legend).datasource(_SOURCE).ref_id(name)
    return target.instant() if instant else target.range()


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"])


def _mapped(values: dict[int, tuple[str, str]]) -> ValueMap:
    results = {str(value): ValueMappingResult(text, colour, index=value) for value, (text, colour) in values.items()}
    return ValueMap(options=results)


def _thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    levels = [Threshold(value, colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(levels)


def _variables() -> list[Builder[VariableModel]]:
    return [
        dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"),
        _chosen("job", "Job", f"label_values({names.RECORD_SIZE}, job)"),
        _chosen("run", "Run", f'label_values({names.HTTP_429}{{job=~"$job"}}, run_id)'),
        _chosen("host", "Host", f'label_values({names.REQUESTS}{{job=~"$job"}}, host)'),
    ]


def _chosen(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(_SOURCE)
        .query(query)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(True, ["All"], ["$__all"]))
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
