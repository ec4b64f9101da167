"""What tests of every layer use."""

import signal
from collections.abc import Iterator

import hypothesis
import pytest

from origin import Origin

# A machine that is busy with something else is no fault of what is tested.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

# Programs under test find the default, although this one runs under nohup.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A loopback server with its own log."""
    with Origin() as server:
        yield server
