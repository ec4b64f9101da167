"""One finished span becomes rows: the declaration of `tables` turned into code.

    rows = Projection("01K9Z3NDEKTS").rows(spans, os.getpid())      # {"http_events": [(...), ...], ...}
    connection.executemany(insert(HTTP_EVENTS), rows["http_events"])

Mapped is by convention, not by who emitted: any CLIENT span with a request method is a row of `http_events`, whether it has the
present HTTP names or the old ones. Our other names have a table each; every other span has none. An attempt or a download
without its outcome is not ours: programs call spans so, too.

A row is made to be bound fast: sqlite3 adapts None, bool and bytes at twice the cost of an int or a str, so what is missing
is "", -1 or an empty bytearray here, and NULL by `insert`. None of the columns can hold these in earnest. `plain` gives a
row as Python has it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation.urls import host_of, url_hash

from . import shapes, tables
from .shapes import Insert, Octets, Row
from .tables import Column, Table
from .values import GREATEST, LATEST, LONGEST, boolean, class_name, integer, real, text

Rows = dict[str, list[Row]]
Batches = dict[Insert, list[Row]]
_Ids = tuple[bytearray, bytearray, bytearray, int]

_logger = logging.getLogger("retrospan")

_LONGEST_OF: Final = {"final_path": 4096, "artifact_id": 1024, "work_id": 1024}
_MISSING: Final = {"text": "''", "integer": "-1", "real": "-1.0", "bool": "-1", "blob": "x''"}
_NOBODYS: Final[tuple[Table | None, str | None]] = (None, None)

# What a table's rows are named by, and the attribute without which a span of that name is somebody else's.
_NAMED: Final[dict[str, tuple[Table, str | None]]] = {
    sc.RATE_LIMITER_ACQUIRE: (tables.RATE_EVENTS, None),
    sc.RATE_LIMITER_BLOCK: (tables.RATE_EVENTS, None),
    sc.RATE_LIMITER_HEAD_SKIP: (tables.RATE_EVENTS, None),
    sc.BREAKER_STATE_CHANGE: (tables.BREAKER_TRANSITIONS, sc.CIRCUIT_BREAKER_NEW_STATE),
    sc.BREAKER_REJECTED: (tables.BREAKER_REJECTIONS, None),
    sc.SPAN_FALLBACK_ATTEMPT: (tables.FALLBACK_ATTEMPTS, sc.FALLBACK_OUTCOME),
    sc.SPAN_DOWNLOAD: (tables.DOWNLOADS, sc.DOWNLOAD_OUTCOME),
}


def insert(table: Table) -> str:
    """The INSERT for rows of a projection: what was missing becomes NULL."""
    columns = table.inserted()
    values = ", ".join("?" if column.required else f"nullif(?, {_MISSING[column.kind]})" for column in columns)
    return f"INSERT INTO {table.name} ({', '.join(column.name for column in columns)}) VALUES ({values})"


INSERTS: Final = {table.name: Insert(table.name, insert(table)) for table in tables.EVENT_TABLES}


def plain(row: Row) -> Row:
    """A row with None for what is missing, and bytes for blobs."""
    return tuple(
        None if value in ("", -1, b"") else bytes(value) if isinstance(value, bytearray) else value for value in row
    )


class Projection:
    """The rows of one run."""

    def __init__(self, run_id: str) -> None:
        self.run_id = text(run_id)
        self.unreadable = 0

    def rows(self, spans: Iterable[ReadableSpan], process_id: int) -> Rows:
        """Rows of these spans, by table, for `insert`. A span that cannot be read is counted in `unreadable`, and the others
        go on."""
        rows: Rows = {table.name: [] for table in tables.EVENT_TABLES}
        for span in spans:
            try:
                for name, row in self._with_care(span, process_id):
                    rows[name].append(row)
            except Exception as error:
                self._cannot_read(error)
        return rows

    def batches(self, spans: Iterable[ReadableSpan], process_id: int) -> Batches:
        """The same rows, by the statement that takes them: the fast way into SQLite. Each begins with the run's id.

        Within a table, rows of one statement keep their order.
        """
        made: Batches = {}
        traces: Octets = {}
        parents: Octets = {}
        run_id, known = self.run_id, shapes.known.get
        for span in spans:
            try:
                try:
                    attributes = span._attributes._dict  # type: ignore[union-attr]
                    names = tuple(attributes)
                    shape = known(names) or shapes.learn(names)
                    row = shape.make(span, attributes.values(), run_id, process_id, traces, parents)
                    events: Any = span._events
                    has_events = events if type(events) is tuple else events._dq
                except (AttributeError, TypeError, IndexError):  # of another SDK, or not as it should be
                    row = None
                if row is None:
                    for name, row in self._with_care(span, process_id):
                        made.setdefault(INSERTS[name], []).append(row)
                    continue
                statement = shape.insert
                if statement in made:
                    made[statement].append(row)
                else:
                    made[statement] = [row]
                if has_events:
                    made.setdefault(INSERTS["rate_events"], []).extend(self._grants(span, (*_ids(span), process_id)))
            except Exception as error:
                self._cannot_read(error)
        return made

    def _cannot_read(self, error: Exception) -> None:
        self.unreadable += 1
        if self.unreadable == 1:
            _logger.error("A span could not be read (%s) and is not recorded.", type(error).__name__)

    def _with_care(self, span: ReadableSpan, process_id: int) -> Iterator[tuple[str, Row]]:
        """(table, row) of a span, each value looked at."""
        name = span.name
        table, needed = _NAMED.get(name, _NOBODYS)
        is_client = span.kind is SpanKind.CLIENT
        if table is None and not is_client:
            return
        attributes = _dict_of(span)
        ids = (*_ids(span), process_id)
        if is_client and (sc.HTTP_REQUEST_METHOD in attributes or sc.OLD_HTTP_METHOD in attributes):
            yield "http_events", self._request(span, attributes, ids)
            if _has_events(span):
                for row in self._grants(span, ids):
                    yield "rate_events", row
        elif table is not None and (needed is None or needed in attributes):
            yield (
                table.name,
                _ROW[table.name](
                    attributes.get,
                    self.run_id,
                    _seconds(span.end_time),
                    ids,
                    host=attributes.get(sc.SERVER_ADDRESS, ""),
                    elapsed_ms=_milliseconds(span),
                    action=name.rpartition(".")[2],
                ),
            )

    def _request(self, span: ReadableSpan, attributes: Mapping[str, Any], ids: _Ids) -> Row:
        get = attributes.get
        hashed, host, error = get(sc.URL_HASH), get(sc.SERVER_ADDRESS, ""), get(sc.ERROR_TYPE, "")
        if hashed is None:
            hashed, host, error = _of_a_stranger(span, attributes)
        at = _seconds(span.end_time)
        return _http(get, self.run_id, at, ids, host, _milliseconds(span), class_name(error), hashed)

    def _grants(self, span: ReadableSpan, ids: _Ids) -> Iterator[Row]:
        """The permits that a limiter granted at once, told by events of the request's span."""
        for event in span.events:
            if event.name == sc.RATE_LIMITER_ACQUIRE:
                told = dict(event.attributes or {})
                host = told.get(sc.SERVER_ADDRESS, "")
                yield _rate(told.get, self.run_id, _seconds(event.timestamp), ids, host, action="acquire")


def _seconds(nanoseconds: int | None) -> float:
    return (nanoseconds // 1000) / 1e6  # type: ignore[operator]  # what has ended has its times


def _milliseconds(span: ReadableSpan) -> int:
    return (span.end_time - span.start_time + 500_000) // 1_000_000  # type: ignore[operator]


def _ids(span: ReadableSpan) -> tuple[bytearray, bytearray, bytearray]:
    context, parent = span.context, span.parent
    return (
        bytearray(context.trace_id.to_bytes(16, "big")),
        bytearray(context.span_id.to_bytes(8, "big")),
        bytearray() if parent is None else bytearray(parent.span_id.to_bytes(8, "big")),
    )


# Two looks behind the SDK's properties, each with the public way beside it: an ended span's attributes change no more, and
# copying them, as its events, costs as much as half a row.


def _dict_of(span: ReadableSpan) -> Mapping[str, Any]:
    try:
        attributes: Mapping[str, Any] = span._attributes._dict  # type: ignore[union-attr]
    except AttributeError:
        return dict(span.attributes or {})
    return attributes


def _has_events(span: ReadableSpan) -> bool:
    try:
        return len(span._events) > 0
    except AttributeError:
        return True


def _of_a_stranger(span: ReadableSpan, attributes: Mapping[str, Any]) -> tuple[str, str, object]:
    """(hash of the URL, host, error) of a request's span that is not ours; "" for what is not known."""
    url = next((url for name in (sc.URL_FULL, sc.OLD_HTTP_URL) if isinstance(url := attributes.get(name), str)), None)
    error = attributes.get(sc.ERROR_TYPE)
    if error is None and span.status.status_code is StatusCode.ERROR and not _has_status(attributes):
        raised = (dict(event.attributes or {}) for event in span.events if event.name == "exception")
        error = next((attributes.get("exception.type") for attributes in raised), None)
    return "" if url is None else url_hash(url), _foreign_host(attributes, url), error or ""


def _has_status(attributes: Mapping[str, Any]) -> bool:
    return sc.HTTP_RESPONSE_STATUS_CODE in attributes or sc.OLD_HTTP_STATUS_CODE in attributes


def _foreign_host(attributes: Mapping[str, Any], url: str | None) -> str:
    """The host that another instrumentation names; never what may stand beside it in an authority."""
    for name in (sc.SERVER_ADDRESS, sc.OLD_NET_PEER_NAME, sc.OLD_HTTP_HOST):
        named = attributes.get(name)
        if isinstance(named, str) and named:
            is_ipv6 = named.count(":") > 1 and "[" not in named and "@" not in named
            host = host_of(named if "://" in named else f"http://[{named}]" if is_ipv6 else f"http://{named}")
            if host is not None:
                return host
    return (host_of(url) if url is not None else None) or ""


# -- the declaration as code -----------------------------------------------------------------------------------------

_MakeRow = Callable[..., Row]
_PARAMETERS: Final = 'get, run_id, ts, ids, host, elapsed_ms=-1, error="", url_hash="", action=""'
_FACTS: Final = {
    "@run_id": "run_id",
    "@ts": "ts",
    "@host": "host",
    "@elapsed_ms": "elapsed_ms",
    "@error": "error",
    "@url_hash": "url_hash",
    "@action": "action",
    "@weight": "1.0",
    "@trace_id": "trace_id",
    "@span_id": "span_id",
    "@parent_span_id": "parent_span_id",
    "@process_id": "process_id",
}
# Facts that may come from a stranger, and so are looked at like attributes.
_DOUBTFUL: Final = ("@host", "@elapsed_ms", "@url_hash")
_PYTHON_MISSING: Final = {"text": '""', "integer": "-1", "real": "-1.0", "bool": "-1"}
_CAREFUL: Final = {"text": text, "integer": integer, "real": real, "bool": boolean}


def _source(table: Table) -> str:
    """The Python text of the function that makes one row of a table.

    It reads each attribute once, looks once whether all are as they should be, and only if not at each of them.
    """
    columns = [column for column in table.inserted() if column.source]
    read = [column for column in columns if not column.source[0].startswith("@")]
    doubtful = read + [column for column in columns if column.source[0] in _DOUBTFUL]
    kinds = {kind: [c.name for c in doubtful if c.kind == kind] for kind in _CAREFUL}
    integers = kinds["integer"]
    checks = [f'len(texts := "".join(({", ".join(kinds["text"])},))) <= {LONGEST}', "texts.isascii()"]
    if integers:
        checks.append(" is ".join(f"type({name})" for name in integers) + " is int")
        checks += [f"-2 < {name} <= {GREATEST}" for name in integers]
    checks += [f"type({name}) is float and -1.0 <= {name} < {LATEST}" for name in kinds["real"]]
    return "\n".join(
        (
            f"def {table.name}({_PARAMETERS}):",
            "    trace_id, span_id, parent_span_id, process_id = ids",
            *(f"    {column.name} = {_read(column)}" for column in read),
            "    try:",
            *(f"        {name} = as_bool({name}, -1)" for name in kinds["bool"]),
            f"        sound = {' and '.join(checks)}",
            "    except TypeError:",
            "        sound = False",
            "    if not sound:",
            *(f"        {column.name} = {_read_with_care(column)}" for column in doubtful),
            f"    return ({', '.join(_FACTS.get(c.source[0], c.name) for c in columns)})",
        )
    )


def _read(column: Column) -> str:
    value = _PYTHON_MISSING[column.kind]
    if column.false_if is not None:
        value = f'0 if get("{column.false_if}") is True else {value}'
    for name in reversed(column.source):
        value = f'get("{name}", {value})'
    return value


def _read_with_care(column: Column) -> str:
    longest = f", {_LONGEST_OF[column.name]}" if column.name in _LONGEST_OF else ""
    return f"{_CAREFUL[column.kind].__name__}({column.name}{longest})"


def _compiled(table: Table) -> _MakeRow:
    names: dict[str, Any] = {function.__name__: function for function in _CAREFUL.values()}
    names["as_bool"] = {True: 1, False: 0}.get
    exec(compile(_source(table), f"<row of {table.name}>", "exec"), names)
    function: _MakeRow = names[table.name]
    return function


_ROW: Final = {table.name: _compiled(table) for table in tables.EVENT_TABLES}
_http, _rate = _ROW[tables.HTTP_EVENTS.name], _ROW[tables.RATE_EVENTS.name]
