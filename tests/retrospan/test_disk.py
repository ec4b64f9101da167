"""`--verify disk`: the files that a record says are stored, hashed again."""

import hashlib
import os

import pytest

from retrospan.slo.disk import Disk

from .commands import retrospan
from .records import RUN, healthy, making

CONTENT = b"%PDF-1.7 some"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def stored(path, tmp_path):
    """Say that these files are stored, as a folder beside the record has them: name -> what is there."""
    root = tmp_path / "archive"
    root.mkdir()

    def store(**files):
        with making(path) as record:
            record.run(layers="download")
            for name, content in files.items():
                if content is not None:
                    (root / name).write_bytes(content)
                sound = {"outcome": "stored", "sha256": DIGEST, "final_path": name, "content_length": len(CONTENT)}
                record.add("downloads", artifact_id=name, host="h.example", source="oa", **sound)
            record.ended()
        return root

    return store


def corruption(path, root, *options):
    finished = retrospan("slo", "--db", path, "--root", root, *options)
    (line,) = [line for line in finished.stdout.splitlines() if line.startswith("corruption")]
    return line.split()[1:3], finished.stdout


def test_files_with_their_hash_are_no_corruption(path, stored):
    root = stored(a=CONTENT, b=CONTENT)
    assert corruption(path, root, "--verify", "disk")[0] == ["pass", "0"]


def test_a_missing_file_and_one_of_another_hash_are_corruption_only_when_looked_at(path, stored):
    root = stored(a=CONTENT, gone=None, changed=b"something else")
    assert corruption(path, root)[0] == ["pass", "0"]
    found, told = corruption(path, root, "--verify", "disk")
    assert found == ["fail", "2"]
    assert "disk     differs: 1 of 1 bad (50 % of the bad), missing: 1 of 1 bad (50 % of the bad)" in told


def test_what_the_row_itself_lacks_is_corruption_without_a_look(path, tmp_path):
    with making(path) as record:
        record.run(layers="download")
        record.add("downloads", outcome="stored", sha256="0" * 64)
    found, told = corruption(path, tmp_path, "--verify", "disk")
    assert found == ["fail", "1"]
    assert "  disk " not in told


def test_a_path_that_is_absolute_is_taken_as_it_is(path, tmp_path):
    file = tmp_path / "file.pdf"
    file.write_bytes(CONTENT)
    with making(path) as record:
        record.run(layers="download")
        record.add("downloads", outcome="stored", sha256=DIGEST.upper(), final_path=str(file), content_length=1)
    assert corruption(path, tmp_path, "--verify", "disk")[0] == ["pass", "0"]


@pytest.mark.parametrize(
    ("final_path", "fault"),
    [
        ("no/such", "missing"),
        ("file/x", "missing"),
        ("folder", "unreadable"),
        ("pipe", "unreadable"),
        ("a\0b", "unreadable"),
    ],
)
def test_what_is_no_regular_file_is_never_read(tmp_path, final_path, fault):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert Disk(tmp_path).fault(final_path, DIGEST) == fault


def test_a_file_is_read_once_whatever_rows_claim_it(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    disk = Disk(tmp_path)
    assert disk.fault("file", DIGEST) is None
    (tmp_path / "file").unlink()
    assert disk.fault("file", DIGEST) is None
    assert disk.fault("file", "0" * 64) == "differs"


def test_nothing_stored_is_no_data_on_disk_too(path, tmp_path):
    with making(path) as record:
        record.run(layers="download")
        record.add("downloads", outcome="failed")
    assert corruption(path, tmp_path, "--verify", "disk")[0] == ["no_data", "-"]


def test_the_summary_is_the_rows_whatever_is_on_disk(path, tmp_path):
    with making(path) as record:
        record.run()
        healthy(record, 5)
    finished = retrospan("slo", "--db", path, "--verify", "disk", "--root", tmp_path, "--format", "json")
    import json

    report = json.loads(finished.stdout)
    assert next(slo["value"] for slo in report["slos"] if slo["name"] == "corruption") == 5
    assert report["summary"]["run_id"] == RUN
