"""What our provider stands in for, or relies on, of the SDK is as it was read: a release that changes it shows."""

import ast
import hashlib
import inspect
import textwrap
from importlib.metadata import version
from types import FunctionType

import opentelemetry.sdk.trace as sdk
import pytest
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import _configuration
from opentelemetry.sdk.trace import _tracer_metrics
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import SpanContext

from retrospan_exporters import provider as ours

# The prints of the code in the releases that were read, oldest first.
READ = {
    sdk.ReadableSpan.__init__: ("c91c264ff168",),
    sdk.Span.__init__: ("bd93ea0c8b31", "9fdcf09cb37a"),
    sdk.Span.start: ("d0fb86379a7d",),
    sdk.Span.end: ("257aa96519ff",),
    sdk.Span.add_event: ("00d0dd3af092", "ec65d275e792"),
    sdk.Span._add_event: ("5b666efcd29f",),
    sdk.Span._readable_span: ("005370856c5b",),
    sdk.EventBase.__init__: ("2f807f603fd0",),
    sdk.Event.__init__: ("74c5f6ca1097",),
    sdk.Tracer.__init__: ("8993afc3bbdc",),
    sdk.Tracer.start_span: ("4a97881c4066",),
    sdk.Tracer._is_enabled: ("442d65a55331",),
    RandomIdGenerator.generate_span_id: ("c106e428ec94",),
    RandomIdGenerator.generate_trace_id: ("a958f4f9be8f",),
    RandomIdGenerator.is_trace_id_random: ("860f7666c14e",),
    SpanContext.__new__: ("155a177c070c",),
    sdk.TracerProvider.get_tracer: ("94572553de8f",),
    sdk.TracerProvider._update_resource: ("703568b9cc52",),
    BoundedAttributes.__init__: ("aca1043073b5", "7d896a61ad14"),
    BoundedAttributes._set_items: ("136bea580854", "86f84042333d"),
    BoundedList.__init__: ("2206596029e3",),
    _tracer_metrics.create_tracer_metrics: ("57f2999161b4",),
}


def print_of(function: FunctionType) -> str:
    """A hash of what a function does: its code without layout, comments, docstring and annotations."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns, node.decorator_list = None, []
            if ast.get_docstring(node) is not None:
                del node.body[0]
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object")
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


@pytest.mark.parametrize("function", READ, ids=lambda function: function.__qualname__)
def test_the_sdk_does_what_it_did_when_our_provider_was_written(function: FunctionType) -> None:
    now = print_of(function)
    assert now in READ[function], (
        f"opentelemetry-sdk {version('opentelemetry-sdk')} has changed {function.__module__}.{function.__qualname__}: read "
        f"it, have retrospan_exporters/provider.py do the same, and add {now!r} to its prints here."
    )


def test_the_fields_of_its_spans_are_those_that_ours_provide_for() -> None:
    missing, unknown = ours.unknown_fields()
    assert not missing, f"the SDK's spans have these fields no more, ours do: {missing}"
    assert not unknown, f"the SDK's spans have these fields, ours do not: {unknown}"


def test_its_configurator_finds_the_provider_s_class_by_its_name() -> None:
    stock = _configuration.TracerProvider
    with ours.in_configurator():
        assert _configuration.TracerProvider is ours.provider_class()
    assert _configuration.TracerProvider is stock
    assert "TracerProvider" in _configuration._init_tracing.__code__.co_names
