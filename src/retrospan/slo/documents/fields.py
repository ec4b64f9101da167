"""The keys of a mapping, taken one by one with their types; what is not known is told with what is near.

fields = Fields(node, problems, ("min", "max"))
fields.text("description")                       # None, and a problem, when it is no text
"""

from collections.abc import Collection
from fractions import Fraction
from typing import Final

from retrospan.slo.documents.places import Node, Problems, at_key, near

_MOST: Final = 10**300


class Fields:
    """One mapping. What is asked for and of another type than asked is an error, and None."""

    def __init__(self, node: Node, problems: Problems, known: Collection[str], *, strict: bool = True) -> None:
        """Tell of keys that are not `known`: an error, or a warning unless `strict`."""
        self.node = node
        self._problems = problems
        self._values: dict[str, Node] = {}
        if not isinstance(node.value, dict):
            problems.error(node, f"must be a mapping, not {kind(node)}")
            return
        self._values = node.value
        tell = problems.error if strict else problems.warning
        for key, value in node.value.items():
            if key not in known:
                tell(at_key(value), f"unknown key: {near(key, known)}")

    def __contains__(self, key: str) -> bool:
        """Whether the key is there, with any value but null."""
        return self.get(key) is not None

    def keys(self) -> set[str]:
        """The keys that are there, with any value but null."""
        return {key for key, node in self._values.items() if node.value is not None}

    def get(self, key: str) -> Node | None:
        """The node of a key; None when it is missing or null."""
        node = self._values.get(key)
        return None if node is None or node.value is None else node

    def need(self, key: str) -> Node | None:
        """The same, and a problem when it is missing."""
        node = self.get(key)
        if node is None and isinstance(self.node.value, dict):
            self._problems.error(at_key(self.node), f"lacks {key}")
        return node

    def text(self, key: str) -> str | None:
        """A text."""
        return text(self.get(key), self._problems)

    def choice(self, key: str, known: Collection[str]) -> str | None:
        """A text that is one of a few."""
        node = self.get(key)
        word = text(node, self._problems)
        if node is None or word is None or word in known:
            return word
        self._problems.error(node, f"{word!r} is not known: {near(word, known)}")
        return None

    def flag(self, key: str) -> bool | None:
        """True or false."""
        node = self.get(key)
        if node is None or isinstance(node.value, bool):
            return None if node is None else bool(node.value)
        self._problems.error(node, f"must be true or false, not {kind(node)}")
        return None

    def number(self, key: str) -> Fraction | None:
        """A finite number."""
        return number(self.get(key), self._problems)

    def count(self, key: str) -> int | None:
        """A whole number of at least 1."""
        node = self.get(key)
        exact = number(node, self._problems)
        if node is None or exact is None:
            return None
        if exact.denominator == 1 and 1 <= exact <= 10**15:
            return exact.numerator
        self._problems.error(node, "must be a whole number of at least 1")
        return None

    def items(self, key: str) -> list[Node]:
        """The items of a list; none when it is missing."""
        node = self.get(key)
        if node is None or isinstance(node.value, list):
            return [] if node is None else list(node.value)  # type: ignore[arg-type]  # it is a list by now
        self._problems.error(node, f"must be a list, not {kind(node)}")
        return []


def text(node: Node | None, problems: Problems) -> str | None:
    """The text of a node."""
    if node is None:
        return None
    if not isinstance(node.value, str):
        problems.error(node, f"must be a text, not {kind(node)}")
        return None
    # Neither can be handed to SQLite; an escape in YAML may stand for half of a surrogate pair.
    if any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in node.value):
        problems.error(node, "holds a null character, or half of one")
        return None
    return node.value


def number(node: Node | None, problems: Problems) -> Fraction | None:
    """The finite number of a node, within a float's range."""
    if node is None:
        return None
    value = node.value
    if isinstance(value, bool) or not isinstance(value, (int, Fraction, float)):
        problems.error(node, f"must be a number, not {kind(node)}")
        return None
    if isinstance(value, float) or abs(Fraction(value)) > _MOST:
        problems.error(node, "is no finite number that can be calculated with")
        return None
    return Fraction(value)


def kind(node: Node) -> str:
    """What a node is, in a word."""
    if isinstance(node.value, bool):
        return "true or false"
    names = {str: "a text", dict: "a mapping", list: "a list", type(None): "nothing"}
    return names.get(type(node.value), "a number")
