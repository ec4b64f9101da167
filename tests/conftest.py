"""What tests of every layer use."""

from collections.abc import Iterator

import hypothesis
import pytest

from origin import Origin

# A machine that is busy with something else is no fault of what is tested.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A loopback server with its own log."""
    with Origin() as server:
        yield server
