"""What tests of every layer use."""

from collections.abc import Iterator

import pytest

from origin import Origin


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A loopback server with its own log."""
    with Origin() as server:
        yield server
