"""What the tests of the reading side share: a place for a record and for its archive, and its verdicts by name."""

import pytest

from retrospan.slo.gate import judge_run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "telemetry.sqlite"


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "archive"


@pytest.fixture
def judged(path):
    """The results on the record at `path`, by the objective's name."""
    return lambda run_id="latest": {result.slo.name: result for result in judge_run(path, run_id).results}
