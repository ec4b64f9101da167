"""The common case, fast: a request's span of our hooks becomes a row by a function made for its very attributes.

    names = tuple(attributes)
    shape = known.get(names) or learn(names)
    row = shape.make(span, attributes.values(), run_id, process_id, {}, {})     # None: look at it with care
    connection.executemany(shape.insert.text, [row])

Spans that have the same attributes in the same order are of one shape. Its function and its INSERT are generated from the
declaration of `tables` when the first one comes: each value is read once, and only the columns that the shape has are bound,
since most rows lack half of them. A span that is not as it should be (a wrong type, a text too long, a number too great) is
left to `projection`, as is every span that is not ours.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.trace import SpanKind

from retrospan_instrumentation import semconv as sc

from .tables import HTTP_EVENTS, Column
from .values import GREATEST, LATEST, LONGEST, class_name

Row = tuple[Any, ...]
Octets = dict[int, bytearray]

# Facts that are an attribute of our own spans, and those that are computed: their code, given the span.
_ATTRIBUTE_OF: Final = {"@host": sc.SERVER_ADDRESS, "@url_hash": sc.URL_HASH, "@error": sc.ERROR_TYPE}
_COMPUTED: Final = {
    "@run_id": "run_id",
    "@ts": "end // 1000 / 1e6",
    "@elapsed_ms": "elapsed_ms",
    "@trace_id": "trace_octets",
    "@span_id": 'bytearray(context[1].to_bytes(8, "big"))',
    "@parent_span_id": "parent_octets",
    "@process_id": "process_id",
}
_NEEDED: Final = frozenset((sc.HTTP_REQUEST_METHOD, sc.SERVER_ADDRESS, sc.URL_HASH))
# What may be empty after all: no parent, an error that is a mere status.
_EMPTY: Final = {"@parent_span_id": "x''", "@error": "''"}


@dataclass(frozen=True, slots=True, eq=False)
class Insert:
    """A statement that rows of one form are bound to, and the table that it writes."""

    table: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What is made of spans with the same attributes. `make` takes the span, its attributes' values, the run, the process and
    the octets of traces and parents met before; it gives None for a span that is to be looked at with care."""

    insert: Insert
    make: Callable[..., Row | None]


def learn(names: tuple[str, ...]) -> Shape:
    """The shape of spans with attributes of these names, in this order; UNCOMMON unless they are as our hooks write them, and
    when there are too many shapes already."""
    if not _NEEDED.issubset(names) or len(known) >= _MOST:
        return UNCOMMON
    read = {column: name for column in HTTP_EVENTS.inserted() if (name := _attribute(column, names)) is not None}
    columns = [column for column in HTTP_EVENTS.inserted() if column in read or column.source[0] in _COMPUTED]
    shape = known[names] = Shape(Insert(HTTP_EVENTS.name, _insert(columns)), _compiled(_source(names, read, columns)))
    return shape


def _attribute(column: Column, names: Iterable[str]) -> str | None:
    """The attribute that fills the column: the first of its sources that is there."""
    sources = (_ATTRIBUTE_OF.get(source, source) for source in column.source)
    return next((source for source in sources if source in names), None)


def _insert(columns: list[Column]) -> str:
    """Parameters are numbered, since what goes without saying is said by the one that it depends on."""
    numbers = {column.name: f"?{number}" for number, column in enumerate(columns, 1)}
    by_attribute = {column.source[0]: numbers[column.name] for column in columns}
    values = {
        column.name: f"nullif({numbers[column.name]}, {_EMPTY[column.source[0]]})"
        if column.source[0] in _EMPTY
        else numbers[column.name]
        for column in columns
    }
    for column in HTTP_EVENTS.inserted():
        if column.name not in values and column.false_if in by_attribute:
            values[column.name] = f"CASE WHEN {by_attribute[column.false_if]} THEN 0 END"
    return f"INSERT INTO {HTTP_EVENTS.name} ({', '.join(values)}) VALUES ({', '.join(values.values())})"


def _source(names: tuple[str, ...], read: dict[Column, str], columns: list[Column]) -> str:
    """The Python text of `Shape.make`."""
    taken = {name: column.name for column, name in read.items()}
    targets = ", ".join(taken.get(name, "_") for name in names)
    results = [_COMPUTED.get(c.source[0]) or (f"+{c.name}" if c.kind == "bool" else c.name) for c in columns]
    return "\n".join(
        (
            "def make(span, values, run_id, process_id, traces, parents):",
            f"    {targets} = tuple(values)",
            "    end, context, parent = span._end_time, span._context, span._parent",
            "    elapsed_ms = (end - span._start_time + 500_000) // 1_000_000",
            f"    if not ({' and '.join(_checks(list(read)))}):",
            "        return None",
            *(["    error = class_name(error)"] if sc.ERROR_TYPE in taken else []),
            # A SpanContext is a tuple; its properties cost a call each.
            "    number = context[0]",
            "    trace_octets = traces.get(number)",
            "    if trace_octets is None:",
            '        trace_octets = traces[number] = bytearray(number.to_bytes(16, "big"))',
            "    if parent is None:",
            "        parent_octets = nobody",
            "    else:",
            "        number = parent[1]",
            "        parent_octets = parents.get(number)",
            "        if parent_octets is None:",
            '            parent_octets = parents[number] = bytearray(number.to_bytes(8, "big"))',
            f"    return ({', '.join(results)})",
        )
    )


def _checks(columns: list[Column]) -> list[str]:
    """What makes a span common. One look at all numbers: the bits of any that is negative or too great show in their union,
    and what is no whole number has none. The same for truth values, which are 0 or 1."""
    of_kind = {
        kind: [c.name for c in columns if c.kind == kind and c.name != "error"] for kind in ("text", "bool", "real")
    }
    integers = ["elapsed_ms", *(column.name for column in columns if column.kind == "integer")]
    return [
        "span._kind is CLIENT",
        *of_kind["text"],
        f'len(texts := "".join(({", ".join(of_kind["text"])},))) <= {LONGEST}',
        "texts.isascii()",
        f"0 <= {' | '.join(integers)} <= {GREATEST}",
        f"0 <= {' | '.join(['0', *of_kind['bool']])} <= 1",
        *(f"type({name}) is float and 0.0 <= {name} < {LATEST}" for name in of_kind["real"]),
    ]


def _compiled(source: str) -> Callable[..., Row | None]:
    names: dict[str, Any] = {"CLIENT": SpanKind.CLIENT, "class_name": class_name, "nobody": bytearray()}
    exec(compile(source, "<row of a shape>", "exec"), names)
    make: Callable[..., Row | None] = names["make"]
    return make


UNCOMMON: Final = Shape(Insert("", ""), lambda *_: None)
# Of this process. Making one takes a millisecond; what comes beyond the bound is looked at with care.
_MOST: Final = 128
known: Final[dict[tuple[str, ...], Shape]] = {}
