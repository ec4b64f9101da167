"""The documents of a YAML text as nodes that know where they stand.

    [node, *rest] = nodes("slos.yaml", text)
    node.value["kind"].place                         # slos.yaml:2:7

Made from the parser's events alone: nothing is constructed, whatever a tag says. Plain scalars are read by YAML 1.2's core
schema, so `no` is a text. Aliases are followed, up to a bound on what they come to.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import yaml

from retrospan.slo.documents.places import DEEPEST, Node, Place, Scalar, child, fatal, number

MOST_NODES: Final = 50_000

_WORDS: Final[dict[str, Scalar]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NUMBER: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
# libyaml's loader where PyYAML was built with it, an order of magnitude faster.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def nodes(file: str, text: str) -> Iterator[Node]:
    """The documents that are not empty. Raises DefinitionError, with the place, for a text that is no YAML."""
    try:
        yield from _Composer(file, text).documents()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file) if mark is None else Place(file, mark.line + 1, mark.column + 1)
        raise fatal(place, error.problem or "is no YAML") from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise fatal(place, "holds a character that YAML does not allow") from error
    except (RecursionError, yaml.YAMLError) as error:
        raise fatal(Place(file), "is no YAML, or nested too deeply") from error


class _Composer:
    """Events into nodes. An alias is composed anew from the events of its anchor, so that its paths are its own."""

    def __init__(self, file: str, text: str) -> None:
        self._file = file
        self._events = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, list[Any]] = {}
        self._made = 0

    def documents(self) -> Iterator[Node]:
        """Each document's node."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                node = self._node(iter(self._whole(next(self._events))), "", None)
                if node.value is not None:
                    yield node

    def _whole(self, first: Any) -> list[Any]:
        """All events of one value, its aliases left as they are; remembers its anchors."""
        events: list[Any] = []
        open_at: list[tuple[str | None, int]] = []
        event = first
        while True:
            events.append(event)
            if isinstance(event, yaml.CollectionStartEvent):
                open_at.append((event.anchor, len(events) - 1))
                if len(open_at) > DEEPEST:
                    raise fatal(self._place(event), "is nested too deeply")
            elif isinstance(event, yaml.CollectionEndEvent):
                anchor, start = open_at.pop()
                if anchor is not None:
                    self._anchors[anchor] = events[start:]
            elif isinstance(event, yaml.ScalarEvent) and event.anchor is not None:
                self._anchors[event.anchor] = [event]
            elif isinstance(event, yaml.AliasEvent) and event.anchor not in self._anchors:
                raise fatal(self._place(event), "an alias of nothing before it")
            if not open_at:
                return events
            event = next(self._events)

    def _node(self, events: Iterator[Any], path: str, key: Place | None, depth: int = 0) -> Node:
        event = next(events)
        self._made += 1
        if self._made > MOST_NODES or depth > DEEPEST:
            raise fatal(self._place(event), f"comes to more than {MOST_NODES} values, or is nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            meant = self._node(iter(self._anchors[event.anchor]), path, key, depth + 1)
            return Node(meant.value, self._place(event), path, key)
        place = self._place(event)
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._mapping(events, path, depth), place, path, key)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._list(events, path, depth), place, path, key)
        return Node(_scalar(event), place, path, key)

    def _mapping(self, events: Iterator[Any], path: str, depth: int) -> dict[str, Node]:
        found: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            place = self._place(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise fatal(place, "a key must be a text")
            name = event.value
            node = self._node(events, path if name == "<<" else child(path, name), place, depth + 1)
            if name == "<<":
                merged |= self._merged(node)
            elif name in found:
                raise fatal(place, f"the key {name} stands here twice")
            else:
                found[name] = node
        return merged | found

    def _merged(self, node: Node) -> dict[str, Node]:
        parts = node.value if isinstance(node.value, list) else [node]
        merged: dict[str, Node] = {}
        for part in parts:
            if not isinstance(part.value, dict):
                raise fatal(node.place, "only a mapping can be merged")
            merged = part.value | merged
        return merged

    def _list(self, events: Iterator[Any], path: str, depth: int) -> list[Node]:
        found: list[Node] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            found.append(self._node(chain([event], events), f"{path}[{len(found)}]", None, depth + 1))
        return found

    def _place(self, event: Any) -> Place:
        return Place(self._file, event.start_mark.line + 1, event.start_mark.column + 1)


def _scalar(event: Any) -> Scalar:
    text: str = event.value
    if event.style not in (None, "") or event.tag == "tag:yaml.org,2002:str":
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _NUMBER.fullmatch(text):
        exact = number(text)
        return text if exact is None else exact
    return text
