"""Where something stands in a definition file, and what is wrong with it.

    problems = Problems()
    problems.error(node, "unknown key", near=("min", ["min", "max"]))
    problems.check()                                 # raises DefinitionError with every error found

A reader goes on after a problem, so that all are told at once.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal

from retrospan.slo.definitions import Query
from retrospan.text import printable

LARGEST: Final = 1_000_000
DEEPEST: Final = 50

Scalar = str | int | float | Fraction | None


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A character of a file; line and column count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        """As editors and terminals know it: file:line:column."""
        return f"{printable(self.file, 400)}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document and where it stands: a scalar, a mapping or a list.

    Numbers are exact (int or Fraction; a float only when not finite). `path` leads to it from the document's root;
    `key` is where its key stands, for the values of a mapping.
    """

    value: "Scalar | dict[str, Node] | list[Node]"
    place: Place
    path: str = ""
    key: Place | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong where. A warning leaves the definitions usable."""

    level: Literal["error", "warning"]
    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        """One line: file:line:column: level: path: message."""
        path = f"{printable(self.path, 200)}: " if self.path else ""
        return f"{self.place}: {self.level}: {path}{printable(self.message, 400)}"


class DefinitionError(Exception):
    """A definition file that cannot be used. `problems` are all that were found, at least one of them an error."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the problems in the order of their places."""
        self.problems = tuple(sorted(problems, key=lambda problem: problem.place))
        super().__init__("\n".join(map(str, self.problems)))


class Problems:
    """The problems found so far; and the `queries` that were read, whatever else is wrong, whose own show when they are run."""

    def __init__(self) -> None:
        """None yet."""
        self._found: dict[Problem, None] = {}
        self.queries: dict[Place, Query] = {}

    @property
    def found(self) -> list[Problem]:
        """Each once, in the order in which they were found."""
        return list(self._found)

    @property
    def errors(self) -> int:
        """How many errors there are."""
        return sum(problem.level == "error" for problem in self._found)

    def error(self, at: Node | Place, message: str) -> None:
        """What makes the definitions unusable."""
        self._add("error", at, message)

    def warning(self, at: Node | Place, message: str) -> None:
        """What is not as it should be, but has one meaning."""
        self._add("warning", at, message)

    def to_try(self, *queries: Query) -> None:
        """Have queries tried by `trial`: once each, however often they are referred to."""
        self.queries |= {Place(query.file, query.line, query.column): query for query in queries}

    def add(self, error: DefinitionError) -> None:
        """What a reader gave up at."""
        self._found |= dict.fromkeys(error.problems)

    def check(self) -> None:
        """Raise DefinitionError if there is an error among them."""
        if self.errors:
            raise DefinitionError(self._found)

    def _add(self, level: Literal["error", "warning"], at: Node | Place, message: str) -> None:
        place, path = (at, "") if isinstance(at, Place) else (at.place, at.path)
        self._found[Problem(level, place, path, message)] = None


def at_key(node: Node) -> Node:
    """The same, for problems that are the key's."""
    return node if node.key is None else Node(node.value, node.key, node.path)


def fatal(place: Place, message: str) -> DefinitionError:
    """What nothing after can be read for."""
    return DefinitionError([Problem("error", place, "", message)])


def near(word: str, known: Iterable[str]) -> str:
    """What may have been meant, as the end of a message; else what there is."""
    from difflib import get_close_matches

    names = list(known)
    close = get_close_matches(word, names, n=2) or [name for name in names if name.lower() == word.lower()]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known are {', '.join(names)}"


def child(path: str, key: str) -> str:
    """The path of a key below a path."""
    return f"{path}.{key}" if path else key


def text_of(file: Path) -> str:
    """The text of a definition file. Raises DefinitionError when it cannot be read, is no UTF-8, or too large."""
    start = Place(str(file))
    try:
        with file.open("rb") as stream:
            octets = stream.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise fatal(start, "no such file") from error
    except (OSError, ValueError) as error:
        raise fatal(start, f"cannot be read: {getattr(error, 'strerror', None) or 'not a path'}") from error
    if len(octets) > LARGEST:
        raise fatal(start, f"is larger than {LARGEST} bytes")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = octets[: error.start].decode(errors="replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise fatal(Place(str(file), line, column), "is not UTF-8") from error


def number(text: str) -> int | Fraction | float | None:
    """An exact number from its decimal text; None when it is none. Not finite, or beyond a float's range: a float."""
    from decimal import Decimal, InvalidOperation

    try:
        exact = Decimal(text.replace("_", ""))
    except InvalidOperation:
        return None
    if not exact.is_finite() or abs(exact.adjusted()) > 300 or len(exact.as_tuple().digits) > 400:
        return float(exact)
    fraction = Fraction(exact)
    return fraction.numerator if fraction.denominator == 1 else fraction
