"""ClickHouse's views over the Collector's `otel_traces`: the tables of a record, made from the same declaration.

    print(views("otel", "otel_traces"))     # what `retrospan engines ddl clickhouse` prints

A column's source in `tables` says what fills it, as in the exporter's projection, and by the same rules: whole milliseconds,
microseconds of the end, 0 for what goes without saying. What only a process knows stays NULL: the row's number, the hash of a
stranger's URL.
"""

from typing import Final

from retrospan_exporters import tables
from retrospan_exporters.tables import Column, Table
from retrospan_instrumentation import semconv as sc

_END: Final = "(toUnixTimestamp64Nano(Timestamp) + toInt64(Duration))"
_IS_CLIENT: Final = "SpanKind IN ('Client', 'SPAN_KIND_CLIENT')"
_RUN: Final = f"ResourceAttributes['{sc.RETROSPAN_RUN_ID}']"
_URL: Final = f"coalesce(nullIf(a['{sc.URL_FULL}'], ''), a['{sc.OLD_HTTP_URL}'])"
_ERROR: Final = f"a['{sc.ERROR_TYPE}']"
# The columns of a span, and how a table's rows are told from other spans: as `projection` does.
_FACTS: Final = {
    "@run_id": _RUN,
    "@ts": "intDiv(end_ns, 1000) / 1e6",
    "@elapsed_ms": "intDiv(toInt64(Duration) + 500000, 1000000)",
    "@host": f"coalesce(nullIf(a['{sc.SERVER_ADDRESS}'], ''), nullIf(a['{sc.OLD_NET_PEER_NAME}'], ''),"
    f" nullIf(domain({_URL}), ''), nullIf(a['{sc.OLD_HTTP_HOST}'], ''))",
    "@error": f"multiIf({_ERROR} = '' OR match({_ERROR}, '^[0-9]{{3}}$'), NULL,"
    f" match({_ERROR}, '^[A-Za-z0-9_.<>]{{1,256}}$'), arrayElement(splitByChar('.', {_ERROR}), -1), '_OTHER')",
    "@url_hash": f"nullIf(a['{sc.URL_HASH}'], '')",
    "@action": "arrayElement(splitByChar('.', name), -1)",
    "@weight": "1e0",
    "@trace_id": "nullIf(TraceId, '')",
    "@span_id": "nullIf(SpanId, '')",
    "@parent_span_id": "nullIf(ParentSpanId, '')",
    "@process_id": "toInt64OrNull(ResourceAttributes['process.pid'])",
}
_CAST: Final = {
    "text": "nullIf({}, '')",
    "integer": "toInt64OrNull({})",
    "real": "toFloat64OrNull({})",
    "bool": "multiIf({0} IN ('true', '1'), 1, {0} IN ('false', '0'), 0, NULL)",
}
_TYPES: Final = {
    "id": "Nullable(Int64)",
    "text": "Nullable(String)",
    "integer": "Nullable(Int64)",
    "real": "Nullable(Float64)",
    "bool": "Nullable(UInt8)",
    "blob": "Nullable(String)",
}


def _spans(condition: str) -> str:
    return (
        f"SELECT *, SpanAttributes AS a, SpanName AS name, {_END} AS end_ns FROM {{source}}"
        f" WHERE {_RUN} <> '' AND {condition}"
    )


_REQUESTS: Final = _spans(
    f"{_IS_CLIENT} AND (SpanAttributes['{sc.HTTP_REQUEST_METHOD}'] <> '' OR SpanAttributes['{sc.OLD_HTTP_METHOD}'] <> '')"
)
_GRANTS: Final = (
    "SELECT * EXCEPT (a, name, end_ns, `Events.Timestamp`, `Events.Name`, `Events.Attributes`),"
    " event_attributes AS a, event_name AS name, toUnixTimestamp64Nano(event_time) AS end_ns"
    f" FROM ({_REQUESTS}) ARRAY JOIN `Events.Timestamp` AS event_time, `Events.Name` AS event_name,"
    f" `Events.Attributes` AS event_attributes WHERE event_name = '{sc.RATE_LIMITER_ACQUIRE}'"
)


def _named(*names: str, needs: str | None = None) -> str:
    listed = ", ".join(f"'{name}'" for name in names)
    condition = f"SpanName IN ({listed}) AND NOT ({_IS_CLIENT} AND SpanAttributes['{sc.HTTP_REQUEST_METHOD}'] <> '')"
    return _spans(condition if needs is None else f"{condition} AND mapContains(SpanAttributes, '{needs}')")


# Which spans, and events, are the rows of a table.
_SOURCES: Final[dict[Table, tuple[str, ...]]] = {
    tables.HTTP_EVENTS: (_REQUESTS,),
    tables.RATE_EVENTS: (
        _named(sc.RATE_LIMITER_ACQUIRE, sc.RATE_LIMITER_BLOCK, sc.RATE_LIMITER_HEAD_SKIP),
        _GRANTS,
    ),
    tables.BREAKER_TRANSITIONS: (_named(sc.BREAKER_STATE_CHANGE, needs=sc.CIRCUIT_BREAKER_NEW_STATE),),
    tables.FALLBACK_ATTEMPTS: (_named(sc.SPAN_FALLBACK_ATTEMPT, needs=sc.FALLBACK_OUTCOME),),
    tables.DOWNLOADS: (_named(sc.SPAN_DOWNLOAD, needs=sc.DOWNLOAD_OUTCOME),),
    tables.BREAKER_REJECTIONS: (_named(sc.BREAKER_REJECTED),),
}

_TELLS: Final = f"SpanName = '{sc.SPAN_LAYERS}'"
_INFO: Final = {
    "run_id": _RUN,
    "started_at": "min(intDiv(toUnixTimestamp64Nano(Timestamp), 1000)) / 1e6",
    "host_name": "nullIf(any(ResourceAttributes['host.name']), '')",
    # Of each process what it told last holds all; of several, all of them.
    "layers": f"arrayStringConcat(groupUniqArrayIf(SpanAttributes['{sc.RETROSPAN_LAYERS}'], {_TELLS}), ',')",
}
_SUMMARY: Final = {
    "started_at": "min(intDiv(toUnixTimestamp64Nano(Timestamp), 1000)) / 1e6",
    "finished_at": f"intDiv(max({_END}), 1000) / 1e6",
}


def views(database: str, table: str) -> str:
    """CREATE OR REPLACE VIEW for every table of a record, in the database, over the Collector's table there."""
    source = f"{_identifier(database)}.{_identifier(table)}"
    made = [
        _view(database, of, "\nUNION ALL\n".join(_rows(of, spans.replace("{source}", source)) for spans in sources))
        for of, sources in _SOURCES.items()
    ]
    info = _aggregated(tables.RUN_INFO, _INFO, source) + f"\nHAVING countIf({_TELLS}) > 0"
    summary = _aggregated(tables.RUN_SUMMARY, {"run_id": _RUN, **_SUMMARY}, source)
    made += [_view(database, tables.RUN_INFO, info), _view(database, tables.RUN_SUMMARY, summary)]
    return "\n".join(made)


def _view(database: str, table: Table, select: str) -> str:
    return f"-- {table.meaning}\nCREATE OR REPLACE VIEW {_identifier(database)}.{table.name} AS\n{select};\n"


def _rows(table: Table, spans: str) -> str:
    columns = ",\n    ".join(f"{_value(column)} AS {column.name}" for column in table.columns)
    return f"SELECT\n    {columns}\nFROM ({spans})"


def _value(column: Column) -> str:
    if column.kind == "id":
        return "CAST(NULL AS Nullable(Int64))"
    fact = _FACTS.get(column.source[0])
    if fact is None:
        values = [_CAST[column.kind].format(f"a['{name}']") for name in column.source]
        if column.false_if is not None:
            values.append(f"if(a['{column.false_if}'] = 'true', 0, NULL)")
        fact = values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
    # Required ones stay as they are, so that ClickHouse can sort and group by them without a look for NULL.
    return fact if column.required else f"CAST({fact} AS {_TYPES[column.kind]})"


def _aggregated(table: Table, known: dict[str, str], source: str) -> str:
    """A SELECT of a row a run: of what is not known by the spans alone it is NULL."""
    columns = ",\n    ".join(
        f"{known.get(column.name, f'CAST(NULL AS {_TYPES[column.kind]})')} AS {column.name}" for column in table.columns
    )
    return f"SELECT\n    {columns}\nFROM {source}\nWHERE {_RUN} <> ''\nGROUP BY {_RUN}"


def _identifier(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
