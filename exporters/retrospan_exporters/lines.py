"""A row as a line of JSON, and back: `{"table":"http_events","run_id":"01K9Z3NDEKTS","ts":1760000000.5,"status":200}`.

    line = encode(HTTP_EVENTS, {"run_id": "R", "ts": 1.5, "wire": 1})
    decode(line)                         # (HTTP_EVENTS, {"run_id": "R", "ts": 1.5, "wire": 1})

Beside the name of the table a line has the columns that are not NULL, but for the row's number, which belongs to one file. A
blob is written in hex digits, a bool as true or false. Which rows there are, and where lines go, is the business of `jsonl`.
"""

import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final

from .tables import TABLES, Column, Kind, Table

TABLE: Final = "table"
_NAMED: Final = {table.name: table for table in TABLES if table.name != "run_ranges"}
_COLUMNS: Final = {table.name: {column.name: column for column in table.inserted()} for table in TABLES}
_GREATEST: Final = 2**63 - 1
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class BadLine(ValueError):
    """A line that is no row: says why."""


def encode(table: Table, row: Mapping[str, Any]) -> bytes:
    """The line of a row, its line end included; columns that are None are left out."""
    columns = _COLUMNS[table.name]
    told = {name: _ENCODED.get(columns[name].kind, _same)(value) for name, value in row.items() if value is not None}
    return f"{_ENCODER.encode({TABLE: table.name, **told})}\n".encode()


def decode(line: bytes) -> tuple[Table, dict[str, Any]]:
    """The table and the columns of a line. Raises BadLine when it is no row of a record."""
    try:
        told = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise BadLine("is no JSON, or was cut off") from None
    if not isinstance(told, dict):
        raise BadLine("is no JSON object")
    name = told.pop(TABLE, None)
    table = _NAMED.get(name) if isinstance(name, str) else None
    if table is None:
        raise BadLine("names no table of a record")
    columns = _COLUMNS[table.name]
    row = {}
    for key, value in told.items():
        if key not in columns:
            raise BadLine(f"has a column that {table.name} has not: was it written by a newer Retrospan?")
        row[key] = _decoded(columns[key], value)
    missing = [
        column.name for column in columns.values() if (column.required or column.key) and row.get(column.name) is None
    ]
    if missing:
        raise BadLine(f"has no {missing[0]}, which a row of {table.name} needs")
    return table, row


def _decoded(column: Column, value: object) -> Any:
    if value is None:
        return None
    try:
        return _DECODED[column.kind](value)
    except (TypeError, ValueError):
        raise BadLine(f"has a {column.name} that is no {_CALLED[column.kind]}") from None


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    text: str = _of_type(str, value)
    text.encode()
    return text


def _integer(value: Any) -> int:
    if type(value) is not int or not -_GREATEST <= value <= _GREATEST:
        raise ValueError
    return value


def _real(value: Any) -> float:
    if type(value) not in (int, float) or not isfinite(value):
        raise ValueError
    return float(value)


def _bool(value: Any) -> int:
    return int(_of_type(bool, value))


def _of_type(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _no_number(name: str) -> float:
    raise ValueError(name)


_CALLED: Final[dict[Kind, str]] = {
    "text": "text",
    "integer": "whole number",
    "real": "number",
    "bool": "true or false",
    "blob": "hex digits",
}
_ENCODED: Final[dict[Kind, Callable[[Any], Any]]] = {"bool": bool, "blob": lambda value: bytes(value).hex()}
_DECODED: Final[dict[Kind, Callable[[Any], Any]]] = {
    "text": _text,
    "integer": _integer,
    "real": _real,
    "bool": _bool,
    "blob": bytes.fromhex,
}
