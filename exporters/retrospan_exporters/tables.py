"""The tables of a record, declared once: column, type, meaning and the attributes it is read from.

The DDL, the INSERTs, the projection, the docs page and every other schema are derived from `TABLES`. The names and the
order of the columns are fixed, since other tools read them; new columns come last.

    print(ddl())                    # what `retrospan ddl sqlite` prints
    HTTP_EVENTS.names()             # ("id", "run_id", "ts", ...)

A column's `source` says what fills it: the names of span attributes, the first present one winning; or `@…`, a fact of
the span itself that `projection` computes. Side tables have no source: `run` and the summary write them.
"""

from dataclasses import dataclass
from typing import Final, Literal

from retrospan_instrumentation import semconv as sc

SCHEMA_VERSION: Final = 2
# SQLite shows whose file it is: "RSPN".
APPLICATION_ID: Final = 0x5253504E

Kind = Literal["id", "text", "integer", "real", "bool", "blob"]
_SQL_TYPES: Final = {
    "id": "INTEGER PRIMARY KEY",
    "text": "TEXT",
    "integer": "INTEGER",
    "real": "REAL",
    "bool": "INTEGER",
    "blob": "BLOB",
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its type, its meaning and what fills it. Where the attribute `false_if` is true and none of the sources is
    there, the value is false, not unknown: what goes without saying is not written on every span. A `moment` is a number of
    seconds since 1970, which a schema with timestamps has as one."""

    name: str
    kind: Kind
    meaning: str
    source: tuple[str, ...] = ()
    required: bool = False
    key: bool = False
    false_if: str | None = None
    moment: bool = False

    def ddl(self) -> str:
        """The column's line in CREATE TABLE."""
        return f"{self.name} {_SQL_TYPES[self.kind]}{' NOT NULL' if self.required else ''}"


@dataclass(frozen=True, slots=True)
class Table:
    """One table; rows of event tables are only ever inserted."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    def names(self) -> tuple[str, ...]:
        """Names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    def inserted(self) -> tuple[Column, ...]:
        """The columns that an INSERT gives: all but the row id, which SQLite counts."""
        return tuple(column for column in self.columns if column.kind != "id")

    def ddl(self) -> str:
        """CREATE TABLE IF NOT EXISTS, without a closing semicolon."""
        lines = [column.ddl() for column in self.columns]
        keys = [column.name for column in self.columns if column.key]
        if keys:
            lines.append(f"PRIMARY KEY ({', '.join(keys)})")
        return f"CREATE TABLE IF NOT EXISTS {self.name} (\n    " + ",\n    ".join(lines) + "\n)"

    def insert(self) -> str:
        """INSERT with one positional parameter for each of `inserted()`."""
        columns = self.inserted()
        return (
            f"INSERT INTO {self.name} ({', '.join(c.name for c in columns)}) VALUES ({', '.join('?' * len(columns))})"
        )


def _id() -> Column:
    return Column("id", "id", "Row number, never used twice")


def _run() -> Column:
    return Column("run_id", "text", "Run that the row belongs to", ("@run_id",), required=True)


def _ts(meaning: str = "Wall clock at the end of what the row records, seconds since 1970") -> Column:
    return Column("ts", "real", meaning, ("@ts",), required=True, moment=True)


def _ids() -> tuple[Column, ...]:
    """The added columns that say which span the row came from, and which process wrote it."""
    return (
        Column("trace_id", "blob", "Trace, 16 bytes", ("@trace_id",)),
        Column("span_id", "blob", "Span, 8 bytes", ("@span_id",)),
        Column("parent_span_id", "blob", "Span outside it, 8 bytes", ("@parent_span_id",)),
        Column("process_id", "integer", "Process that wrote the row", ("@process_id",)),
    )


_HOST: Final = ("@host",)
_ELAPSED: Final = Column(
    "elapsed_ms", "integer", "Time it took, so that its start is ts - elapsed_ms / 1000", ("@elapsed_ms",)
)

HTTP_EVENTS: Final = Table(
    "http_events",
    "One row a send of one HTTP request, on the wire or answered from cache.",
    (
        _id(),
        _run(),
        _ts(),
        Column("host", "text", "Host that the request was for", _HOST),
        Column("role", "text", "metadata, landing or artifact", (sc.HTTP_REQUEST_ROLE,)),
        Column("method", "text", "Request method", (sc.HTTP_REQUEST_METHOD, sc.OLD_HTTP_METHOD)),
        Column(
            "status",
            "integer",
            "Status; NULL when no response came",
            (sc.HTTP_RESPONSE_STATUS_CODE, sc.OLD_HTTP_STATUS_CODE),
        ),
        Column("url_hash", "text", "First 16 hex digits of the (keyed) SHA-256 of the canonical URL", ("@url_hash",)),
        Column(
            "from_cache",
            "bool",
            "A cache answered; NULL when that cannot be known",
            (sc.HTTP_CACHE_HIT,),
            false_if=sc.HTTP_REQUEST_WIRE,
        ),
        Column(
            "revalidated",
            "bool",
            "The server confirmed what the cache held",
            (sc.HTTP_CACHE_REVALIDATED,),
            false_if=sc.HTTP_REQUEST_WIRE,
        ),
        Column(
            "stale",
            "bool",
            "The cache answered past the response's lifetime",
            (sc.HTTP_CACHE_STALE,),
            false_if=sc.HTTP_REQUEST_WIRE,
        ),
        Column("retry_count", "integer", "Earlier sends of the same request", (sc.HTTP_REQUEST_RESEND_COUNT,)),
        Column("retry_after_s", "real", "Wait that the server asked for, seconds", (sc.HTTP_RESPONSE_RETRY_AFTER,)),
        Column(
            "rate_delay_ms",
            "integer",
            "Wait for the rate limiter; NULL when none was asked, 0 when it granted at once",
            (sc.RATE_LIMITER_DELAY_MS,),
        ),
        Column("breaker_state", "text", "closed, half_open or open, when the call began", (sc.CIRCUIT_BREAKER_STATE,)),
        Column(
            "breaker_recorded",
            "text",
            "What the breaker took it for: success, failure or none",
            (sc.CIRCUIT_BREAKER_RECORDED,),
        ),
        _ELAPSED,
        Column("error", "text", "Class name of what was raised, in the body too", ("@error",)),
        *_ids(),
        Column("body_bytes", "integer", "Bytes of the body that were read", (sc.HTTP_RESPONSE_BODY_SIZE,)),
        Column(
            "body_end",
            "text",
            "closed or abandoned before the end; NULL when read to the end",
            (sc.HTTP_RESPONSE_BODY_END,),
        ),
        Column("ttfb_ms", "integer", "From the send to the response's headers", (sc.HTTP_RESPONSE_TTFB_MS,)),
        Column(
            "wire", "bool", "1 sent on the wire, 0 answered by a cache without, NULL unknown", (sc.HTTP_REQUEST_WIRE,)
        ),
        Column("hop_last", "bool", "1 on the send whose response the client received", (sc.HTTP_REQUEST_HOP_LAST,)),
        Column(
            "retry_source",
            "text",
            "How the resend was known: frame, transport, request, header or inferred",
            (sc.RETRY_SOURCE,),
        ),
        Column("retry_wait_ms", "integer", "From the end of the send before to this one's start", (sc.RETRY_WAIT_MS,)),
    ),
)

RATE_EVENTS: Final = Table(
    "rate_events",
    "One row a permit that a rate limiter granted or refused, or that was deliberately not asked for.",
    (
        _id(),
        _run(),
        _ts(),
        Column("host", "text", "Host that the permit was for", _HOST),
        Column("role", "text", "metadata, landing or artifact", (sc.HTTP_REQUEST_ROLE,)),
        Column("action", "text", "acquire, block (refused for good) or head_skip", ("@action",)),
        Column("delay_ms", "integer", "Wait, from the first refusal on", (sc.RATE_LIMITER_DELAY_MS,)),
        Column("max_delay_ms", "integer", "Longest wait accepted; NULL: for ever", (sc.RATE_LIMITER_MAX_DELAY_MS,)),
        *_ids(),
        Column("weight", "real", "How many like it the row stands for: 1 unless thinned by sampling", ("@weight",)),
    ),
)

BREAKER_TRANSITIONS: Final = Table(
    "breaker_transitions",
    "One row a change of a circuit breaker's state.",
    (
        _id(),
        _run(),
        _ts(),
        Column("host", "text", "Host, or name, of the breaker", _HOST),
        Column("scope", "text", "host or resolver", (sc.CIRCUIT_BREAKER_SCOPE,)),
        Column("old_state", "text", "closed, half_open or open", (sc.CIRCUIT_BREAKER_OLD_STATE,)),
        Column("new_state", "text", "closed, half_open or open", (sc.CIRCUIT_BREAKER_NEW_STATE,)),
        Column("reset_timeout_s", "real", "Time it stays open, seconds", (sc.CIRCUIT_BREAKER_RESET_TIMEOUT,)),
        *_ids(),
    ),
)

FALLBACK_ATTEMPTS: Final = Table(
    "fallback_attempts",
    "One row an attempt to get an artifact from one source.",
    (
        _id(),
        _run(),
        _ts(),
        Column("work_id", "text", "Work that the artifact belongs to", (sc.DOWNLOAD_WORK_ID,)),
        Column("artifact_id", "text", "Artifact, by the program's own id", (sc.DOWNLOAD_ARTIFACT_ID,)),
        Column("tier", "text", "Tier of the source", (sc.FALLBACK_TIER,)),
        Column("source", "text", "Source that was tried", (sc.FALLBACK_SOURCE,)),
        Column("host", "text", "Host that answered", _HOST),
        Column(
            "outcome",
            "text",
            "success, retryable, nonretryable, timeout, skipped, error or no_pdf",
            (sc.FALLBACK_OUTCOME,),
        ),
        Column("reason", "text", "Code of why it came out so", (sc.FALLBACK_REASON,)),
        Column("status", "integer", "HTTP status that decided it", (sc.FALLBACK_STATUS,)),
        _ELAPSED,
        *_ids(),
    ),
)

DOWNLOADS: Final = Table(
    "downloads",
    "One row an artifact that was stored, or given up.",
    (
        _id(),
        _run(),
        _ts(),
        Column("work_id", "text", "Work that the artifact belongs to", (sc.DOWNLOAD_WORK_ID,)),
        Column("artifact_id", "text", "Artifact, by the program's own id", (sc.DOWNLOAD_ARTIFACT_ID,)),
        Column("outcome", "text", "stored or failed", (sc.DOWNLOAD_OUTCOME,)),
        Column("source", "text", "Source that it came from", (sc.FALLBACK_SOURCE,)),
        Column("host", "text", "Host that it came from", _HOST),
        Column("sha256", "text", "SHA-256 of the file, 64 hex digits", (sc.DOWNLOAD_SHA256,)),
        Column("final_path", "text", "Where it was stored", (sc.DOWNLOAD_FINAL_PATH,)),
        Column("content_length", "integer", "Bytes on disk", (sc.DOWNLOAD_CONTENT_LENGTH,)),
        Column("content_type", "text", "Media type", (sc.DOWNLOAD_CONTENT_TYPE,)),
        Column("dedupe_action", "text", "hardlink, copy, skipped or none", (sc.DOWNLOAD_DEDUPE_ACTION,)),
        _ELAPSED,
        Column("reason", "text", "Code of why it failed", (sc.DOWNLOAD_REASON,)),
        *_ids(),
    ),
)

RUN_SUMMARY: Final = Table(
    "run_summary",
    "One row a run that ended: what its tables came to. The gate reads the tables, never this.",
    (
        Column("run_id", "text", "Run", required=True, key=True),
        Column("started_at", "real", "Start, seconds since 1970", moment=True),
        Column("finished_at", "real", "End, seconds since 1970", moment=True),
        Column("artifacts_total", "integer", "Distinct artifacts attempted"),
        Column("artifacts_success", "integer", "Distinct artifacts stored"),
        Column("yield_pct", "real", "Stored among attempted, percent"),
        Column("ttfp_p50_ms", "real", "Time to first PDF, nearest-rank p50"),
        Column("ttfp_p95_ms", "real", "Time to first PDF, nearest-rank p95"),
        Column("cache_hit_pct", "real", "Metadata GETs answered from cache, percent"),
        Column("rate_delay_p95_ms", "real", "Wait for the limiter of metadata requests, nearest-rank p95"),
        Column("http_429_ratio", "real", "429 among responses from the network, 0 to 1"),
        Column("breaker_open_events", "integer", "Transitions into open"),
        Column("dedupe_saved_mb", "real", "Bytes not stored twice (hardlink, copy, skipped), / 2^20"),
        Column("corruption_count", "integer", "Rows that claim a file and lack hash, path or length"),
        Column("dropped_rows", "integer", "Rows that the recorder had to drop"),
    ),
)

RUN_INFO: Final = Table(
    "run_info",
    "One row a run, written when it starts, so that a live or killed run shows.",
    (
        Column("run_id", "text", "Run", required=True, key=True),
        Column("started_at", "real", "Start, seconds since 1970", required=True, moment=True),
        Column("owner_process_id", "integer", "Process whose end is the run's end"),
        Column("command", "text", "Name of the program, without its arguments"),
        Column("host_name", "text", "Machine"),
        Column("schema_version", "integer", "Version of these tables"),
        Column("sampler", "text", "Sampler of the spans, when it is not one that keeps all"),
        Column("layers", "text", f"Layers entered, comma-separated: {', '.join(sc.LAYERS)}"),
        Column("dropped_rows", "integer", "Rows that its processes had to drop, as far as they could tell it here"),
    ),
)

BREAKER_REJECTIONS: Final = Table(
    "breaker_rejections",
    "One row a call that a breaker refused: no send and no transition.",
    (
        _id(),
        _run(),
        _ts(),
        Column("host", "text", "Host, or name, of the breaker", _HOST),
        Column("scope", "text", "host or resolver", (sc.CIRCUIT_BREAKER_SCOPE,)),
        *_ids(),
    ),
)

RUN_RANGES: Final = Table(
    "run_ranges",
    "Between which ids a run's rows of a table lie: the index of a record, kept in each batch's transaction.",
    (
        Column("run_id", "text", "Run", required=True, key=True),
        Column("table_name", "text", "Table", required=True, key=True),
        Column("first_id", "integer", "Least id", required=True),
        Column("last_id", "integer", "Greatest id", required=True),
    ),
)

# Made when they are first asked for, so not among TABLES.
RECORD_IDENTITY: Final = Table(
    "record_identity",
    "One row: which record this is, wherever it is moved. `retrospan parquet` writes it once, to know what it has of it.",
    (Column("record_id", "text", "16 random hex digits", required=True),),
)
PRUNED_ROWS: Final = Table(
    "pruned_rows",
    "How many rows of a run that still has some `retrospan prune` has taken: its numbers are those of what is left.",
    (
        Column("run_id", "text", "Run", required=True, key=True),
        Column("row_count", "integer", "Rows that are gone", required=True),
    ),
)

EVENT_TABLES: Final = (HTTP_EVENTS, RATE_EVENTS, BREAKER_TRANSITIONS, FALLBACK_ATTEMPTS, DOWNLOADS, BREAKER_REJECTIONS)
TABLES: Final = (
    HTTP_EVENTS,
    RATE_EVENTS,
    BREAKER_TRANSITIONS,
    FALLBACK_ATTEMPTS,
    DOWNLOADS,
    RUN_SUMMARY,
    RUN_INFO,
    BREAKER_REJECTIONS,
    RUN_RANGES,
)


def ddl() -> str:
    """The whole schema as SQL that SQLite runs: every table, no index, and the schema's version."""
    tables = "".join(f"-- {table.meaning}\n{table.ddl()};\n\n" for table in TABLES)
    return f"{tables}PRAGMA application_id = {APPLICATION_ID};\nPRAGMA user_version = {SCHEMA_VERSION};\n"


def fill_ranges() -> tuple[str, ...]:
    """The SQL that makes `run_ranges` say where the rows are that are there: one statement an event table."""
    return tuple(
        f"INSERT INTO {RUN_RANGES.name} (run_id, table_name, first_id, last_id)"
        f" SELECT run_id, '{table.name}', min(id), max(id) FROM {table.name} WHERE typeof(run_id) = 'text' GROUP BY run_id"
        " ON CONFLICT (run_id, table_name) DO UPDATE SET first_id = excluded.first_id, last_id = excluded.last_id"
        for table in EVENT_TABLES
    )
