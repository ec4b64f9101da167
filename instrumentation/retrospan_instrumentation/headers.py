"""A request's and a response's headers, asked by name at the cost of one look at their list.

httpx and httpx2 keep headers as a list of (name as sent, name in lower case, value), all bytes, and make new lists for each
question; four of them a request would cost a seventh of all that watching it costs. Where the list is not what is known
here, the public methods are asked.
"""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

Entries = Sequence[tuple[bytes, bytes, bytes]]
"""Each header: its name as sent, its name in lower case, its value."""

lowered = itemgetter(1)
_known: set[type] = set()  # classes whose private list is as said above


def learn(headers: type) -> None:
    """Look once at how a library's `Headers` keeps its list."""
    if getattr(headers([("Name", "value")]), "_list", None) == [(b"Name", b"name", b"value")]:
        _known.add(headers)


def listed(headers: Any) -> Entries:
    """All headers, as long as nobody changes them."""
    if type(headers) in _known:
        return headers._list  # type: ignore[no-any-return]  # it is known to be such
    return [(name, name.lower(), value) for name, value in headers.raw]


def has_any(headers: Any, names: frozenset[bytes]) -> bool:
    """Whether there is a header of one of these names, given in lower case."""
    given = headers._list if type(headers) in _known else listed(headers)
    return not names.isdisjoint(map(lowered, given))


def put(headers: Any, name: bytes, value: bytes) -> None:
    """Set a header, whose name is given in lower case."""
    if type(headers) in _known:
        given = headers._list
        names = [*map(lowered, given)]
        if name not in names:
            given.append((name, name, value))
            return
        if names.count(name) == 1:
            given[names.index(name)] = (name, name, value)
            return
    headers[name.decode()] = value.decode()


def value_of(given: Entries, name: bytes) -> str | None:
    """The value of a header, whose name is given in lower case; those of several joined by commas, None without one."""
    return ", ".join([value.decode("latin-1") for _, lower, value in given if lower == name]) or None
