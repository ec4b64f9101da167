"""Standing archival, as it stands in deploy/: the commands are run as cron and systemd would run them."""

import os
import re
import shutil
import sqlite3
import string
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest

from .records import making, now

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
OLD = 60 * 86_400.0


@pytest.fixture
def record(path):
    with making(path) as made:
        made.run("OLD", started_at=now() - OLD)
        made.add("http_events", *[{}] * 20, run_id="OLD", ts=now() - OLD)
        made.add("http_events", *[{}] * 10, run_id="NEW", ts=now())
    return path


def settings(path, archive):
    """What the operator says, and the programs where a package would have put them."""
    here = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {"PATH": here, "RETROSPAN_DB": str(path), "RETROSPAN_ARCHIVE": str(archive), "RETROSPAN_KEEP": "30d"}


def rows(path):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT run_id, COUNT(*) FROM http_events GROUP BY run_id ORDER BY run_id").fetchall()


def cron_line():
    lines = [line for line in (DEPLOY / "crontab").read_text().splitlines() if not line.startswith("#")]
    variables, jobs = [line for line in lines if re.match(r"\w+=", line)], [line for line in lines if " * * " in line]
    assert {line.partition("=")[0] for line in variables} == {"PATH", "RETROSPAN_DB", "RETROSPAN_ARCHIVE"}
    (job,) = jobs
    assert re.match(r"\d+ \d+ \* \* \d ", job)
    assert "%" not in job, "which cron takes for the end of a line"
    return job.split(maxsplit=5)[5]


def unit(name):
    """The settings of a unit file by their names, each as often as it stands there."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_the_cron_line_archives_and_then_prunes(record, tmp_path):
    ran = subprocess.run(["sh", "-c", cron_line()], env=settings(record, tmp_path / "archive"), check=False)
    assert ran.returncode == 0
    assert list((tmp_path / "archive").rglob("OLD*.parquet"))
    assert rows(record) == [("NEW", 10)]


def test_the_cron_line_prunes_nothing_when_the_archive_cannot_be_written(record, tmp_path):
    (tmp_path / "file").write_text("in the way")
    ran = subprocess.run(
        ["sh", "-c", cron_line()], env=settings(record, tmp_path / "file" / "archive"), capture_output=True, check=False
    )
    assert ran.returncode == 2
    assert rows(record) == [("NEW", 10), ("OLD", 20)]


@pytest.mark.long
def test_the_service_archives_and_then_prunes(record, tmp_path):
    service = unit("retrospan-archive.service")
    # Of a oneshot unit each line runs when the one before has succeeded.
    assert service["Type"] == ["oneshot"]
    environment = settings(record, tmp_path / "archive")
    for line in service["ExecStart"]:
        command = string.Template(line).substitute(environment).split()
        assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert rows(record) == [("NEW", 10)]


def test_every_variable_of_the_service_is_explained_in_it():
    text = (DEPLOY / "retrospan-archive.service").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) == set(re.findall(r"^#\s+(RETROSPAN_\w+)=", text, re.MULTILINE))


def test_the_timer_is_weekly_and_makes_up_for_what_was_missed():
    timer = unit("retrospan-archive.timer")
    assert timer["OnCalendar"] == ["Sun 03:17"]
    assert timer["Persistent"] == ["yes"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_takes_the_timer():
    ran = subprocess.run(["systemd-analyze", "calendar", "Sun 03:17"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Sun *-*-* 03:17:00" in ran.stdout


def test_the_image_copies_what_is_there_and_installs_extras_that_exist():
    text = (DEPLOY / "Containerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        assert all((ROOT / source).exists() for source in line.split()), line
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r'pip install --no-cache-dir "\.\[([\w,]+)\]"', text)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    assert 'ENTRYPOINT ["retrospan"]' in text
    assert "retrospan" in project["scripts"]


@pytest.mark.long
def test_what_the_image_copies_builds_a_wheel_with_everything_in_it(tmp_path):
    """What stands in the Containerfile, without a container: pip finds all that the build needs."""
    text = (DEPLOY / "Containerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in line.split():
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(ROOT / source, tmp_path / source)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    names = subprocess.run(
        [sys.executable, "-m", "zipfile", "-l", next((tmp_path / "dist").glob("*.whl"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "retrospan/sli/yield.sql" in names
    assert "retrospan/archive/export.py" in names
    assert "retrospan/engines/clickhouse.py" in names
