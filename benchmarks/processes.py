"""Processes that write records: saturated side by side, killed, or for long.

    rate, longest_wait, largest_wal = saturate(8, seconds=3.0)
    age_of_oldest_lost("BatchSpanProcessor")
    resident(5_000_000)

Each starts this file again with a role.
"""

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from itertools import count, islice
from pathlib import Path
from typing import Any

import load
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind

from retrospan_exporters.processor import BATCH, RecorderSpanProcessor
from retrospan_exporters.sqlite import SQLiteSpanExporter


def start(role: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__, role, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "RETROSPAN_RUN_ID": "bench"},
    )


def answer(process: "subprocess.Popen[str]") -> list[float]:
    assert process.stdout is not None
    return [float(word) for word in process.stdout.readline().split()]


# -- saturated writers ------------------------------------------------------------------------------------------------


def saturate(writers: int, seconds: float) -> tuple[float, float, int]:
    """(rows a second of all together, longest wait of a batch in seconds, largest size of the WAL) of so many writers."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "telemetry.sqlite"
        started = [start("write", record, seconds) for _ in range(writers)]
        for process in started:
            answer(process)
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        largest = 0
        while any(process.poll() is None for process in started):
            log = record.with_name("telemetry.sqlite-wal")
            largest = max(largest, log.stat().st_size if log.exists() else 0)
            time.sleep(0.02)
        said = [answer(process) for process in started]
        for process in started:
            process.communicate()
    return sum(rate for rate, _ in said), max(wait for _, wait in said), largest


def write(record: str, seconds: str) -> None:
    """Export batches without a pause; print rows a second and the longest batch."""
    exporter = SQLiteSpanExporter(record)
    exporter.has_own_processor = True
    spans = load.finished(BATCH)
    exporter.start()
    print(0, flush=True)
    sys.stdin.readline()
    began = now = time.monotonic()
    longest, rows = 0.0, 0
    while now - began < float(seconds):
        exporter.export(spans)
        rows += len(spans)
        longest, now = max(longest, time.monotonic() - now), time.monotonic()
    print(rows / (now - began), longest, flush=True)
    exporter.release()


# -- kills ------------------------------------------------------------------------------------------------------------


def age_of_oldest_lost(processor: str) -> float:
    """Seconds between the end of the oldest span that a kill -9 lost and the kill; 0 when none was."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder) / "telemetry.sqlite"
        log = Path(folder) / "log"  # what a killed process has written to a file is there
        process = start("end_spans", record, processor, log)
        try:
            answer(process)
            time.sleep(random.uniform(6.0, 10.0))
        finally:
            killed = time.time()
            process.kill()
            process.communicate()
        ended = dict(line.split() for line in log.read_text().splitlines() if line.count(" ") == 1)
        connection = sqlite3.connect(record)
        written = {str(status) for (status,) in connection.execute("SELECT status FROM http_events")}
        connection.close()
    return max((killed - float(at) for number, at in ended.items() if number not in written), default=0.0)


def end_spans(record: str, processor: str, log: str) -> None:
    """End twenty spans a second, and say of each its number and when."""
    exporter = SQLiteSpanExporter(record)
    provider = TracerProvider()
    if processor == "RecorderSpanProcessor":
        provider.add_span_processor(RecorderSpanProcessor(exporter))
    else:
        exporter.has_own_processor = True  # it is known here what is not promised
        provider.add_span_processor(BatchSpanProcessor(exporter))
    tracer, descriptor = provider.get_tracer("load"), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    print(0, flush=True)
    for number in count():
        attributes: dict[str, Any] = {"http.request.method": "GET", "http.response.status_code": number}
        tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=attributes).end()
        os.write(descriptor, f"{number} {time.time()}\n".encode())
        time.sleep(0.05)


# -- memory -----------------------------------------------------------------------------------------------------------


def resident(spans: int) -> tuple[float, float]:
    """Memory of a process, in MB, after a tenth of so many spans and after all of them."""
    with tempfile.TemporaryDirectory() as folder:
        process = start("endure", Path(folder) / "telemetry.sqlite", spans)
        try:
            first, last = answer(process), answer(process)
        finally:
            process.communicate()
    return first[0], last[0]


def endure(record: str, spans: str) -> None:
    """End spans as fast as they are written; print the memory after a tenth and at the end."""
    provider = TracerProvider()
    recorder = RecorderSpanProcessor(SQLiteSpanExporter(record))
    provider.add_span_processor(recorder)
    ending, tenth = load.endless(provider.get_tracer("load")), int(spans) // 10
    for part in range(10):
        for number in islice(ending, tenth):
            if number % 4096 == 0:
                recorder.flush(30)
        recorder.flush(30)
        if part in (0, 9):
            print(resident_megabytes(), flush=True)
    assert recorder.dropped == 0
    recorder.stop()


def resident_megabytes() -> float:
    (pages,) = Path("/proc/self/statm").read_text().split()[1:2]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    {"write": write, "end_spans": end_spans, "endure": endure}[sys.argv[1]](*sys.argv[2:])
