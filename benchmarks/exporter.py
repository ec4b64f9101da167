"""What writing a span to the record costs, side by side with others; and what the record costs on disk, in memory, at a kill.

    make bench-exporter

All in one run, on spans as the hooks make them (`load`). What counts is the CPU time of the thread that exports
(`thread_time`), from finished spans of the SDK to committed rows, in batches as the processor hands them on; the contenders
come in random order, and the least of all rounds is compared, as by timeit: a busy neighbour only ever adds. Printed are ratios
only: the numbers themselves are the machine's.
"""

import argparse
import json
import os
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

import load
import processes
from opentelemetry.exporter.otlp.json.file import FileSpanExporter
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from retrospan_exporters.processor import BATCH
from retrospan_exporters.projection import Projection, plain
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_exporters.tables import EVENT_TABLES, HTTP_EVENTS, ddl

BARE: Final = "bare executemany of ready plain tuples"
OTLP: Final = "OTLP protobuf encoding, no I/O"
OURS: Final = "retrospan, SQLite"


def writing(path: Path, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.executescript(schema)
    return connection


def executemany(connection: sqlite3.Connection, statement: str) -> Callable[[Any], None]:
    def write(rows: Any) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(statement, rows)
        connection.execute("COMMIT")

    return write


def one_json_column(path: Path) -> Callable[[Sequence[ReadableSpan]], None]:
    """A SQLite exporter of the usual kind: a row a span, its attributes as JSON."""
    connection = writing(path, "CREATE TABLE spans (trace_id TEXT, span_id TEXT, parent TEXT, name TEXT, span TEXT)")
    write = executemany(connection, "INSERT INTO spans VALUES (?, ?, ?, ?, ?)")

    def row(span: ReadableSpan) -> tuple[object, ...]:
        context, parent = span.context, span.parent
        rest = {"start": span.start_time, "end": span.end_time, "attributes": dict(span.attributes or {})}
        outside = None if parent is None else f"{parent.span_id:016x}"
        return f"{context.trace_id:032x}", f"{context.span_id:016x}", outside, span.name, json.dumps(rest)

    return lambda spans: write([row(span) for span in spans])


def bare(path: Path) -> Callable[[Any], None]:
    return executemany(writing(path, ddl()), HTTP_EVENTS.insert())


def plain_rows(spans: Sequence[ReadableSpan]) -> Sequence[object]:
    return [plain(row) for row in Projection("01K9Z3NDEKTS").rows(spans, os.getpid())[HTTP_EVENTS.name]]


def ours(path: Path) -> Callable[[Any], object]:
    exporter = SQLiteSpanExporter(path, "01K9Z3NDEKTS")
    exporter.has_own_processor = True
    exporter.start()
    return exporter.export


# By name: given a file, what does the work.
CONTENDERS: Final[dict[str, Callable[[Path], Callable[[Any], object]]]] = {
    OURS: ours,
    BARE: bare,
    OTLP: lambda _: lambda spans: encode_spans(spans).SerializeToString(),
    "OTLP JSON file exporter": lambda path: FileSpanExporter(path).export,
    "console exporter, into a file": lambda path: ConsoleSpanExporter(out=path.open("w")).export,
    "a SQLite exporter with one JSON column": one_json_column,
}


def seconds(name: str, endless: Iterator[int], ended: list[ReadableSpan], batches: int) -> float:
    """CPU of this thread for so many batches of spans that ended just now, as a span processor hands them on."""
    with tempfile.TemporaryDirectory() as folder:
        work, total = CONTENDERS[name](Path(folder) / "file"), 0.0
        for number in range(batches + 1):
            ended.clear()
            for _ in islice(endless, BATCH):
                pass
            items = plain_rows(ended) if name == BARE else list(ended)
            start = time.thread_time()
            work(items)
            total += (time.thread_time() - start) * (number > 0)  # the first batch makes ready
    return total


def throughput(rounds: int) -> None:
    kept, provider = load.Kept(), TracerProvider()
    provider.add_span_processor(kept)
    endless = load.endless(provider.get_tracer("load"))
    measured: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name in random.sample(sorted(measured), len(measured)):
            measured[name].append(seconds(name, endless, kept.spans, batches=8))
    cost = {name: min(values) for name, values in measured.items()}
    print(f"{'spans a second of CPU':42} {'× bare executemany':>18} {'× OTLP encoding':>16}")
    for name in measured:
        print(f"{name:42} {cost[BARE] / cost[name]:18.2f} {cost[OTLP] / cost[name]:16.1f}")


# -- disk -------------------------------------------------------------------------------------------------------------

# The tables that tools before this one kept: ids that SQLite remembers, and three indices. The columns are ours.
ORIGINAL: Final = (
    HTTP_EVENTS.ddl().replace("INTEGER PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    "CREATE INDEX by_run ON http_events (run_id, ts)",
    "CREATE INDEX by_host ON http_events (host)",
    "CREATE INDEX by_role ON http_events (role)",
)


def bytes_a_row(schema: str, statement: str, rows: list[tuple[Any, ...]]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.sqlite"
        connection = writing(path, schema)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        empty = path.stat().st_size
        executemany(connection, statement)(rows)
        connection.close()
        return (path.stat().st_size - empty) / len(rows)


def disk(spans: int) -> None:
    projection = Projection("01K9Z3NDEKTS")
    made = projection.rows(load.finished(spans) + load.finished_others(spans // 5), os.getpid())
    rows = {name: [plain(row) for row in rows] for name, rows in made.items()}
    size = {table: bytes_a_row(ddl(), table.insert(), rows[table.name]) for table in EVENT_TABLES}
    before = bytes_a_row(";\n".join(ORIGINAL), HTTP_EVENTS.insert(), rows[HTTP_EVENTS.name])
    print(f"\n{'bytes a row':42} {'bytes':>18} {'× original tables':>18}")
    for table, octets in size.items():
        ratio = f"{octets / before:18.2f}" if table is HTTP_EVENTS else ""
        print(f"{table.name:42} {octets:18.0f} {ratio}")


# -- several processes, kills, memory ---------------------------------------------------------------------------------


def writers(seconds: float) -> None:
    one, eight = ([processes.saturate(count, seconds) for _ in range(3)] for count in (1, 8))
    rates = [statistics.median(rate for rate, _, _ in rounds) for rounds in (one, eight)]
    print(f"\n{'eight writers on one file':42} {'budget':>18}")
    print(f"{'rows a second, × one writer alone':42} {'≥ 0.85':>18} {rates[1] / rates[0]:10.2f}")
    print(f"{'longest wait of a batch, s':42} {'≤ 0.3':>18} {statistics.median(wait for _, wait, _ in eight):10.2f}")
    print(f"{'largest WAL, MB':42} {'≤ 5':>18} {max(wal for _, _, wal in eight) / 1e6:10.1f}")


def kills(rounds: int) -> None:
    print(f"\n{'age of the oldest span lost by kill -9, s':42} {'median':>18} {'worst':>10}")
    for name in ("RecorderSpanProcessor", "BatchSpanProcessor"):
        ages = [processes.age_of_oldest_lost(name) for _ in range(rounds)]
        print(f"{name:42} {statistics.median(ages):18.2f} {max(ages):10.2f}")


def memory(spans: int) -> None:
    start, end = processes.resident(spans)
    print(f"\n{f'resident after {spans:,} spans, × after a tenth':42} {end / start:18.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spans", type=int, default=20_000, help="rows of the sizes")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of the comparison")
    parser.add_argument("--saturate", type=float, default=3.0, metavar="S", help="seconds that writers run")
    parser.add_argument("--kills", type=int, default=3, help="kills a processor")
    parser.add_argument("--memory", type=int, default=300_000, metavar="SPANS")
    wanted = parser.parse_args()
    throughput(wanted.rounds)
    disk(wanted.spans)
    writers(wanted.saturate)
    kills(wanted.kills)
    memory(wanted.memory)


if __name__ == "__main__":
    main()
