"""A TOML text as nodes that know where they stand.

    node("slo.toml", '[slo.yield]\\nmin = "85%"').value["slo"].value["yield"].value["min"].place     # slo.toml:2:7

`tomllib` reads the text and is the judge of it. Since it keeps no places, the text, known to be right by then, is walked
once more for where each key and value begins.
"""

import re
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final, NamedTuple

from retrospan.slo.documents.places import DEEPEST, Node, Place, child, fatal, number

_TOKEN: Final = re.compile(
    r"""(?P<space>(?:[ \t\r]|\#[^\n]*)+)
    | (?P<line>\n)
    | (?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | \"(?:\\.|[^\"\\\n])*\" | '[^'\n]*')
    | (?P<mark>[][{}=,.])
    | (?P<bare>[^][{}=,."'\#\s]+)""",
    re.VERBOSE | re.DOTALL,
)
# tomllib ends a message with where: "(at line 3, column 7)", or "(at end of document)".
_AT: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")

Keys = tuple[str | int, ...]


class _Spot(NamedTuple):
    key: Place
    value: Place


def node(file: str, text: str) -> Node:
    """The document. Raises DefinitionError, with the place, for a text that is no TOML."""
    _check_depth(file, text)
    try:
        document = tomllib.loads(text, parse_float=_float)
    except tomllib.TOMLDecodeError as error:
        raise fatal(_place(file, text, str(error)), _AT.sub("", str(error))) from error
    except (ValueError, RecursionError) as error:
        said = "is nested too deeply" if isinstance(error, RecursionError) else "holds a number that is too long"
        raise fatal(Place(file), said) from error
    return _node(document, (), "", Place(file), _Walk(file, text).spots())


def _check_depth(file: str, text: str) -> None:
    """Refuse keys of very many parts, for which tomllib would take all time and memory there is."""
    dots = 0
    for token in _tokens(file, text):
        if token.kind == "end":
            return
        dots = dots + 1 if token.text == "." else dots if token.kind in ("bare", "string") else 0
        if dots > DEEPEST:
            raise fatal(token.place, "is nested too deeply")


def _float(text: str) -> Any:
    exact = number(text)
    return float(text) if exact is None else exact


def _place(file: str, text: str, said: str) -> Place:
    found = _AT.search(said)
    if found is None:
        return Place(file)
    if found[1] is None:
        return Place(file, text.count("\n") + 1, len(text) - text.rfind("\n"))
    return Place(file, int(found[1]), int(found[2]))


def _node(value: Any, keys: Keys, path: str, above: Place, spots: dict[Keys, _Spot]) -> Node:
    if len(keys) > DEEPEST:
        raise fatal(above, "is nested too deeply")
    spot = spots.get(keys, _Spot(above, above))
    if isinstance(value, dict):
        inner = {key: _node(part, (*keys, key), child(path, key), spot.value, spots) for key, part in value.items()}
        return Node(inner, spot.value, path, spot.key)
    if isinstance(value, list):
        items = [_node(part, (*keys, n), f"{path}[{n}]", spot.value, spots) for n, part in enumerate(value)]
        return Node(items, spot.value, path, spot.key)
    plain = value if isinstance(value, (str, int, float, Fraction)) else value.isoformat()
    return Node(plain, spot.value, path, spot.key)


class _Token(NamedTuple):
    kind: str
    text: str
    place: Place


class _Walk:
    """Once over a text that is TOML: where its keys and values begin."""

    def __init__(self, file: str, text: str) -> None:
        self._tokens = _tokens(file, text)
        self._at = next(self._tokens)
        self._spots: dict[Keys, _Spot] = {}
        self._arrays: dict[Keys, int] = {}

    def spots(self) -> dict[Keys, _Spot]:
        """The places by the path of keys."""
        table: Keys = ()
        while self._at.kind != "end":
            if self._at.text == "[" and self._at.kind == "mark":
                table = self._header()
            elif self._at.kind == "line":
                self._next()
            else:
                self._pair(table)
        return self._spots

    def _next(self) -> _Token:
        before, self._at = self._at, next(self._tokens)
        return before

    def _is(self, mark: str) -> bool:
        return self._at.kind == "mark" and self._at.text == mark

    def _header(self) -> Keys:
        place = self._next().place
        several = self._is("[")
        if several:
            self._next()
        keys = self._inside(self._keys())
        if several:
            self._arrays[keys] = self._arrays.get(keys, -1) + 1
            keys = (*keys, self._arrays[keys])
        self._spots[keys] = _Spot(place, place)
        while self._at.kind not in ("line", "end"):
            self._next()
        return keys

    def _inside(self, keys: list[str]) -> Keys:
        """The path that a header names: of an array of tables it means the last."""
        path: Keys = ()
        for place, key in enumerate(keys):
            path = (*path, key)
            if path in self._arrays and place < len(keys) - 1:
                path = (*path, self._arrays[path])
        return path

    def _keys(self) -> list[str]:
        keys = [_key(self._next())]
        while self._is("."):
            self._next()
            keys.append(_key(self._next()))
        return keys

    def _pair(self, table: Keys) -> None:
        key = self._at.place
        names = self._keys()
        self._next()
        for end in range(1, len(names)):
            self._spots.setdefault((*table, *names[:end]), _Spot(key, key))
        self._value((*table, *names), key)

    def _value(self, keys: Keys, key: Place | None = None) -> None:
        first = self._at
        self._spots[keys] = _Spot(key or first.place, first.place)
        if self._is("{"):
            self._next()
            while not self._is("}"):
                if self._is(",") or self._at.kind == "line":
                    self._next()
                else:
                    self._pair(keys)
            self._next()
        elif self._is("["):
            self._items(keys)
        else:
            # A number or a date may be several tokens; it ends with its line, or its place in what holds it.
            while self._at.kind not in ("line", "end") and not any(map(self._is, ",]}")):
                self._next()

    def _items(self, keys: Keys) -> None:
        self._next()
        number = 0
        while not self._is("]"):
            if self._is(",") or self._at.kind == "line":
                self._next()
            else:
                self._value((*keys, number))
                number += 1
        self._next()


def _key(token: _Token) -> str:
    if token.kind == "bare":
        return token.text
    (key,) = tomllib.loads(f"{token.text} = 0")
    return key


def _tokens(file: str, text: str) -> Iterator[_Token]:
    line, start = 1, 0
    for found in _TOKEN.finditer(text):
        kind, token = found.lastgroup or "", found[0]
        if kind != "space":
            yield _Token(kind, token, Place(file, line, found.start() - start + 1))
        if "\n" in token:
            line += token.count("\n")
            start = found.start() + token.rfind("\n") + 1
    end = _Token("end", "", Place(file, line, len(text) - start + 1))
    while True:
        yield end
