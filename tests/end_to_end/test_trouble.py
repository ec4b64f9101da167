"""Programs whose record is in trouble: they go on, end as they would have, and are told once."""

from pathlib import Path

from .support import SPANS, finish, read, start, statuses, wait_until

# From here on the kernel refuses every lock on a file, as NFS does without its lock daemon: fcntl's F_SETLK, F_SETLKW and
# their kin for open file descriptions give ENOLCK.
NO_LOCKS = """
import ctypes, platform, struct
ARCHITECTURE, FCNTL = {"x86_64": (0xC000003E, 72), "aarch64": (0xC00000B7, 25)}[platform.machine()]
ENOLCK, LOAD, EQUAL, RETURN = 37, 0x20, 0x15, 0x06
rules = [
    (LOAD, 0, 0, 0), (EQUAL, 0, 5, FCNTL), (LOAD, 0, 0, 24),
    (EQUAL, 2, 0, 6), (EQUAL, 1, 0, 7), (EQUAL, 0, 1, 37), (RETURN, 0, 0, 0x00050000 | ENOLCK), (RETURN, 0, 0, 0x7FFF0000),
]
code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
program = struct.pack("HxxxxxxP", len(rules), ctypes.addressof(kept := ctypes.create_string_buffer(code)))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0  # no new privileges
assert libc.syscall({"x86_64": 317, "aarch64": 277}[platform.machine()], 1, 1, program) == 0, ctypes.get_errno()
import fcntl, tempfile
try:
    with tempfile.TemporaryFile() as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
except OSError as error:
    assert error.errno == ENOLCK
else:
    raise AssertionError("the lock was taken")
"""


def test_where_files_take_no_locks_the_program_goes_on_and_is_told_once(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    # Not under the launcher: the filter is to be there before anything is opened, and of every thread.
    program = f"{NO_LOCKS}\n{SPANS}\nimport retrospan\nretrospan.configure()\nspans(0)\nsys.exit(3)"
    status, _, err = finish(start(record, program, launcher=()))
    assert status == 3
    told = [line for line in err.splitlines() if str(record) in line]
    assert len(told) == 1, err
    assert "takes no locks: name a file on a disk of this machine by RETROSPAN_DB" in told[0]
    assert "Traceback" not in err


def test_what_a_child_had_to_drop_is_in_the_runs_summary(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    program = f"""{SPANS}
spans(0)
child = os.fork()
if not child:
    from retrospan_exporters import processor
    processor._MOST_QUEUED = 0
    spans(20)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    assert finish(start(record, program))[::2] == (0, "")
    assert statuses(record) == list(range(20))
    assert read(record, "SELECT dropped_rows FROM run_summary") == [(20,)]


def test_rows_that_are_lost_with_the_process_are_told(tmp_path: Path) -> None:
    record = tmp_path / "telemetry.sqlite"
    record.write_bytes(b"somebody's notes, longer than a database's header is. " * 30)
    status, _, err = finish(start(record, f"{SPANS}\nspans(0)\nsys.exit(3)"))
    assert status == 3
    assert "The process ends, and 20 spans or rows that could not be written in time are lost." in err
    assert record.read_bytes().startswith(b"somebody's notes")


def test_a_record_that_is_deleted_and_put_back_under_a_running_program_costs_it_nothing_but_what_was_deleted(
    tmp_path: Path,
) -> None:
    record = tmp_path / "telemetry.sqlite"
    process = start(
        record, f"{SPANS}\nspans(0); print('ended', flush=True); sys.stdin.readline(); spans(20); spans(40)"
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "ended\n"
    wait_until(lambda: len(statuses(record)) == 20, "the first spans were written")
    for suffix in ("", "-wal", "-shm"):
        record.with_name(f"telemetry.sqlite{suffix}").unlink()
    process.stdin.write("go on\n")
    process.stdin.flush()
    assert finish(process)[::2] == (0, "")
    assert statuses(record) == list(range(20, 60))
    assert read(record, "SELECT COUNT(*) FROM run_info") == read(record, "SELECT COUNT(*) FROM run_summary") == [(1,)]
