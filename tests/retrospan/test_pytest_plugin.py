"""The pytest plugin as a user has it: a session as a process of its own, and the fixture in this very session."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

from origin import Answer
from retrospan.record import read
from retrospan.runs import runs

TESTS = """
    import httpx2, pytest

    @pytest.mark.parametrize("number", range(4))
    def test_get(number):
        httpx2.get("{url}/some")
"""
STRICT = '[slo.http_429]\nmax = "0.1%"\nmin_events = 3\n'
LAX = '[slo.http_429]\nmax = "100%"\nmin_events = 3\n'
# Plugins that these sessions do not use, and that take longer to import than all the rest.
OTHERS = ("-p", "no:anyio", "-p", "no:hypothesispytest")


@pytest.fixture
def session(tmp_path, origin):
    """Run pytest on four tests, each of one GET."""
    (tmp_path / "test_some.py").write_text(textwrap.dedent(TESTS).format(url=origin.url("")))
    (tmp_path / "strict.toml").write_text(STRICT)
    (tmp_path / "lax.toml").write_text(LAX)

    def run(*arguments, without=OTHERS, **environment):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RETROSPAN", "PYTEST"))}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *without, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            env=inherited | {"TMPDIR": str(tmp_path)} | environment,
        )

    return run


def sends(path):
    return read(path, lambda record: record.rows("SELECT run_id, process_id FROM http_events"))


def test_a_session_passes_by_its_verdict_and_leaves_nothing(session, tmp_path):
    finished = session("--retrospan-slo", "lax.toml", without=())
    assert finished.returncode == 0, finished.stdout
    assert "= SLOs =" in finished.stdout
    assert re.search(r"http_429 +pass +0 %", finished.stdout)
    assert "4 passed" in finished.stdout
    assert not list(tmp_path.glob("retrospan-pytest-*"))


def test_a_session_whose_tests_pass_fails_with_its_verdict_and_keeps_the_record(session, tmp_path, origin):
    origin.script("/some", Answer(429))
    finished = session("--retrospan-slo", "strict.toml")
    assert finished.returncode == 1
    assert "4 passed" in finished.stdout
    assert re.search(r"http_429 +fail +100 %", finished.stdout)
    (kept,) = tmp_path.glob("retrospan-pytest-*/telemetry.sqlite")
    assert f"retrospan slo explain NAME --db {kept}" in finished.stdout
    assert len(sends(kept)) == 4


def test_a_verdict_of_too_few_fails_the_session_unless_told_to_warn(session):
    (few := session("--retrospan-slo"))
    assert few.returncode == 1
    assert "insufficient" in few.stdout
    assert session("--retrospan-slo", "--retrospan-warn=insufficient").returncode == 0


def test_the_record_is_the_one_that_is_named(session, tmp_path):
    session("--retrospan-slo", "lax.toml", RETROSPAN_DB=str(tmp_path / "one.sqlite"))
    session("--retrospan-slo", "lax.toml", "--retrospan-db", "two.sqlite")
    for name in ("one", "two"):
        (run,) = read(tmp_path / f"{name}.sqlite", runs)
        assert (run.state, len(sends(tmp_path / f"{name}.sqlite"))) == ("finished", 4)


def test_workers_of_xdist_write_the_same_run(session, tmp_path):
    finished = session("--retrospan-slo", "lax.toml", "--retrospan-db", "all.sqlite", "-n", "2", "--dist", "each")
    assert finished.returncode == 0, finished.stdout
    rows = sends(tmp_path / "all.sqlite")
    assert (len(rows), len({run for run, _ in rows}), len({process for _, process in rows})) == (8, 1, 2)
    (run,) = read(tmp_path / "all.sqlite", runs)
    assert (run.run_id, run.state) == (rows[0][0], "finished")


@pytest.mark.parametrize(("file", "said"), [("broken.toml", "broken.toml:1"), ("tests", "is no definition file")])
def test_a_wrong_file_is_wrong_usage_before_any_test(session, tmp_path, file, said):
    (tmp_path / "broken.toml").write_text("[slo.yeild]\nmin = 3\n")
    finished = session("--retrospan-slo", file)
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in finished.stderr
    assert not list(tmp_path.glob("retrospan-pytest-*"))


def test_a_record_in_no_folder_is_wrong_usage_before_any_test(session):
    finished = session("--retrospan-slo", "lax.toml", "--retrospan-db", "none/all.sqlite")
    assert finished.returncode == pytest.ExitCode.USAGE_ERROR
    assert "none/all.sqlite: its folder is not there" in finished.stderr
    assert "passed" not in finished.stdout


def test_a_session_that_does_not_ask_imports_nothing_of_ours(session, tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert 'retrospan.pytest_plugin' in sys.modules\n"
        "    mine = {name for name in sys.modules if name.startswith(('retrospan', 'opentelemetry'))}\n"
        "    assert mine == {'retrospan', 'retrospan.pytest_plugin'}\n"
    )
    finished = session(without=())
    assert finished.returncode == 0, finished.stdout


# -- the fixture

FIXTURE = """
    import os
    import httpx2, pytest
    from retrospan.record import read
    from retrospan.runs import runs
    from retrospan.testing import recording

    URL = "{url}"

    def test_a_test_has_a_record_of_its_own(retrospan_record):
        httpx2.get(URL + "/some")
        httpx2.post(URL + "/other")
        assert [row["method"] for row in retrospan_record.rows("http_events")] == ["GET", "POST"]
        assert retrospan_record.rows("downloads") == []
        assert retrospan_record.path.is_file()
        with pytest.raises(ValueError, match="no table 'events'; it has http_events"):
            retrospan_record.rows("events")

    def test_a_record_is_judged_while_it_is_written(retrospan_record):
        httpx2.get(URL + "/some")
        assert retrospan_record.verdicts()["http_429"] == "insufficient"
        assert retrospan_record.verdicts()["yield"] == "not_applicable"
        for _ in range(3):
            httpx2.get(URL + "/busy")
        assert retrospan_record.verdicts("strict.toml")["http_429"] == "fail"
        assert retrospan_record.report("strict.toml").exit_code == 1

    def sends(path):
        return read(path, lambda record: record.rows("SELECT COUNT(*) FROM http_events"))[0][0]

    def test_recordings_within_each_other_have_each_their_rows(tmp_path):
        before = dict(os.environ)
        get = httpx2.Client._send_single_request
        with recording(tmp_path / "outer.sqlite") as outer:
            httpx2.get(URL + "/outer")
            with recording(tmp_path / "inner.sqlite") as inner:
                httpx2.get(URL + "/inner")
                assert os.environ["RETROSPAN_DB"] == str(inner.path)
            httpx2.get(URL + "/outer")
            assert (len(outer.rows("http_events")), len(inner.rows("http_events"))) == (3, 1)
        assert dict(os.environ) == before
        httpx2.get(URL + "/nobody")
        for record, rows in ((outer, 3), (inner, 1)):
            (run,) = read(record.path, runs)
            assert (run.run_id, run.state, sends(record.path)) == (record.run_id, "finished", rows)
"""


@pytest.mark.parametrize("beside", [False, True])
def test_a_single_test_has_a_record_of_its_own_beside_that_of_the_session_too(session, tmp_path, origin, beside):
    origin.script("/busy", Answer(429))
    (tmp_path / "test_some.py").write_text(textwrap.dedent(FIXTURE).format(url=origin.url("")))
    options = ["--retrospan-slo", "lax.toml", "--retrospan-db", "session.sqlite"] if beside else []
    finished = session(*options)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "3 passed" in finished.stdout
    if beside:
        assert len(sends(tmp_path / "session.sqlite")) == len(origin.log) == 10


OWN_PROVIDER = """
    import httpx2
    from opentelemetry import trace
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    from retrospan.record import read
    from retrospan.runs import runs
    from retrospan_exporters.provider import RecorderSpan

    class Kinds(SpanProcessor):
        is_fast = {{}}

        def on_start(self, span, parent_context=None):
            self.is_fast[span.instrumentation_scope.name] = isinstance(span, RecorderSpan)

    trace.set_tracer_provider(TracerProvider({options}))
    trace.get_tracer_provider().add_span_processor(Kinds())

    def test_it(retrospan_record):
        with trace.get_tracer("program").start_as_current_span("outer"):
            httpx2.get("{url}/some")
        assert len(retrospan_record.rows("http_events")) == 1
        assert Kinds.is_fast == {{"program": False, "retrospan_instrumentation": {is_fast}}}
        (run,) = read(retrospan_record.path, runs)
        assert run.sampler == {sampler!r}
"""


@pytest.mark.parametrize(
    ("options", "environment", "is_fast", "sampler"),
    [
        ("", {}, True, None),
        ("", {"RETROSPAN_FAST_SPANS": "0"}, False, None),
        ("TraceIdRatioBased(1)", {}, False, "TraceIdRatioBased{1}"),
    ],
)
def test_a_recording_by_a_provider_of_the_program_s_own_is_as_configure_makes_it(
    session, tmp_path, origin, options, environment, is_fast, sampler
):
    text = OWN_PROVIDER.format(url=origin.url(""), options=options, is_fast=is_fast, sampler=sampler)
    (tmp_path / "test_some.py").write_text(textwrap.dedent(text))
    finished = session(**environment)
    assert finished.returncode == 0, finished.stdout + finished.stderr
