"""What our provider promises beside being the SDK's: late attributes, and the SDK's own span wherever it could differ."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import opentelemetry.sdk.trace as sdk
import pytest
from opentelemetry.sdk import resources
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider, sampling
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    set_span_in_context,
)

from retrospan_exporters import provider as ours
from retrospan_exporters.provider import RecorderSpan, RecorderTracer, RecorderTracerProvider, provider_class

from .seen_spans import Adding, Counting, Seen, context_of, seen


class Late(Mapping[str, Any]):
    """Attributes that are asked for later; it counts how often."""

    read_late = True

    def __init__(self, attributes: dict[str, Any]) -> None:
        self.attributes, self.read = attributes, 0

    def __iter__(self) -> Iterator[str]:
        self.read += 1
        return iter(self.attributes)

    def __getitem__(self, key: str) -> Any:
        return self.attributes[key]

    def __len__(self) -> int:
        return len(self.attributes)


def fast_span(attributes: Any = None, **options: Any) -> tuple[Any, list[ReadableSpan]]:
    provider = RecorderTracerProvider(shutdown_on_exit=False, **options)
    processor = Seen(reads=False)
    provider.add_span_processor(processor)
    return provider.get_tracer("scope").start_span("GET", attributes=attributes), processor.ended


def test_a_late_mapping_is_read_once_after_the_end_and_its_words_then_stand() -> None:
    late = Late({"status": 200})
    span, ended = fast_span(late)
    assert isinstance(span, RecorderSpan)
    late.attributes["bytes"] = 7
    span.end()
    assert late.read == 0
    assert dict(ended[0].attributes or {}) == {"status": 200, "bytes": 7}
    late.attributes["status"] = 500
    assert dict(ended[0].attributes or {}) == dict(span.attributes) == {"status": 200, "bytes": 7}
    assert late.read == 1
    assert span.kept is None  # and is not kept alive by the span


def test_a_late_mapping_that_is_read_before_the_end_is_taken_as_it_then_is() -> None:
    late = Late({"method": "GET", "status": 0})
    span, ended = fast_span(late)
    span.set_attribute("tenant", "a")
    late.attributes["status"] = 200
    span.end()
    assert dict(ended[0].attributes or {}) == {"method": "GET", "status": 0, "tenant": "a"}


def test_limits_hold_for_a_late_mapping() -> None:
    span, ended = fast_span(Late({"a": "long", "b": 1, "c": [1, 2]}), span_limits=SpanLimits(2, max_attribute_length=2))
    span.end()
    assert dict(ended[0].attributes or {}) == {"b": 1, "c": (1, 2)}
    assert ended[0].dropped_attributes == 1


def test_attributes_that_their_owner_changes_stay_as_they_were_given() -> None:
    plain, nested = {"a": 1}, {"a": [1]}
    for owned, change in ((plain, lambda: plain.update(a=2)), (nested, lambda: nested["a"].append(2))):
        span, ended = fast_span(owned)
        span.add_event("event", owned)
        change()
        span.end()
        assert dict(ended[0].attributes or {})["a"] in (1, (1,))
        assert dict(ended[0].events[0].attributes or {})["a"] in (1, (1,))


def test_the_attributes_of_an_ended_span_cannot_be_changed() -> None:
    for reads_before in (True, False):
        span, ended = fast_span({"a": 1})
        if reads_before:
            assert span.attributes == {"a": 1}
        span.end()
        with pytest.raises(TypeError):
            ended[0].attributes["a"] = 2  # type: ignore[index]  # what shall fail
        with pytest.raises(TypeError):
            ended[0]._attributes["a"] = 2  # type: ignore[index, union-attr]  # what shall fail
        assert dict(ended[0].attributes or {}) == {"a": 1}


def test_threads_that_write_one_span_lose_nothing_and_end_it_once() -> None:
    for _ in range(20):
        span, ended = fast_span({"first": 0}, span_limits=SpanLimits(max_events=1000, max_span_attributes=1000))
        begin = threading.Barrier(4)

        def write(number: int, span: Any = span, begin: threading.Barrier = begin) -> None:
            begin.wait()
            for turn in range(20):
                span.set_attribute(f"{number}.{turn}", turn)
                span.add_event(f"{number}.{turn}")
            begin.wait()
            span.end()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(ended) == 1
        assert len(ended[0].attributes or {}) == 81
        assert len({event.name for event in ended[0].events}) == 80


@pytest.fixture
def many_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(acts: list[Callable[[], object]]) -> list[BaseException]:
    """What is raised when each of these happens in a thread of its own."""
    begin, failures = threading.Barrier(len(acts)), []

    def work(act: Callable[[], object]) -> None:
        begin.wait()
        try:
            act()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    return failures


@pytest.mark.usefixtures("many_switches")
@pytest.mark.parametrize("late", [True, False])
def test_a_span_that_is_ended_written_and_read_at_once_ends_once_and_stays_as_it_ended(late: bool) -> None:
    for _ in range(300):
        span, ended = fast_span(Late({"first": 0}) if late else {"first": 0})
        acts = [span.end, span.end, partial(span.set_attribute, "second", 1), partial(span.add_event, "event")]
        acts += [partial(getattr, span, "attributes"), partial(getattr, span, "events")]
        assert at_once([*acts, partial(span.update_name, "other")]) == []
        assert ended == [span]
        as_ended = dict(span.attributes), [event.name for event in span.events]
        assert as_ended[0] in ({"first": 0}, {"first": 0, "second": 1})
        assert as_ended[1] in ([], ["event"])
        span.set_attribute("third", 1)
        span.add_event("later")
        with pytest.raises(TypeError):
            span._attributes["third"] = 1
        assert as_ended == (dict(span.attributes), [event.name for event in span.events])


def in_step(number: int, act: Callable[[], object]) -> Any:
    """A trace function that has this happen in that step of the end of a span, as a signal's handler would."""
    steps = iter(range(number + 1))

    def trace(frame: Any, event: str, argument: object) -> Any:
        if frame.f_code is not RecorderSpan.end.__code__:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode" and next(steps, None) == number:
            act()
        return trace

    return trace


@pytest.mark.parametrize("act", ["end", "set_attribute", "add_event", "attributes"])
def test_whatever_comes_in_between_a_span_ends_once(act: str) -> None:
    arguments = {"end": (), "set_attribute": ("second", 1), "add_event": ("event",)}
    done = []
    for number in range(60):
        span, ended = fast_span(Late({"first": 0}))

        def come(span: Any = span) -> None:
            found = getattr(span, act)
            done.append(found(*arguments[act]) if act in arguments else dict(found))

        before = sys.gettrace()
        sys.settrace(in_step(number, come))
        try:
            span.end(5)
        finally:
            sys.settrace(before)
        assert ended == [span]
        assert span.attributes["first"] == 0
        assert act == "end" or span.end_time == 5
    assert len(done) > 20


def test_processors_of_every_kind_see_what_they_see_of_stock_spans() -> None:
    seen_by = []
    for make in (TracerProvider, RecorderTracerProvider):
        exporter = InMemorySpanExporter()
        provider = make(
            active_span_processor=sdk.ConcurrentMultiSpanProcessor(2),
            id_generator=Counting(True),
            shutdown_on_exit=False,
        )
        tracer = provider.get_tracer("scope")
        provider.add_span_processor(SimpleSpanProcessor(exporter))  # after the tracer
        with tracer.start_as_current_span("outer", attributes={"a": 1}):
            tracer.start_span("inner").end()
        provider.shutdown()
        seen_by.append(
            [seen(span) | {"resource": None, "json": None, "times": None} for span in exporter.get_finished_spans()]
        )
    assert seen_by[0] == seen_by[1]
    assert len(seen_by[0]) == 2


FORKING = """
import os
from opentelemetry.sdk.trace import sampling
from opentelemetry.trace import set_span_in_context
from retrospan_exporters.provider import RecorderSpan, RecorderTracerProvider
provider = RecorderTracerProvider()
tracer = provider.get_tracer("scope")
before = tracer.start_span("before")
if os.fork() == 0:
    made = tracer.start_span("child", set_span_in_context(before))
    assert isinstance(made, RecorderSpan) and made.parent == before.context
    assert made.resource == provider.resource != before.resource
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
assert tracer.start_span("parent").resource == before.resource
"""


def test_a_forked_child_makes_spans_of_its_own_resource() -> None:
    subprocess.run([sys.executable, "-c", FORKING], check=True, timeout=30)


def test_an_exporter_groups_spans_by_a_resource_whose_text_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = Resource({"service.name": "downloader"})
    tracer = RecorderTracerProvider(resource=resource, shutdown_on_exit=False).get_tracer("scope")
    texts: list[object] = []
    dumps = resources.dumps
    monkeypatch.setattr(
        resources, "dumps", lambda *given, **options: (texts.append(given), dumps(*given, **options))[1]
    )
    grouped = {tracer.start_span("GET").resource for _ in range(3)}
    assert len(texts) == 1
    assert grouped == {resource}  # of the same hash, and equal


def test_where_it_could_differ_the_sdk_s_own_span_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def type_of(provider: TracerProvider, **options: Any) -> type:
        made = type(provider.get_tracer("scope").start_span("GET", **options))
        return RecorderSpan if issubclass(made, RecorderSpan) else made

    def made(**options: Any) -> TracerProvider:
        return RecorderTracerProvider(shutdown_on_exit=False, **options)

    unsampled = set_span_in_context(NonRecordingSpan(context_of(5, 0, False, "")))
    assert type_of(made()) is RecorderSpan
    assert type_of(made(sampler=sampling.ParentBased(sampling.ALWAYS_ON))) is RecorderSpan
    assert type_of(made(sampler=sampling.TraceIdRatioBased(1.0))) is sdk._Span
    assert type_of(made(sampler=Adding())) is sdk._Span
    assert type_of(made(sampler=sampling.ALWAYS_ON), context=unsampled) is sdk._Span
    assert type_of(made(), links=[Link(context_of(5, 1, False, ""))]) is sdk._Span
    off = made(_tracer_configurator=sdk._disable_tracer_configurator)
    assert type_of(off) is NonRecordingSpan
    tracer = made().get_tracer("scope")
    tracer._set_tracer_config(sdk._TracerConfig(is_enabled=False))  # while it runs
    assert type(tracer.start_span("GET")) is NonRecordingSpan
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    assert type_of(made()) is sdk._Span


def test_a_release_of_the_sdk_with_other_fields_gets_its_own_spans_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = sdk.Span.__init__

    def with_one_more(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self._news = True

    monkeypatch.setattr(ours, "_known", [])
    monkeypatch.setattr(sdk.Span, "__init__", with_one_more)
    provider = RecorderTracerProvider(shutdown_on_exit=False)
    for scope in "ab":
        assert type(provider.get_tracer(scope).start_span("GET")) is sdk._Span
    assert [r.getMessage() for r in caplog.records if r.name == "retrospan"] == [
        "This release of opentelemetry-sdk has other spans than those known to retrospan: "
        "its own are made, at their own cost (_news)."
    ]


def test_the_same_scope_has_the_same_tracer_which_is_the_sdk_s() -> None:
    provider = RecorderTracerProvider(shutdown_on_exit=False)
    tracer = provider.get_tracer("scope", "1")
    assert tracer is provider.get_tracer("scope", "1")
    assert isinstance(tracer, sdk.Tracer)
    assert isinstance(tracer, RecorderTracer)
    assert isinstance(tracer.start_span("GET"), Span)


@pytest.mark.parametrize(("said", "fast"), [(None, True), ("", True), ("1", True), ("0", False), ("false", False)])
def test_the_environment_switches_to_the_stock_provider(
    monkeypatch: pytest.MonkeyPatch, said: str | None, fast: bool
) -> None:
    monkeypatch.delenv("RETROSPAN_FAST_SPANS", raising=False)
    if said is not None:
        monkeypatch.setenv("RETROSPAN_FAST_SPANS", said)
    assert provider_class() is (RecorderTracerProvider if fast else TracerProvider)


class LateWithEvents(Late):
    late_events = (("granted", {"delay": 0}, 7), ("granted", {"delay": 1}, 8))


@pytest.mark.parametrize("events_first", [True, False])
def test_events_of_a_late_mapping_are_read_with_it_before_those_that_were_added(events_first: bool) -> None:
    span, ended = fast_span(LateWithEvents({"status": 200}))
    span.add_event("added", timestamp=9)
    span.end()
    if events_first:
        assert len(ended[0].events) == 3
    assert dict(ended[0].attributes or {}) == {"status": 200}
    told = [(event.name, event.timestamp, dict(event.attributes or {})) for event in ended[0].events]
    assert told == [("granted", 7, {"delay": 0}), ("granted", 8, {"delay": 1}), ("added", 9, {})]


def test_events_of_a_late_mapping_are_there_without_any_other_and_within_the_limit() -> None:
    span, ended = fast_span(LateWithEvents({}), span_limits=SpanLimits(max_events=1))
    span.end()
    assert dict(ended[0].attributes or {}) == {}
    assert [event.timestamp for event in ended[0].events] == [8]
    assert ended[0].dropped_events == 1


def test_ids_are_random_and_a_child_has_its_parents_trace() -> None:
    tracer = RecorderTracerProvider(shutdown_on_exit=False).get_tracer("scope")
    roots = [tracer.start_span("GET").get_span_context() for _ in range(1000)]
    child = tracer.start_span("GET", set_span_in_context(NonRecordingSpan(roots[0]))).get_span_context()
    assert child.trace_id == roots[0].trace_id
    assert len({context.trace_id for context in roots}) == len({context.span_id for context in (*roots, child)}) - 1
    assert all(context.is_valid and context.trace_flags == 3 for context in (*roots, child))
    assert max(context.trace_id for context in roots).bit_length() > 120
    assert child == type(child)(*child[:5])  # as its own constructor makes it
