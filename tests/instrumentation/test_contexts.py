"""The context that hooks read and set is the API's, whichever that uses."""

import subprocess
import sys

from opentelemetry import context as api

from retrospan_instrumentation import contexts


def test_what_one_side_attaches_the_other_sees() -> None:
    before = api.get_current()
    try:
        contexts.attach(api.set_value("key", "ours", before))
        assert api.get_value("key") == "ours"
        token = api.attach(api.set_value("key", "theirs", before))
        assert contexts.get_current().get("key") == "theirs"
        api.detach(token)
        assert contexts.get_current().get("key") == "ours"
    finally:
        contexts.attach(before)
    assert api.get_value("key") is None


def test_the_short_way_is_taken_with_the_apis_default_context() -> None:
    """It goes by private names of the API: one that has moved costs speed, and shows here."""
    assert contexts.get_current is not api.get_current
    assert contexts.attach is not api.attach


def test_with_another_runtime_context_the_apis_own_functions_are_taken() -> None:
    program = """
from opentelemetry import context as api
api._RUNTIME_CONTEXT = object()
from retrospan_instrumentation import contexts
print(contexts.get_current is api.get_current, contexts.attach is api.attach)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["True", "True"]
