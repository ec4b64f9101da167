"""The pytest plugin: a session that is recorded and judged, and a record of a single test.

    pytest --retrospan-slo slo.toml

    def test_every_document_comes(retrospan_record):
        download_all()
        assert retrospan_record.verdicts()["yield"] == "pass"

pytest imports this file whenever it starts, so it imports nothing of ours: `retrospan.testing` does the work when asked.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from retrospan.testing import Recording
    from retrospan.testing.session import SessionRecord

_KEY: "pytest.StashKey[SessionRecord]" = pytest.StashKey()
_INPUT = "retrospan"
_DEFINITIONS = (".toml", ".yaml", ".yml")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, in a group of their own."""
    group = parser.getgroup("retrospan", "recording of HTTP, cache, retries, limits, breakers and fallbacks")
    group.addoption(
        "--retrospan-slo",
        action="append",
        nargs="?",
        const="",
        metavar="FILE",
        help="record the session, and fail it on the verdict of these objectives (slo.toml, or OpenSLO v1), without a FILE"
        " of the built-in ones; may be given again",
    )
    group.addoption(
        "--retrospan-db",
        metavar="PATH",
        default=os.environ.get("RETROSPAN_DB"),
        help="where the session is recorded (default: RETROSPAN_DB, else a file of its own, kept when the session fails)",
    )
    group.addoption(
        "--retrospan-warn",
        action="append",
        choices=["no_data", "insufficient"],
        default=[],
        help="a verdict that does not fail the session; may be given again",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Begin the session's record, before a test module is imported."""
    files = config.getoption("--retrospan-slo")
    if not files:
        return
    for file in filter(None, files):
        if not file.endswith(_DEFINITIONS):
            raise pytest.UsageError(
                f"--retrospan-slo: {file} is no definition file ({', '.join(_DEFINITIONS)}): give one, or put tests first"
            )
    from retrospan.testing.session import SessionRecord

    given: tuple[str, str] | None = getattr(config, "workerinput", {}).get(_INPUT)
    try:
        config.stash[_KEY] = (
            SessionRecord.of_worker(*given)
            if given
            else SessionRecord(
                [Path(file) for file in files if file],
                config.getoption("--retrospan-db"),
                frozenset(config.getoption("--retrospan-warn")),
            )
        )
    except Exception as error:
        raise pytest.UsageError(f"--retrospan-slo: {error}") from error


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Let a worker of pytest-xdist write the same record."""
    session = node.config.stash.get(_KEY, None)
    if session is not None:
        node.workerinput[_INPUT] = (session.path, session.run_id)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """End the record and judge it; a session of tests that passed fails with the verdict."""
    record = session.config.stash.get(_KEY, None)
    if record is None:
        return
    record.end()
    if record.is_failed and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell the verdict."""
    record = config.stash.get(_KEY, None)
    if record is None or record.told is None:
        return
    terminalreporter.section("SLOs", red=record.is_failed, green=not record.is_failed)
    terminalreporter.write_line(record.told)


@pytest.fixture
def retrospan_record(tmp_path: Path) -> "Iterator[Recording]":
    """A record of this test only: `path`, `rows(table)`, `verdicts()` and `report()`."""
    from retrospan.testing import recording

    with recording(tmp_path / "telemetry.sqlite") as record:
        yield record
