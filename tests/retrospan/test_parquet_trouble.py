"""`retrospan parquet` amid writers, kills and other exports: nothing is lost or there twice; what cannot be done is refused."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time

import pyarrow.parquet as pq
import pytest

from retrospan.archive import export as exporting

from .archives import ALL, archived, command, files, fill, grow, ids, recorded
from .records import START, healthy, making


def test_a_copy_that_went_its_own_way_is_refused_since_its_ids_mean_other_rows(path, archive):
    with making(path) as record:
        record.add("http_events", {}, {})
    command("parquet", "--db", path, "--out", archive)
    copy = path.with_name("copy.sqlite")
    copy.write_bytes(path.read_bytes())
    grow(path, 3)
    command("parquet", "--db", path, "--out", archive)
    grow(copy, 3, "OTHER")
    for arguments in ((), ("--dry-run",)):
        refused = command("parquet", "--db", copy, "--out", archive, *arguments)
        assert refused.exit_code == 2
        assert "retrospan merge" in refused.stderr
    assert len(ids(archive)) == 5


def test_a_record_that_was_restored_from_before_its_last_export_is_refused(path, archive):
    with making(path) as record:
        record.add("http_events", {}, {})
    command("parquet", "--db", path, "--out", archive)
    backup = path.read_bytes()
    grow(path, 3)
    command("parquet", "--db", path, "--out", archive)
    path.write_bytes(backup)
    assert command("parquet", "--db", path, "--out", archive).exit_code == 2


def test_rows_that_come_while_it_is_exported_are_exported_next(path, archive):
    """A writer goes on all the time; what it wrote is archived once, nothing is missed."""
    with making(path) as record:
        healthy(record, 200)
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            grow(path, 50)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            ran = subprocess.run(
                [sys.executable, "-m", "retrospan", "parquet", "--db", path, "--out", archive], check=False
            )
            assert ran.returncode == 0
    finally:
        done.set()
        writer.join()
    command("parquet", "--db", path, "--out", archive)
    (count,) = sqlite3.connect(path).execute("SELECT COUNT(*) FROM http_events").fetchone()
    found = ids(archive)
    assert set(found.values()) == {1}
    assert sum(table == "http_events" for table, *_ in found) == count


def test_two_exports_of_a_record_do_not_meet(path, archive):
    with making(path) as record:
        record.add("http_events")
    command("parquet", "--db", path, "--out", archive)
    (identity,) = sqlite3.connect(path).execute("SELECT record_id FROM record_identity").fetchone()
    code = (
        "import sys; from retrospan.archive.places import place_of\n"
        f"with place_of({str(archive)!r}).alone({identity!r}): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        refused = command("parquet", "--db", path, "--out", archive)
        other.communicate()
    assert refused.exit_code == 2
    assert "try again when it is done" in refused.stderr
    assert command("parquet", "--db", path, "--out", archive).exit_code == 0


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_an_export_killed_at_random_moments_is_completed_by_the_next(path, archive, rounds, tmp_path, monkeypatch):
    """Between kills the record grows. At every moment each file is whole, and no row is there twice; in the end all are."""
    rng = random.Random(rounds)
    with making(path) as record:
        for number in range(4):
            fill(record, rng, run_id=f"R{number}", rows=200, days=2)
    # Small ranges, and bytecode of its own where Python may write none, so that most of the time is the export's.
    code = "from retrospan.archive import export; export._RANGE = 60; from retrospan.cli import main; main()"
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    arguments = [sys.executable, "-c", code, "parquet", "--db", str(path), "--out", str(archive)]
    dry = [*arguments, "--dry-run"]
    subprocess.run(dry, env=environment, check=True, capture_output=True)
    killed = 0
    for number in range(rounds):
        with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            marks = archive / "_retrospan"
            before = {mark: mark.read_text() for mark in marks.glob("*.json")}
            # From the first range on: a kill before that finds nothing to do harm to.
            deadline = time.monotonic() + 30
            while process.poll() is None and before == {mark: mark.read_text() for mark in marks.glob("*.json")}:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(rng.random() * 0.4)
            process.kill()
            process.communicate()
            killed += process.returncode != 0
        assert set(ids(archive).values()) <= {1}
        for file in files(archive):
            pq.ParquetFile(file).read()
        grow(path, 25, f"R{number % 4}", ts=START + 86_400 * number)
    assert killed
    monkeypatch.setattr(exporting, "_RANGE", 1000)
    assert command("parquet", "--db", path, "--out", archive).exit_code == 0
    assert command("parquet", "--db", path, "--out", archive).stdout.endswith("nothing new; 0 files written\n")
    with sqlite3.connect(path) as connection:
        for table in ALL:
            assert archived(archive, table) == recorded(connection, table)
    connection.close()
    assert not list((archive / "_retrospan").glob("*.unfinished"))
    assert json.loads(next((archive / "_retrospan").glob("*.json")).read_text())["pending"] is None


@pytest.mark.parametrize("content", ["", "{}", '{"version": 9}', '{"version": 1, "tables": {"x": 1}, "pending": null}'])
def test_a_damaged_watermark_is_told_and_nothing_is_written(path, archive, content):
    with making(path) as record:
        record.add("http_events")
    command("parquet", "--db", path, "--out", archive)
    (mark,) = (archive / "_retrospan").glob("*.json")
    mark.write_text(content)
    before = files(archive)
    refused = command("parquet", "--db", path, "--out", archive)
    assert refused.exit_code == 2
    assert mark.name in refused.stderr or "newer" in refused.stderr
    assert files(archive) == before


def test_wrong_usage_and_missing_records_exit_with_2(path, archive):
    assert command("parquet", "--db", path).exit_code == 2
    missing = command("parquet", "--db", path, "--out", archive)
    assert (missing.exit_code, archive.exists()) == (2, False)
    assert "no such file" in missing.stderr
    with making(path) as record:
        record.add("http_events")
    unknown = command("parquet", "--db", path, "--out", "nowhere://user:secret@host/bucket")
    assert unknown.exit_code == 2
    assert "secret" not in unknown.stderr


@pytest.mark.parametrize("module", ["duckdb", "adbc_driver_sqlite"])
def test_without_the_extra_it_says_what_to_install(path, archive, monkeypatch, module):
    with making(path) as record:
        record.add("http_events")
    monkeypatch.setitem(sys.modules, module, None)
    refused = command("parquet", "--db", path, "--out", archive)
    assert refused.exit_code == 2
    assert "pip install 'retrospan[parquet]'" in refused.stderr


def test_a_folder_that_cannot_be_written_is_told(path, tmp_path):
    with making(path) as record:
        record.add("http_events")
    (tmp_path / "file").write_text("in the way")
    refused = command("parquet", "--db", path, "--out", tmp_path / "file" / "archive")
    assert refused.exit_code == 2
    assert "cannot be used" in refused.stderr
