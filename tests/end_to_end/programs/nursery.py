"""Forks a recording child for every line of its standard input, "RUN"; an empty line waits for one to end.

The children end spans one after the other until they are killed, and say so on the standard output that all share: "RUN ended
N" after each, "RUN flushed N" when a flush of everything up to N was acknowledged. What ended is told by the nursery: "RUN
died STATUS", with the status of waitpid.
"""

import os
import sys
from itertools import count

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

import retrospan
import retrospan.configuration  # as much as can be is imported once, before the children
import retrospan.summary


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def load(run: str) -> None:
    recorder = retrospan.configure(run_id=run, instrument=False, wrap_process=True)
    tracer = trace.get_tracer("nursery")
    for number in count():
        attributes = {"http.request.method": "GET", "http.response.status_code": number}
        tracer.start_span("GET", kind=SpanKind.CLIENT, attributes=attributes).end()
        say(run, "ended", number)
        if number % 40 == 39 and recorder.flush(10):
            say(run, "flushed", number)


trace.set_tracer_provider(TracerProvider())
runs: dict[int, str] = {}
for line in sys.stdin:
    if run := line.strip():
        child = os.fork()
        if not child:
            load(run)
        runs[child] = run
        say(run, "born", child)
    else:
        child, status = os.wait()
        say(runs.pop(child), "died", status)
