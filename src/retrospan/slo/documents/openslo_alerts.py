"""OpenSLO v1's alert policies: at which burn rate somebody is to be told.

    found = compile_policies(objects, node)          # an item of an SLO's `alertPolicies`

The gate does not act on them; `retrospan slo rules` does.
"""

from typing import Final

from retrospan.slo.definitions import UNIT_SECONDS, BurnPolicy, Op
from retrospan.slo.documents import quantities
from retrospan.slo.documents.fields import Fields
from retrospan.slo.documents.openslo_objects import CONDITION, OPS, Object, Objects
from retrospan.slo.documents.places import Node

# What is meant where a condition does not say how it compares.
_OP: Final[Op] = "gte"


def compile_policies(objects: Objects, node: Node) -> list[BurnPolicy]:
    """The conditions of a policy that is referred to, by its name or as a mapping, or stands here.

    What is wrong with it is told, and left out.
    """
    if isinstance(node.value, str):
        policy = objects.find("AlertPolicy", node)
    else:
        policy = objects.either(node, "alertPolicyRef", "AlertPolicy")
    if policy is None:
        return []
    objects.check(policy)
    items = policy.spec.items("conditions")
    found = (_compiled(objects, policy, objects.either(item, "conditionRef", "AlertCondition")) for item in items)
    return [one for one in found if one is not None]


def _compiled(objects: Objects, policy: Object, condition: Object | None) -> BurnPolicy | None:
    node = None if condition is None else condition.spec.get("condition")
    if condition is None or node is None:
        return None
    fields = Fields(node, objects.problems, CONDITION, strict=False)
    rate, lookback = fields.number("threshold"), _seconds(objects, fields, "lookbackWindow")
    op = fields.choice("op", OPS) or _OP
    severity = condition.spec.text("severity")
    if op not in OPS or rate is None or not lookback or severity is None:
        return None
    return BurnPolicy(
        policy.name,
        severity,
        OPS[op],
        rate,
        lookback,
        _seconds(objects, fields, "alertAfter"),
        on_breach=policy.spec.flag("alertWhenBreaching") is not False,
        on_no_data=policy.spec.flag("alertWhenNoData") is True,
    )


def _seconds(objects: Objects, fields: Fields, key: str) -> int:
    node, said = fields.get(key), fields.text(key)
    if node is None or said in (None, "0m"):
        return 0
    found = quantities.shorthand(node, said or "", objects.problems)
    return 0 if found is None else found[0] * UNIT_SECONDS[found[1]]
