"""The objects of OpenSLO v1 documents: each of a known kind, with a name, and what its kind must have.

    objects = Objects(problems)
    objects.add(node)                                # one document
    objects.find("SLI", reference)                   # what a reference means

What objectives are made of stands in `openslo`, what alerts say in `openslo_alerts`. The kinds that nothing here
has a use for (targets, services) are held to their rules all the same. What has one meaning, but is not as the
specification has it, is a warning.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from retrospan.slo.definitions import SIGNS, Op
from retrospan.slo.documents import quantities
from retrospan.slo.documents.fields import Fields, text
from retrospan.slo.documents.places import Node, Place, Problems, at_key, near

VERSION: Final = "openslo/v1"
PREFIX: Final = "retrospan.dev/"
ANNOTATIONS: Final = ("min-events", "unit", "max-unknown", "statistic", "max", "show-percentile", "no-data", "window")

OPS: Final[dict[str, Op]] = {op: op for op in SIGNS}
CONDITION: Final = ("kind", "op", "threshold", "lookbackWindow", "alertAfter")

# The keys of each kind's specification, those that it must have marked by "!".
_SPECS: Final = {
    "SLO": "description service! indicator indicatorRef timeWindow budgetingMethod objectives! alertPolicies",
    "SLI": "description thresholdMetric ratioMetric",
    "DataSource": "description type! connectionDetails",
    "Service": "description",
    "AlertPolicy": "description alertWhenNoData alertWhenResolved alertWhenBreaching conditions! notificationTargets!",
    "AlertCondition": "description severity! condition!",
    "AlertNotificationTarget": "description target!",
}
_OTHER_VERSIONS: Final = re.compile(r"openslo(?:\.com)?/(v1alpha|v2alpha)[0-9]*")
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LONGEST_DESCRIPTION: Final = 1050
_OBJECT: Final = ("apiVersion", "kind", "metadata", "spec")


@dataclass(frozen=True, slots=True)
class Object:
    """One object: its kind, name and title, our annotations without their prefix, and its specification."""

    kind: str
    name: str
    title: str
    annotations: dict[str, Node]
    spec: Fields
    node: Node

    @property
    def place(self) -> Place:
        """Where it is defined."""
        return self.node.place


class Objects:
    """All objects of the files read so far, by kind and name."""

    def __init__(self, problems: Problems) -> None:
        """None yet."""
        self.problems = problems
        self._known: dict[tuple[str, str], Object] = {}

    def add(self, document: Node) -> Object | None:
        """Take a document in; None, and a problem, when it is no object of a name of its own."""
        fields = Fields(document, self.problems, _OBJECT, strict=False)
        if not self._is_ours(fields):
            return None
        fields.need("kind")
        kind = fields.choice("kind", _SPECS)
        found = None if kind is None else self._object(kind, document, fields)
        if found is None:
            return None
        before = self._known.setdefault((found.kind, found.name), found)
        if before is not found:
            self.problems.error(document, f"the {found.kind} {found.name!r} stands at {before.place} already")
            return None
        return found

    def inline(self, kind: str, node: Node) -> Object | None:
        """An object that stands inside another, where version and kind may be left out."""
        return self._object(kind, node, Fields(node, self.problems, _OBJECT, strict=False))

    def find(self, kind: str, reference: Node, *, needed: bool = True) -> Object | None:
        """The object that a reference names; None, and a problem (a warning unless `needed`), when there is none."""
        name = text(reference, self.problems)
        found = self._known.get((kind, name or ""))
        if found is None and name is not None:
            names = [known for other, known in self._known if other == kind]
            said = near(name, names) if names else f"there is no {kind} in the files given"
            tell = self.problems.error if needed else self.problems.warning
            tell(reference, f"no {kind} is named {name!r}: {said}")
        return found

    def either(self, node: Node, reference: str, kind: str) -> Object | None:
        """What an item of a list names by a reference, or holds itself."""
        if isinstance(node.value, dict) and reference in node.value:
            return self.find(kind, node.value[reference])
        return self.inline(kind, node)

    def check(self, one: Object) -> None:
        """Hold an object to the rules of its kind, once all that it may refer to is known."""
        check = _CHECKS.get(one.kind)
        if check is not None:
            check(self, one)

    def _is_ours(self, fields: Fields) -> bool:
        node = fields.need("apiVersion")
        version = text(node, self.problems)
        if node is None or version is None:
            return False
        other = _OTHER_VERSIONS.fullmatch(version)
        if other is not None:
            self.problems.error(node, f"OpenSLO {other[1]} is not read: bring the document to {VERSION}")
        elif version != VERSION:
            self.problems.error(node, f"{version!r} is no version that is read: write {VERSION}")
        return version == VERSION

    def _object(self, kind: str, node: Node, fields: Fields) -> Object | None:
        held = fields.get("kind")
        if held is not None and held.value != kind:
            self.problems.error(held, f"must be {kind} here")
        metadata, spec = fields.need("metadata"), fields.need("spec")
        if metadata is None or spec is None:
            return None
        about = Fields(metadata, self.problems, ("name", "displayName", "labels", "annotations"), strict=False)
        where, name = about.need("name"), about.text("name")
        if where is None or name is None:
            return None
        if not _NAME.fullmatch(name):
            self.problems.warning(where, "a name has at most 63 of a-z, 0-9 and -, and begins and ends with no -")
        keys = _SPECS[kind].split()
        inner = Fields(spec, self.problems, [key.rstrip("!") for key in keys], strict=False)
        for key in keys:
            if key.endswith("!"):
                inner.need(key.rstrip("!"))
        said = inner.text("description")
        if said is not None and len(said) > _LONGEST_DESCRIPTION:
            self.problems.warning(inner.get("description") or node, f"is longer than {_LONGEST_DESCRIPTION} characters")
        return Object(kind, name, about.text("displayName") or "", self._annotations(about), inner, node)

    def _annotations(self, about: Fields) -> dict[str, Node]:
        node = about.get("annotations")
        if node is None or not isinstance(node.value, dict):
            return {}
        ours = {key.removeprefix(PREFIX): value for key, value in node.value.items() if key.startswith(PREFIX)}
        for key, value in ours.items():
            if key not in ANNOTATIONS:
                self.problems.warning(at_key(value), f"unknown annotation: {near(key, ANNOTATIONS)}")
        return ours


def _check_policy(objects: Objects, policy: Object) -> None:
    for flag in ("alertWhenNoData", "alertWhenResolved", "alertWhenBreaching"):
        policy.spec.flag(flag)
    conditions = policy.spec.items("conditions")
    if len(conditions) != 1 and "conditions" in policy.spec:
        objects.problems.warning(
            policy.spec.get("conditions") or policy.node, "an AlertPolicy has exactly one condition"
        )
    for item in conditions:
        condition = objects.either(item, "conditionRef", "AlertCondition")
        if condition is not None and condition.node is item:
            _check_condition(objects, condition)
    for item in policy.spec.items("notificationTargets"):
        objects.either(item, "targetRef", "AlertNotificationTarget")


def _check_condition(objects: Objects, one: Object) -> None:
    one.spec.text("severity")
    node = one.spec.get("condition")
    if node is None:
        return
    fields = Fields(node, objects.problems, CONDITION, strict=False)
    fields.choice("kind", ("burnrate",))
    fields.choice("op", OPS)
    fields.need("threshold")
    fields.number("threshold")
    fields.need("lookbackWindow")
    for key in ("lookbackWindow", "alertAfter"):
        said = fields.text(key)
        if said is not None and said != "0m":
            quantities.shorthand(fields.get(key) or node, said, objects.problems)


def _check_texts(*keys: str) -> Callable[[Objects, Object], None]:
    def check(objects: Objects, one: Object) -> None:
        for key in keys:
            one.spec.text(key)

    return check


_CHECKS: Final[dict[str, Callable[[Objects, Object], None]]] = {
    "AlertPolicy": _check_policy,
    "AlertCondition": _check_condition,
    "AlertNotificationTarget": _check_texts("target"),
    "DataSource": _check_texts("type"),
}
