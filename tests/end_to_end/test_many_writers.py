"""Several processes write one file: none waits for another for good, no row is lost, no error is shown, the log stays small."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

from retrospan_exporters.processor import BATCH, RecorderSpanProcessor
from retrospan_exporters.sqlite import SQLiteSpanExporter

from .support import SPANS, environment, finish, read, start, statuses, wait_until

WAL_BYTES = 5_000_000
WRITER = f"""{SPANS}
import retrospan
retrospan.configure(instrument=False, wrap_process=True)
first, count = map(int, sys.argv[1:])
"""


# The parent began the run; its eight children write at once.
EIGHT = """
for number in range(8):
    if not os.fork():
        spans(number * count, count)
        os._exit(0)
for _ in range(8):
    assert os.wait()[1] == 0
"""


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.parametrize(
    ("count", "seconds"),
    [(500, 30), pytest.param(20_000, 280, marks=[pytest.mark.long, pytest.mark.timeout(300)])],
    ids=["500 spans", "20000 spans"],
)
def test_eight_processes_lose_nothing_show_no_error_and_keep_the_log_small(
    tmp_path: Path, count: int, seconds: float
) -> None:
    record = tmp_path / "telemetry.sqlite"
    log, sizes, over = record.with_name("telemetry.sqlite-wal"), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            sizes.append(size(log))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        assert finish(start(record, f"{WRITER}{EIGHT}", "0", str(count), launcher=()), seconds)[::2] == (0, "")
    finally:
        over.set()
        watcher.join()
    print("WAL over time, MB:", [f"{octets / 1e6:.1f}" for octets in sizes[:: max(1, len(sizes) // 20)]])
    assert statuses(record) == list(range(8 * count))
    assert 0 < max(sizes) < WAL_BYTES
    assert size(log) == 0
    assert read(record, "SELECT first_id, last_id FROM run_ranges") == [(1, 8 * count)]
    assert read(record, "PRAGMA integrity_check") == [("ok",)]


HOLDER = """
import os, signal, sys
from retrospan_exporters.database import Database
with Database(sys.argv[1]).transaction() as connection:
    print("holds", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.parametrize("end", [signal.SIGCONT, signal.SIGKILL])
def test_a_writer_that_is_stopped_in_its_turn_does_not_hold_the_others_up_for_good(
    tmp_path: Path, end: signal.Signals
) -> None:
    record = tmp_path / "telemetry.sqlite"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, record], stdout=subprocess.PIPE, text=True, env=environment(record)
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        _, status = os.waitpid(holder.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        # The program ends its spans meanwhile, and waits for no disk.
        writer = start(
            record,
            f"{WRITER}spans(first, count); print('ended', flush=True); sys.stdin.readline()",
            "0",
            "100",
            launcher=(),
        )
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == "ended\n"
        holder.send_signal(end)
        wait_until(lambda: len(statuses(record)) == 100, "the waiting rows were written")
        assert finish(writer)[0] == 0
    finally:
        holder.kill()
        holder.communicate()
    assert statuses(record) == list(range(100))


def test_a_long_reader_stops_no_writer_and_the_log_is_cut_when_it_has_read(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    exporter = SQLiteSpanExporter(record, "R")
    recorder, provider = RecorderSpanProcessor(exporter), TracerProvider()
    provider.add_span_processor(recorder)
    tracer, log = provider.get_tracer("tests"), record.with_name("telemetry.sqlite-wal")

    def end_spans(count: int) -> None:
        for number in range(count):
            attributes = {"http.request.method": "GET", "http.request.role": f"{number:0200}"}
            tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=attributes).end()
        assert recorder.flush(30)

    end_spans(1)
    reader = sqlite3.connect(record, isolation_level=None)
    reader.execute("BEGIN")
    seen = reader.execute("SELECT COUNT(*) FROM http_events").fetchone()
    end_spans(40 * BATCH)
    assert reader.execute("SELECT COUNT(*) FROM http_events").fetchone() == seen == (1,)
    assert read(record, "SELECT COUNT(*) FROM http_events") == [(40 * BATCH + 1,)]
    assert size(log) > WAL_BYTES
    reader.execute("COMMIT")
    reader.close()
    end_spans(4 * BATCH)
    assert size(log) < WAL_BYTES
    assert recorder.stop()
    assert (exporter.dropped, recorder.dropped) == (0, 0)
    assert read(record, "SELECT COUNT(*) FROM http_events") == [(44 * BATCH + 1,)]
