"""Nothing that ended is lost, however the process ends, and its exit status stays what it was."""

import signal
import sqlite3
from pathlib import Path

import pytest

from .support import SPANS, finish, read, start, statuses, wait_until

SIGTERM, SIGHUP, SIGINT = (-int(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT))

# How a program ends right after its last span, and its exit status. Spans 0 to 19 ended before.
ENDINGS = {
    "returns": ("pass", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "raises": ("raise RuntimeError", 1),
    "os._exit": ("os._exit(7)", 7),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", SIGTERM),
    "SIGHUP": ("os.kill(os.getpid(), signal.SIGHUP); time.sleep(60)", SIGHUP),
    "SIGINT": ("os.kill(os.getpid(), signal.SIGINT); naps()", SIGINT),
    "sys.exit in a thread": ("t = threading.Thread(target=sys.exit, args=(3,)); t.start(); t.join()", 0),
    "a handler that exits": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9)); os.kill(os.getpid(), signal.SIGTERM); naps()",
        9,
    ),
    "a handler that leaves by os._exit": (
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(9)); os.kill(os.getpid(), signal.SIGTERM); naps()",
        9,
    ),
    **{
        f"a handler of {name} taken off again": (
            f"before = signal.signal(signal.{name}, print); signal.signal(signal.{name}, signal.SIG_DFL)\n"
            f"assert signal.getsignal(signal.{name}) is signal.SIG_DFL; os.kill(os.getpid(), signal.{name}); time.sleep(60)",
            -getattr(signal, name),
        )
        for name in ("SIGTERM", "SIGHUP", "SIGINT")
    },
    **{
        f"a handler of {name} that exits": (
            f"signal.signal(signal.{name}, lambda *_: sys.exit(9)); os.kill(os.getpid(), signal.{name}); naps()",
            9,
        )
        for name in ("SIGHUP", "SIGINT")
    },
    "a handler that chains to what it finds": (
        "found = signal.getsignal(signal.SIGTERM)\n"
        "def chained(number, frame):\n"
        "    if callable(found): found(number, frame)\n"
        "    else: signal.signal(number, found); os.kill(os.getpid(), number)\n"
        "signal.signal(signal.SIGTERM, chained); os.kill(os.getpid(), signal.SIGTERM); naps()",
        SIGTERM,
    ),
    "a signal that the program ignores": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.kill(os.getpid(), signal.SIGTERM); sys.exit(4)",
        4,
    ),
    "SIGINT under asyncio.run": (
        "import asyncio\n"
        "async def main():\n"
        "    os.kill(os.getpid(), signal.SIGINT); await asyncio.sleep(60)\n"
        "asyncio.run(main())",
        SIGINT,
    ),
    "a loop's handler that ends the program": (
        "import asyncio\n"
        "async def main():\n"
        "    over = asyncio.Event()\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)\n"
        "    os.kill(os.getpid(), signal.SIGTERM); await over.wait(); sys.exit(6)\n"
        "asyncio.run(main())",
        6,
    ),
    "a handler of asyncio's, and its loop closed": (
        "import asyncio\n"
        "async def main():\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)\n"
        "asyncio.run(main()); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)",
        SIGTERM,
    ),
    "SIGTERM under asyncio.run": (
        "import asyncio\n"
        "async def main():\n"
        "    os.kill(os.getpid(), signal.SIGTERM); await asyncio.sleep(60)\n"
        "asyncio.run(main())",
        SIGTERM,
    ),
    "SIGTERM while the main thread sits in C": (
        "import sqlite3; threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "sqlite3.connect(':memory:').execute("
        "'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n').fetchall()",
        SIGTERM,
    ),
    "exec": ("os.execv(sys.executable, [sys.executable, '-c', 'pass'])", 0),
    "exec that fails": ("try: os.execv('/nowhere', ['x'])\nexcept OSError: sys.exit(5)", 5),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_that_ended_is_lost_and_the_exit_status_stays(tmp_path: Path, ending: str) -> None:
    record, (code, status) = tmp_path / "telemetry.sqlite", ENDINGS[ending]
    assert finish(start(record, f"{SPANS}\nspans(0)\n{code}"))[0] == status
    assert statuses(record) == list(range(20))
    assert read(record, "SELECT COUNT(*) FROM run_summary") == [(1,)]
    assert {path.name for path in tmp_path.iterdir()} == {"program.py", "telemetry.sqlite", "telemetry.sqlite-lock"}


# Spans 0 to 19 are the parent's, 20 to 39 the child's.
CHILDREN = {
    "fork and os._exit": "child = os.fork()\nif not child: spans(20); os._exit(0)\nos.waitpid(child, 0)",
    "fork and sys.exit": "child = os.fork()\nif not child: spans(20); sys.exit(0)\nos.waitpid(child, 0)",
    "fork and SIGTERM": (
        "child = os.fork()\nif not child: spans(20); os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\n"
        "assert os.waitpid(child, 0)[1] == signal.SIGTERM"
    ),
    "late threads": "threading.Timer(0.2, spans, (20,)).start()",
    "exit handlers": "import atexit; atexit.register(spans, 20)",
    **{
        f"multiprocessing, {method}": (
            "import multiprocessing\n"
            "if __name__ == '__main__':\n"
            f"    process = multiprocessing.get_context('{method}').Process(target=spans, args=(20,))\n"
            "    process.start(); process.join(); assert process.exitcode == 0"
        )
        for method in ("fork", "spawn", "forkserver")
    },
    "fork while the writer is busy": (
        "import sqlite3\n"
        "assert trace.get_tracer_provider().force_flush(); late = threading.Event()\n"
        "holder = sqlite3.connect(os.environ['RETROSPAN_DB'], isolation_level=None, check_same_thread=False)\n"
        "holder.execute('BEGIN IMMEDIATE'); spans(20, 10); time.sleep(0.1)\n"
        "threading.Timer(0.3, holder.execute, ('ROLLBACK',)).start(); child = os.fork()\n"
        "if not child: spans(30, 10); os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0; holder.close()"
    ),
    **{
        f"a process pool, {method}": (
            "import multiprocessing\n"
            "from concurrent.futures import ProcessPoolExecutor\n"
            "if __name__ == '__main__':\n"
            f"    context = multiprocessing.get_context('{method}')\n"
            "    with ProcessPoolExecutor(2, mp_context=context) as pool: list(pool.map(span, range(20, 40)))"
        )
        for method in ("fork", "spawn", "forkserver")
    },
    # Its workers die of SIGTERM when the pool is left, one is replaced before.
    "a multiprocessing pool": (
        "import multiprocessing\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.Pool(2, maxtasksperchild=3) as pool: pool.map(span, range(20, 40), chunksize=1)"
    ),
    "a process that is terminated": (
        "import multiprocessing\n"
        "def work(ended): spans(20); ended.set(); naps()\n"
        "ended = multiprocessing.get_context('fork').Event()\n"
        "process = multiprocessing.get_context('fork').Process(target=work, args=(ended,))\n"
        "process.start(); ended.wait(); process.terminate(); process.join(); assert process.exitcode == -15"
    ),
}


@pytest.mark.parametrize("child", CHILDREN)
def test_children_and_late_threads_lose_nothing_and_the_run_is_one(tmp_path: Path, child: str) -> None:
    record = tmp_path / "telemetry.sqlite"
    # A spawned child imports the program again, and is not to be the parent once more.
    status, _, err = finish(start(record, f"{SPANS}\nif __name__ == '__main__':\n    spans(0)\n{CHILDREN[child]}"))
    assert (status, err) == (0, "")
    assert statuses(record) == list(range(40))
    assert read(record, "SELECT COUNT(*) FROM run_info") == read(record, "SELECT COUNT(*) FROM run_summary") == [(1,)]


# Programs that record from code, each with a handler of its own that is there first.
CONFIGURED = {
    "a handler set before that exits": ("signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))", "", 9),
    "a default set before": ("signal.signal(signal.SIGINT, signal.SIG_DFL)", "", SIGINT),
    "a handler set after that calls ours": (
        "",
        "found = signal.signal(signal.SIGTERM, lambda *event: (found(*event), sys.exit(8)))",
        8,
    ),
    "ignored before": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "threading.Timer(0.1, os._exit, (5,)).start()",
        5,
    ),
}


@pytest.mark.parametrize("order", CONFIGURED)
def test_recording_from_code_leaves_the_programs_handlers_what_they_were(tmp_path: Path, order: str) -> None:
    record, (before, after, status) = tmp_path / "telemetry.sqlite", CONFIGURED[order]
    number = "SIGINT" if status == SIGINT else "SIGTERM"
    program = f"""{SPANS}
{before}
import retrospan
recorder = retrospan.configure(instrument=False)
{after}
spans(0)
if {status == 5}: recorder.flush()
os.kill(os.getpid(), signal.{number}); naps()
"""
    assert finish(start(record, program, launcher=()))[0] == status
    assert statuses(record) == list(range(20))


UNTOUCHED = """
import _signal, posix
print(_signal.getsignal(signal.SIGTERM) == 0, signal.signal.__module__ == "signal", signal.getsignal.__module__ == "signal",
      signal.set_wakeup_fd is _signal.set_wakeup_fd,
      os._exit is posix._exit, os.execv is posix.execv, os.execve is posix.execve)
"""


@pytest.mark.parametrize(
    ("variables", "signals", "functions"),
    [
        ({}, "False False False False", "False False False"),
        ({"RETROSPAN_SIGNALS": "false"}, "True True True True", "False False False"),
        ({"RETROSPAN_WRAP_PROCESS": "false"}, "False True True True", "True True True"),
        ({"RETROSPAN_SIGNALS": "off", "RETROSPAN_WRAP_PROCESS": "0"}, "True True True True", "True True True"),
    ],
)
def test_what_is_wrapped_can_be_switched_off(
    tmp_path: Path, variables: dict[str, str], signals: str, functions: str
) -> None:
    record = tmp_path / "telemetry.sqlite"
    status, out, _ = finish(start(record, f"{SPANS}\n{UNTOUCHED}\nspans(0)", **variables))
    assert (status, out.split()) == (0, [*signals.split(), *functions.split()])
    assert statuses(record) == list(range(20))


def test_many_forks_under_load_lose_nothing_double_nothing_and_hang_nowhere(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    program = f"""{SPANS}
stop = threading.Event()
ended = [0]
def load():
    while not stop.is_set():
        span(1000); ended[0] += 1; time.sleep(0.0005)
thread = threading.Thread(target=load); thread.start()
for number in range(30):
    child = os.fork()
    if not child:
        span(number); os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set(); thread.join(); print(ended[0])
"""
    status, out, err = finish(start(record, program))
    assert (status, err) == (0, "")
    assert statuses(record) == [*range(30), *[1000] * int(out)]


def test_a_child_that_outlives_its_parent_loses_nothing(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    program = f"""{SPANS}
parent, (reader, writer) = os.getpid(), os.pipe()
spans(0)
assert trace.get_tracer_provider().force_flush()
if not os.fork():
    spans(20)
    assert trace.get_tracer_provider().force_flush()
    os.write(writer, b"x")
    while os.getppid() == parent:
        time.sleep(0.01)
    spans(40)
else:
    os.read(reader, 1)
"""
    status, _, err = finish(start(record, program))
    assert (status, err) == (0, "")
    assert statuses(record) == list(range(60))


def test_a_child_that_starts_when_its_parents_run_has_ended_takes_part_in_it(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    # The shell has the child wait for the end of its standard input, which is the parent's.
    program = f"""{SPANS}
import subprocess
if sys.argv[1:]:
    spans(20)
    sys.exit()
spans(0)
reader, writer = os.pipe()
subprocess.Popen(["sh", "-c", 'read line; exec "$0" "$@"', sys.executable, __file__, "late"], stdin=reader)
"""
    status, _, err = finish(start(record, program))
    assert (status, err) == (0, "")
    assert statuses(record) == list(range(40))
    assert read(record, "SELECT COUNT(*) FROM run_info") == [(1,)]
    assert read(record, "SELECT COUNT(DISTINCT run_id) FROM http_events") == [(1,)]


def test_a_signal_that_a_child_dies_of_is_not_its_parents(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    # Longer than the second after which a main thread that does not answer is given up.
    program = f"""{SPANS}
child = os.fork()
if not child:
    os.kill(os.getpid(), signal.SIGTERM)
assert os.waitpid(child, 0)[1] == signal.SIGTERM
time.sleep(1.5)
spans(0)
"""
    assert finish(start(record, program))[::2] == (0, "")
    assert statuses(record) == list(range(20))


def test_kill_9_leaves_a_sound_record_with_all_that_was_flushed(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    process = start(record, f"{SPANS}\nspans(0); print('ended', flush=True); sys.stdin.read()")
    assert process.stdout is not None
    assert process.stdout.readline() == "ended\n"
    wait_until(lambda: len(statuses(record)) == 20, "the flush interval had passed")
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert statuses(record) == list(range(20))
    assert read(record, "PRAGMA integrity_check") == [("ok",)]
    assert read(record, "SELECT COUNT(*) FROM run_info") == [(1,)]
    assert read(record, "SELECT COUNT(*) FROM run_summary") == [(0,)]


def test_processes_that_write_one_file_lose_nothing_and_show_no_error(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    # None begins before all take part in the run, which would otherwise be complete with the first.
    program = f"{SPANS}\nprint('there', flush=True); sys.stdin.readline(); spans(int(sys.argv[1]) * 1_000, 1_000)"
    processes = [start(record, program, str(number), RETROSPAN_RUN_ID="shared") for number in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert finish(process)[::2] == (0, "")
    assert statuses(record) == list(range(3_000))
    assert read(record, "SELECT run_id, table_name, first_id, last_id FROM run_ranges") == [
        ("shared", "http_events", 1, 3_000)
    ]
    assert len(read(record, "SELECT DISTINCT process_id FROM http_events")) == 3
    assert [path.name for path in tmp_path.glob("*-wal")] == []


def test_a_stuck_record_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    assert finish(start(record, "pass"))[0] == 0
    holder = sqlite3.connect(record, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    ending = "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    assert finish(start(record, f"{SPANS}\nspans(0)\n{ending}"))[0] == SIGTERM
    assert holder.in_transaction
    holder.close()
    assert statuses(record) == []
