"""Recording rules and alerts, as a rule file of Prometheus.

    made = rules_for(slos, 30 * DAY)
    made.text()                        # YAML
    made.omitted                       # [("mine", "it is judged by slices of time, which no series counts")]

Shares are taken of counts that are summed over everything but job and objective, so that runs that come and go do not
matter. Each alert needs the objective's least number of events in its window, as the gate does. An alert on a burn rate that
not even bad events alone would reach is replaced by one that the objective is missed.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from retrospan.prometheus import names
from retrospan.slo.definitions import SIGNS, SLO, Op
from retrospan.slo.output.wording import objective, percent
from retrospan.slo.rules.burn import DAY, HOUR, Burn, burns, length
from retrospan.slo.rules.runbook import escaped, runbook
from retrospan.slo.rules.series import HALF, OmittedError, check, events, is_count, number

Rule = dict[str, Any]

BURN: Final = "RetrospanBurnRate"
BELOW: Final = "RetrospanBelowTarget"
MANY: Final = "RetrospanTooMany"
SILENT: Final = "RetrospanNoData"

_LABELS: Final = "job, slo"
_GROUP: Final = {"name": "retrospan-slo", "interval": "1m"}
_HEAD: Final = (
    "Written by `retrospan slo rules`: change the objectives, not this file.",
    "The counters are those of `retrospan metrics` with the same --config.",
)
_PAGED_AT_ONCE: Final = "page"
_TICKET: Final = "ticket"


@dataclass(slots=True)
class Rules:
    """The alerts, the windows that they look at, and the objectives without any, with the reason."""

    alerts: list[Rule] = field(default_factory=list)
    ratios: set[int] = field(default_factory=set)
    totals: set[int] = field(default_factory=set)
    omitted: list[tuple[str, str]] = field(default_factory=list)

    def text(self) -> str:
        """The file."""
        from retrospan.slo.documents.yaml_text import dumped

        comments = [*_HEAD, *(f"{name}: no rule: {reason}" for name, reason in self.omitted)]
        head = "".join(f"# {comment}\n" for comment in comments)
        return head + dumped([{"groups": [_GROUP | {"rules": [*self._recorded(), *self.alerts]}]}])

    def _recorded(self) -> Iterator[Rule]:
        """First in the group, so that the alerts of the same moment see them."""
        for window in sorted(self.totals | self.ratios):
            yield {
                "record": _total(window),
                "expr": f"sum by ({_LABELS}) (increase({names.SLO_EVENTS}[{length(window)}]))",
            }
        for window in sorted(self.ratios):
            bad_ones = f'sum by ({_LABELS}) (increase({names.SLO_EVENTS}{{verdict="{names.BAD}"}}[{length(window)}]))'
            yield {"record": _ratio(window), "expr": f"{bad_ones} / ({_total(window)} > 0)"}


def rules_for(slos: Iterable[SLO], period: int) -> Rules:
    """The rules for objectives; those without a window of their own are promised for `period` seconds."""
    made = Rules()
    for slo in slos:
        try:
            check(slo)
            alerts = [_too_many(slo, period)] if is_count(slo) else list(_alerts(made, slo, period))
        except OmittedError as error:
            made.omitted.append((slo.name, str(error)))
            continue
        _add(made, slo, alerts)
    return made


def _add(made: Rules, slo: SLO, alerts: Sequence[Rule]) -> None:
    """Two alerts of one name must differ in their labels."""
    for alert in alerts:
        if any((one["alert"], one["labels"]) == (alert["alert"], alert["labels"]) for one in made.alerts):
            made.omitted.append((slo.name, f"{alert['alert']} twice with the same labels: only the first was written"))
        else:
            made.alerts.append(alert)


def _alerts(made: Rules, slo: SLO, period: int) -> Iterator[Rule]:
    assert slo.target is not None, "what has a series and is no count has a target"
    budget = 1 - slo.target
    if budget >= 1:
        raise OmittedError("its target of 0 % cannot be missed")
    period = slo.window.seconds if slo.window else period
    wanted = [Burn.of(policy) for policy in slo.alerts if policy.on_breach] if slo.alerts else list(burns(period))
    if not wanted and not any(policy.on_no_data for policy in slo.alerts):
        short = f"its window of {length(period)} is too short for burn rates"
        raise OmittedError("its alert policies tell of nothing" if slo.alerts else short)
    for burn in wanted:
        if burn.can_fire(budget):
            yield _burning(made, slo, burn, period)
    for burn in _replaced([burn for burn in wanted if not burn.can_fire(budget)]):
        yield _below(made, slo, burn)
    for policy in slo.alerts:
        if policy.on_no_data:
            yield _silent(made, slo, Burn.of(policy))


def _replaced(burns: Sequence[Burn]) -> Iterator[Burn]:
    """Of those that cannot fire, for everyone who would be told the one with the longest window: the most events."""
    for told in dict.fromkeys((burn.severity, burn.policy) for burn in burns):
        yield max((burn for burn in burns if (burn.severity, burn.policy) == told), key=lambda burn: burn.long)


def _burning(made: Rules, slo: SLO, burn: Burn, period: int) -> Rule:
    assert slo.target is not None, "only what has a target has a budget"
    threshold = burn.threshold(1 - slo.target)
    rate = f"{float(burn.factor):.6g}"
    gone = f" So the budget of {length(period)} is gone in {_long(period / burn.factor)}." if burn.factor > 0 else ""
    return _rule(
        BURN,
        _expression(made, slo, burn, burn.op, threshold),
        _labels(slo, burn) | {"burn_rate": rate},
        f"{slo.name} burns its error budget at {rate} times the rate that is allowed",
        f"{_seen(burn)}: {SIGNS[burn.op]} {percent(threshold)}, {rate} times what {_asked(slo)} allows.{gone}",
        runbook(slo, BURN, length(burn.long)),
        burn.after,
    )


def _below(made: Rules, slo: SLO, burn: Burn) -> Rule:
    assert slo.target is not None, "only what has a target can be below it"
    budget = 1 - slo.target
    rate = f"{float(burn.factor):.6g}"
    return _rule(
        BELOW,
        _expression(made, slo, burn, "gt", budget),
        _labels(slo, burn),
        f"{slo.name} misses its target of {percent(slo.target)}",
        f"{_seen(burn)}; {_asked(slo)} allows {percent(budget)}. (A burn rate of {rate} cannot be reached: even bad events"
        f" alone burn this budget only {float(1 / budget):.4g} times as fast.)",
        runbook(slo, BELOW, length(burn.long)),
        burn.after,
    )


def _silent(made: Rules, slo: SLO, burn: Burn) -> Rule:
    made.totals.add(burn.long)
    window = length(burn.long)
    few = f"{_total(burn.long)}{{{_selected(slo)}}} < {number(HALF)}"
    return _rule(
        SILENT,
        f"{few}\nor\nabsent({events(slo)})",
        _labels(slo, burn),
        f"{slo.name} has no events",
        f"Nothing was counted in the last {window}: the program does not run, or nothing exports what it does.",
        f"See that the program records, and that Prometheus reaches `retrospan metrics`; then {runbook(slo, SILENT, window)}",
        burn.after,
    )


def _too_many(slo: SLO, period: int) -> Rule:
    """More bad events than an objective allows in the window that it counts over: an hour, or its period.

    Where none is allowed, one is told of for an hour.
    """
    series = events(slo, verdict=names.BAD)
    period = slo.window.seconds if slo.window else period
    window = HOUR if slo.statistic == "worst_hour" or slo.threshold == 0 else period
    most = number(slo.threshold + HALF)
    return _rule(
        MANY,
        f"sum by (job) (increase({series}[{length(window)}])) > {most}",
        {"severity": _PAGED_AT_ONCE if slo.threshold == 0 else _TICKET, "slo": slo.name, "window": length(window)},
        f"{slo.name} is more than {float(slo.threshold):g}",
        f"About {{{{ $value | humanize }}}} in the last {length(window)}; {_asked(slo)}.",
        runbook(slo, MANY, length(window)),
    )


def _rule(
    alert: str, expression: str, labels: dict[str, str], summary: str, description: str, todo: str, after: int = 0
) -> Rule:
    rule: Rule = {"alert": alert, "expr": expression}
    if after:
        rule["for"] = length(after)
    return rule | {"labels": labels, "annotations": {"summary": summary, "description": description, "runbook": todo}}


def _labels(slo: SLO, burn: Burn) -> dict[str, str]:
    labels = {"severity": escaped(burn.severity), "slo": slo.name, "window": length(burn.long)}
    return labels if burn.policy is None else labels | {"policy": escaped(burn.policy)}


def _expression(made: Rules, slo: SLO, burn: Burn, op: Op, threshold: Fraction) -> str:
    """The share of bad events beyond a threshold in every window, and events enough in the long one."""
    made.ratios.update(burn.windows)
    made.totals.add(burn.long)
    among = f"{{{_selected(slo)}}}"
    beyond = [f"{_ratio(window)}{among} {SIGNS[op]} {number(threshold)}" for window in burn.windows]
    return "\nand\n".join([*beyond, f"{_total(burn.long)}{among} > {number(slo.min_events - HALF)}"])


def _seen(burn: Burn) -> str:
    also = "" if burn.short is None else f", and too many in the last {length(burn.short)}"
    return f"{{{{ $value | humanizePercentage }}}} of the events of the last {length(burn.long)} were bad{also}"


def _asked(slo: SLO) -> str:
    said = f"{slo.name} {objective(slo)}"
    return f"{said} ({escaped(slo.description)})" if slo.description else said


def _selected(slo: SLO) -> str:
    return f'slo="{slo.name}"'


def _ratio(window: int) -> str:
    return f"job_slo:retrospan_slo_errors:ratio_increase{length(window)}"


def _total(window: int) -> str:
    return f"job_slo:retrospan_slo_events:increase{length(window)}"


def _long(seconds: Fraction) -> str:
    return f"{float(seconds / DAY):.3g} days" if seconds >= 2 * DAY else f"{float(seconds / HOUR):.3g} hours"
