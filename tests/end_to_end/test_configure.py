"""`retrospan.configure()`: beside what the program has, and no more of its process than asked for."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .support import SPANS, environment, finish, read, statuses

OWN = """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
mine = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(mine))
"""


def run(record: Path, program: str, **variables: str) -> tuple[int, str, str]:
    """A program that no launcher starts."""
    return finish(
        subprocess.Popen(
            [sys.executable, "-c", f"{SPANS}\nimport retrospan\n{program}"],
            cwd=record.parent,
            env=environment(record, **variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    )


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "telemetry.sqlite"


def test_it_records_without_a_provider_and_sums_the_run_up_at_the_end(record: Path) -> None:
    assert run(record, "retrospan.configure(run_id='R'); spans(0)") == (0, "", "")
    assert statuses(record) == list(range(20))
    assert read(record, "SELECT run_id, dropped_rows FROM run_summary") == [("R", 0)]


def test_a_flush_has_the_run_in_the_record_before_anything_happened_in_it(record: Path) -> None:
    look = (
        "import sqlite3; print(sqlite3.connect('telemetry.sqlite').execute('SELECT run_id FROM run_info').fetchall())"
    )
    status, out, err = run(
        record, f"recorder = retrospan.configure(); print(recorder.flush()); {look}; print(recorder.run_id)"
    )
    flushed, runs, run_id = out.splitlines()
    assert (status, err, flushed, runs) == (0, "", "True", f"[('{run_id}',)]")


def test_it_records_beside_a_provider_and_an_exporter_that_are_there(record: Path) -> None:
    ended = "spans(0); print(len(mine.get_finished_spans()))"
    program = f"{OWN}\ntrace.set_tracer_provider(provider); retrospan.configure()\n{ended}"
    assert run(record, program) == (0, "20\n", "")
    assert statuses(record) == list(range(20))


def test_it_records_a_provider_that_is_not_the_global_one(record: Path) -> None:
    program = f"""{OWN}
retrospan.configure(tracer_provider=provider)
span(1)
provider.get_tracer("p").start_span("GET", kind=SpanKind.CLIENT, attributes={{"http.request.method": "PUT"}}).end()
"""
    assert run(record, program) == (0, "", "")
    assert read(record, "SELECT method FROM http_events") == [("PUT",)]


KINDS = """
import httpx2
try: httpx2.get("http://127.0.0.1:1/")
except httpx2.ConnectError: pass
span(7)
from retrospan_exporters.provider import RecorderSpan
print(*(f"{span.instrumentation_scope.name} {isinstance(span, RecorderSpan)}" for span in mine.get_finished_spans()))
"""


@pytest.mark.parametrize(("variables", "fast"), [({}, True), ({"RETROSPAN_FAST_SPANS": "0"}, False)])
@pytest.mark.parametrize("imports_first", [False, True])
def test_with_a_provider_of_its_own_the_hooks_spans_are_fast_and_the_program_s_stay_the_sdk_s(
    record: Path, variables: dict[str, str], fast: bool, imports_first: bool
) -> None:
    own = f"{'import retrospan_instrumentation.httpx' if imports_first else ''}\n{OWN}\ntrace.set_tracer_provider(provider)"
    program = f"{own}\nrecorder = retrospan.configure()\n{KINDS}"
    said = f"retrospan_instrumentation {fast} program False\n"
    assert run(record, program, **variables) == (0, said, "")
    rows = read(record, "SELECT status, error, host FROM http_events ORDER BY ts")
    assert rows == [(None, "ConnectError", "127.0.0.1"), (7, None, "h")]


def test_after_its_end_a_program_s_provider_is_as_it_was(record: Path) -> None:
    program = f"""{OWN}
before = provider.get_tracer("before")
recorder = retrospan.configure(tracer_provider=provider)
recorder.shutdown()
made = [type(provider), type(before), type(provider.get_tracer("after"))]
made += [type(tracer.start_span("GET")) for tracer in (before, provider.get_tracer("after"))]
print(*(f"{{one.__module__}}.{{one.__qualname__}}" for one in made))
import httpx2
try: httpx2.get("http://127.0.0.1:1/")
except httpx2.ConnectError: pass
print(len(mine.get_finished_spans()))
"""
    kinds = " ".join(
        f"opentelemetry.sdk.trace.{name}" for name in ("TracerProvider", "Tracer", "Tracer", "_Span", "_Span")
    )
    assert run(record, program) == (0, f"{kinds}\n0\n", "")


def test_the_hooks_of_all_layers_record_with_it_unless_told_otherwise(record: Path) -> None:
    request = "import httpx2\ntry: httpx2.get('http://127.0.0.1:1/')\nexcept httpx2.ConnectError: pass"
    assert run(record, f"retrospan.configure(run_id='hooked')\n{request}") == (0, "", "")
    assert run(record, f"retrospan.configure(run_id='bare', instrument=False)\n{request}") == (0, "", "")
    assert read(record, "SELECT run_id, error FROM http_events") == [("hooked", "ConnectError")]
    assert read(record, "SELECT run_id, layers FROM run_info ORDER BY 1") == [("bare", None), ("hooked", "http")]


def test_the_handle_flushes_counts_and_ends(record: Path) -> None:
    program = """
recorder = retrospan.configure(run_id="R")
assert retrospan.configure() is recorder
assert recorder.stats().last_flush is None
before = time.time()
spans(0)
assert recorder.flush()
stats = recorder.stats()
assert {table: count for table, count in stats.written.items() if count} == {"http_events": 20}
assert (stats.run_id, stats.dropped, stats.queued, stats.waiting) == ("R", 0, 0, 0)
assert before <= stats.last_flush <= time.time()
recorder.shutdown()
recorder.shutdown()
span(99)
import sqlite3
print(sqlite3.connect(recorder.path).execute("SELECT run_id FROM run_summary").fetchall())
"""
    assert run(record, program) == (0, "[('R',)]\n", "")
    assert statuses(record) == list(range(20))


@pytest.mark.parametrize("variable", ["RETROSPAN_DISABLED", "OTEL_SDK_DISABLED"])
def test_switched_off_it_records_nothing_and_its_handle_does_nothing(record: Path, variable: str) -> None:
    program = "r = retrospan.configure(); spans(0); print(r.flush(), r.stats().written['http_events']); r.shutdown()"
    assert run(record, program, **{variable: "true"}) == (0, "True 0\n", "")
    assert [path.name for path in record.parent.iterdir()] == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_loses_nothing_where_the_default_stands(record: Path, number: signal.Signals) -> None:
    program = f"retrospan.configure(); spans(0); os.kill(os.getpid(), {int(number)}); time.sleep(60)"
    assert run(record, program)[0] == -number
    assert statuses(record) == list(range(20))
    assert read(record, "SELECT COUNT(*) FROM run_summary") == [(1,)]


def test_a_handler_of_the_programs_is_left_in_place(record: Path) -> None:
    program = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); retrospan.configure(); spans(0);"
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    )
    assert run(record, program)[0] == 4
    assert statuses(record) == list(range(20))


def test_a_handler_set_later_that_calls_the_one_it_found_decides_what_comes_of_the_signal(record: Path) -> None:
    program = """
retrospan.configure()
found = signal.getsignal(signal.SIGTERM)
def handler(number, frame):
    found(number, frame)
    print("still here")
signal.signal(signal.SIGTERM, handler)
spans(0)
os.kill(os.getpid(), signal.SIGTERM)
spans(20)
"""
    assert run(record, program) == (0, "still here\n", "")
    assert statuses(record) == list(range(40))


def test_nothing_is_wrapped_unless_told(record: Path) -> None:
    look = "print(*(f is g for f, g in zip(before, (os._exit, os.execv, signal.signal, signal.getsignal))))"
    program = "before = os._exit, os.execv, signal.signal, signal.getsignal\nretrospan.configure({})\n" + look
    assert run(record, program.format(""))[1] == "True True True True\n"
    assert run(record, program.format("wrap_process=True"))[1] == "False False False False\n"
    assert run(record, program.format("signals=False") + "; print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)")[
        1
    ].endswith("True\n")


def test_importing_retrospan_loads_nothing_else(record: Path) -> None:
    program = (
        "import sys; before = set(sys.modules); import retrospan;"
        "print(sorted(m for m in set(sys.modules) - before if m.partition('.')[0] in"
        " ('retrospan', 'retrospan_exporters', 'retrospan_instrumentation', 'opentelemetry', 'sqlite3')));"
        "print(sorted(retrospan.__all__))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    names = ["Recorder", "attempt", "configure", "download", "head_skip", "resolution", "role"]
    assert ran.stdout == f"['retrospan']\n{names}\n"
