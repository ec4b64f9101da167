"""What tests of every layer use."""

import signal
from collections.abc import Iterator

import hypothesis
import pytest

from origin import Origin

# A machine that is busy with something else is no fault of what is tested. `make test-long` tries twice as many examples;
# a test that needs more than others says so as a multiple of the profile's.
hypothesis.settings.register_profile("patient", deadline=None, max_examples=50)
hypothesis.settings.register_profile("long", deadline=None, max_examples=100)
hypothesis.settings.load_profile("patient")

# Programs under test find the defaults, although this one runs under nohup, or in the background of a script.
for name, handler in {"SIGHUP": signal.SIG_DFL, "SIGINT": signal.default_int_handler}.items():
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A loopback server with its own log."""
    with Origin() as server:
        yield server
