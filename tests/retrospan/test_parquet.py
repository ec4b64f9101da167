"""`retrospan parquet`: everything that a record has is in its archive, once, in files that others read."""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrospan.archive import export as exporting
from retrospan.archive.places import place_of
from retrospan_exporters import tables

from .archives import archived, command, files, fill, ids, recorded
from .records import RUN, START, healthy, making

ALL = (*tables.EVENT_TABLES, tables.RUN_INFO, tables.RUN_SUMMARY, tables.RUN_RANGES)


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "archive"


def grow(path: Path, rows: int, run_id: str = "MORE", process_id: int = 7, ts: float = START) -> None:
    """More rows, as another process of a run writes them."""
    with sqlite3.connect(path) as connection:
        connection.executemany(
            "INSERT INTO http_events (run_id, ts, status, process_id) VALUES (?, ?, 200, ?)",
            [(run_id, ts + number, process_id) for number in range(rows)],
        )
    connection.close()


def test_an_archive_holds_every_value_of_every_table(path, archive):
    rng = random.Random(1)
    with making(path) as record:
        for number in range(3):
            fill(record, rng, run_id=f"R{number}", rows=400)
            record.ended(f"R{number}", started_at=START, yield_pct=99.5, artifacts_total=7)
    result = command("parquet", "--db", path, "--out", archive)
    assert result.exit_code == 0
    with sqlite3.connect(path) as connection:
        for table in ALL:
            assert archived(archive, table) == recorded(connection, table), table.name
            assert recorded(connection, table), "the record had something to lose"
    connection.close()


def test_files_lie_by_table_and_day_and_are_named_by_run_and_process(path, archive):
    with making(path) as record:
        record.run()
        for process_id, ts in ((11, 0.0), (12, 86_399.999999), (12, 86_400.0)):
            record.add("http_events", ts=ts, process_id=process_id)
    command("parquet", "--db", path, "--out", archive)
    (identity,) = sqlite3.connect(path).execute("SELECT record_id FROM record_identity").fetchone()
    found = [file.relative_to(archive).as_posix() for file in files(archive) if "http_events" in str(file)]
    assert found == [
        f"table=http_events/date=1970-01-01/{RUN}.11.{identity}.1-3.parquet",
        f"table=http_events/date=1970-01-01/{RUN}.12.{identity}.1-3.parquet",
        f"table=http_events/date=1970-01-02/{RUN}.12.{identity}.1-3.parquet",
    ]
    metadata = pq.ParquetFile(archive / found[0]).metadata
    assert metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_second_export_adds_nothing_and_a_later_one_only_what_is_new(path, archive):
    with making(path) as record:
        record.run()
        healthy(record, 30)
    assert "60 http_events" in command("parquet", "--db", path, "--out", archive).stdout
    before = {file: file.stat().st_mtime_ns for file in files(archive)}
    assert "nothing new; 0 files" in command("parquet", "--db", path, "--out", archive).stdout
    assert {file: file.stat().st_mtime_ns for file in files(archive)} == before
    grow(path, 5, RUN)
    assert ": 5 http_events; 1 files" in command("parquet", "--db", path, "--out", archive).stdout
    assert set(ids(archive).values()) == {1}
    assert sum(table == "http_events" for table, *_ in ids(archive)) == 65


def test_what_a_run_says_of_itself_later_replaces_what_it_said(path, archive):
    with making(path) as record:
        record.run(layers="http", dropped_rows=0)
    command("parquet", "--db", path, "--out", archive)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE run_info SET layers = 'http,cache', dropped_rows = 2")
    connection.close()
    command("parquet", "--db", path, "--out", archive)
    (row,) = archived(archive, tables.RUN_INFO)
    assert dict(zip(tables.RUN_INFO.names(), row, strict=True)) | {"layers": "http,cache", "dropped_rows": 2} == dict(
        zip(tables.RUN_INFO.names(), row, strict=True)
    )


def test_a_run_that_left_the_record_stays_in_the_archive(path, archive):
    with making(path) as record:
        record.run("OLD")
        record.run("NEW")
        record.add("http_events", {}, {}, run_id="OLD")
    command("parquet", "--db", path, "--out", archive)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM run_info WHERE run_id = 'OLD'")
        connection.execute("UPDATE run_ranges SET first_id = 2")
    connection.close()
    command("parquet", "--db", path, "--out", archive)
    assert {row[0] for row in archived(archive, tables.RUN_INFO)} == {"OLD", "NEW"}
    assert archived(archive, tables.RUN_RANGES) == [("OLD", "http_events", 1, 2)]


def test_a_dry_run_says_how_much_there_is_and_changes_nothing(path, archive):
    with making(path) as record:
        healthy(record, 10)
    before = path.read_bytes()
    result = command("parquet", "--db", path, "--out", archive, "--dry-run")
    assert "would get 20 http_events, 10 fallback_attempts, 10 downloads" in result.stdout
    assert path.read_bytes() == before
    assert not archive.exists()


def test_several_records_share_an_archive(tmp_path, archive):
    for name in ("a", "b"):
        with making(tmp_path / name) as record:
            record.add("http_events", {}, {}, {})
        command("parquet", "--db", tmp_path / name, "--out", archive)
    assert len(ids(archive)) == 6
    assert set(ids(archive).values()) == {1}


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


def test_rows_of_others_are_archived_as_every_command_reads_them(path, archive):
    with making(path, legacy=True) as record:
        for run_id, ts, host, after in (
            ("R", 5, "a", None),
            ("R", 6.5, b"\xff\xfe", 0.45),
            ("R", 7, "é", 3),
            (None, 8, "no run", 1),
            ("R", None, "no time", 1),
            ("R", "soon", "no number", 1),
            ("../../../up", 9, "a path", 1),
            ("x" * 300, 10, "long", 1),
        ):
            record.connection.execute(
                "INSERT INTO http_events (run_id, ts, host, retry_after_s) VALUES (?, ?, CAST(? AS TEXT), ?)",
                (run_id, ts, host, after),
            )
    result = command("parquet", "--db", path, "--out", archive)
    assert result.exit_code == 0, result.stderr
    assert "3 rows without a run or a time left out" in result.stderr
    names = tables.HTTP_EVENTS.names()
    rows = [dict(zip(names, row, strict=True)) for row in archived(archive, tables.HTTP_EVENTS)]
    found = {row["id"]: (row["run_id"][:11], row["ts"], row["host"], row["retry_after_s"], row["wire"]) for row in rows}
    assert found == {
        1: ("R", 5.0, "a", None, None),
        2: ("R", 6.5, "��", 0.45, None),
        3: ("R", 7.0, "é", 3.0, None),
        7: ("../../../up", 9.0, "a path", 1.0, None),
        8: ("x" * 11, 10.0, "long", 1.0, None),
    }
    assert all(archive in file.parents for file in files(path.parent))


def test_a_column_that_is_empty_for_long_keeps_its_type(path, archive, monkeypatch):
    monkeypatch.setattr("retrospan.archive.source._ROWS", 10)
    with making(path) as record:
        record.add("http_events", *[{}] * 30, {"retry_after_s": 0.45, "error": "ReadTimeout", "trace_id": b"x" * 16})
    command("parquet", "--db", path, "--out", archive)
    last = archived(archive, tables.HTTP_EVENTS)
    assert [row for row in last if "ReadTimeout" in row and 0.45 in row and b"x" * 16 in row]


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


def test_four_engines_agree_on_the_archive(path, archive):
    """DuckDB, Polars, pandas and pyarrow: the same counts; timestamps are timestamps, enums strings, flags booleans."""
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    dataset = pytest.importorskip("pyarrow.dataset")
    rng = random.Random(2)
    with making(path) as record:
        for number in range(2):
            fill(record, rng, run_id=f"R{number}", rows=300)
    command("parquet", "--db", path, "--out", archive)
    for table in tables.EVENT_TABLES:
        pattern = f"{archive}/table={table.name}/*/*.parquet"
        (count,) = sqlite3.connect(path).execute(f"SELECT COUNT(*) FROM {table.name}").fetchone()
        of_duckdb = duckdb.sql(f"FROM read_parquet('{pattern}', hive_partitioning = true)")
        of_polars = polars.scan_parquet(pattern, hive_partitioning=True).collect()
        of_pandas = pandas.read_parquet(archive / f"table={table.name}", engine="pyarrow")
        of_pyarrow = dataset.dataset(archive / f"table={table.name}", partitioning="hive").to_table()
        assert {of_duckdb.shape[0], len(of_polars), len(of_pandas), of_pyarrow.num_rows} == {count} != {0}
        types = dict(zip(of_duckdb.columns, map(str, of_duckdb.types), strict=True))
        for column in table.columns:
            told = {
                types[column.name],
                str(of_polars.schema[column.name]),
                str(of_pandas.dtypes[column.name]),
                str(of_pyarrow.schema.field(column.name).type),
            }
            assert told <= TYPES["moment" if column.moment else column.kind], column.name
        assert of_polars["ts"].max() == of_pyarrow["ts"].to_pandas().max() == of_pandas["ts"].max()
        assert set(of_polars["run_id"].unique()) == set(of_pandas["run_id"].unique()) == {"R0", "R1"}


TYPES: dict[str, set[str]] = {
    "moment": {
        "TIMESTAMP WITH TIME ZONE",
        "Datetime(time_unit='us', time_zone='UTC')",
        "datetime64[us, UTC]",
        "timestamp[us, tz=UTC]",
    },
    "text": {"VARCHAR", "String", "str", "string", "object"},
    "bool": {"BOOLEAN", "Boolean", "bool", "object"},
    "integer": {"BIGINT", "Int64", "int64", "float64"},
    "id": {"BIGINT", "Int64", "int64"},
    "real": {"DOUBLE", "Float64", "float64", "double"},
    "blob": {"BLOB", "Binary", "object", "binary"},
}


@pytest.mark.parametrize("rounds", [5, pytest.param(50, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_an_export_killed_at_random_moments_is_completed_by_the_next(path, archive, rounds, monkeypatch):
    """Between kills the record grows. At every moment each file is whole, and no row is there twice; in the end all are."""
    rng = random.Random(rounds)
    with making(path) as record:
        for number in range(4):
            fill(record, rng, run_id=f"R{number}", rows=200, days=2)
    # Small ranges, so that most of the time is the export's.
    code = "from retrospan.archive import export; export._RANGE = 60; from retrospan.cli import main; main()"
    arguments = [sys.executable, "-c", code, "parquet", "--db", str(path), "--out", str(archive)]
    killed = 0
    for number in range(rounds):
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
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


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """moto's S3 server on loopback."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.long
def test_an_object_store_holds_the_same_archive(path, store, monkeypatch):
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "planted-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": store,
    }.items():
        monkeypatch.setenv(name, value)
    files = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    files.mkdir("bucket")
    with making(path) as record:
        fill(record, random.Random(3), run_id="R", rows=300)
    assert command("parquet", "--db", path, "--out", "s3://bucket/archive").exit_code == 0
    grow(path, 5, "R")
    result = command("parquet", "--db", path, "--out", "s3://bucket/archive")
    assert "s3://bucket/archive: 5 http_events" in result.stdout
    names = [name for name in files.find("bucket/archive") if "table=http_events" in name]
    rows = pa.concat_tables(pq.read_table(files.open(name)) for name in names)
    held: list[Any] = sorted(rows["id"].to_pylist())
    (count,) = sqlite3.connect(path).execute("SELECT COUNT(*) FROM http_events").fetchone()
    assert held == list(range(1, count + 1))
    place = place_of("s3://bucket/archive")
    assert place.read("_retrospan/none.json") is None
    missing = command("parquet", "--db", path, "--out", "s3://missing/archive")
    assert missing.exit_code == 2
    assert "planted-secret" not in missing.stderr


def test_a_second_export_writes_nothing_however_fine_the_clock_is(path, archive):
    with making(path) as record:
        record.run("R", started_at=1_760_000_000.1234567)  # finer than the microseconds of an archive
        record.add("http_events", run_id="R")
        record.ended("R", started_at=1_760_000_000.1234567, finished_at=1_760_000_009.7654321)
    assert "1 http_events" in command("parquet", "--db", path, "--out", archive).stdout
    assert "nothing new; 0 files written" in command("parquet", "--db", path, "--out", archive).stdout
