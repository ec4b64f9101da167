"""A record of some lines of code, to assert on; what the pytest fixture `retrospan_record` gives.

    from retrospan.testing import recording

    with recording(tmp_path / "telemetry.sqlite") as record:
        client.get(url)
        assert [row["status"] for row in record.rows("http_events")] == [200]

Spans of the global tracer provider are recorded; one is made where there is none. A recording may lie within another, or
within one of the whole program: each has its own file and run.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from retrospan.configuration import Recorder, begin, provider_for
from retrospan.record import Record, read
from retrospan_exporters.run import BEGUN_RUN, RUN_ID, new_id
from retrospan_exporters.settings import DB
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_exporters.tables import EVENT_TABLES
from retrospan_instrumentation import instrumentors, surround

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    from retrospan.slo.definitions import SLO
    from retrospan.slo.gate import Report
    from retrospan.slo.verdicts import Verdict


class Recording:
    """A record while it is written, and after."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.path: Final = Path(recorder.path)
        self.run_id: Final = recorder.run_id

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of one of the tables, as dicts by column, in the order they were written.

        All spans that have ended are written first. Raises ValueError for a table that a record does not have.
        """
        known = {known.name: known.names() for known in EVENT_TABLES}
        if table not in known:
            raise ValueError(f"a record has no table {table!r}; it has {', '.join(known)}")
        self._recorder.flush()

        def fetch(record: Record) -> list[dict[str, Any]]:
            record.bind(self.run_id)
            columns = ", ".join(known[table])
            return [
                dict(zip(known[table], row, strict=True))
                for row in record.rows(f"SELECT {columns} FROM {table} ORDER BY id")
            ]

        return read(self.path, fetch)

    def report(self, *files: str | os.PathLike[str]) -> "Report":
        """What `retrospan slo` would say so far, by definition files or else by the built-in objectives."""
        from retrospan.slo.gate import judge_run

        self._recorder.flush()
        return judge_run(self.path, self.run_id, slos=objectives([Path(file) for file in files]))

    def verdicts(self, *files: str | os.PathLike[str]) -> "dict[str, Verdict]":
        """The verdict on each objective, by name."""
        return {result.slo.name: result.verdict for result in self.report(*files).results}


@contextmanager
def recording(path: str | os.PathLike[str]) -> Iterator[Recording]:
    """Record what happens inside the block into `path`, as a run of its own."""
    exporter = SQLiteSpanExporter(path, new_id(time.time()))
    with _environment_kept(), _layers_apart(), _hooks_on():
        recorder = begin(exporter, signals=False, wrap_process=False)
        os.environ[DB] = exporter.path
        provider = provider_for(None, recorder.run_id)
        recorder.watch(provider)
        relay = _relay_of(provider)
        relay.processors.append(recorder.processor)
        try:
            recorder.flush()  # the run is there from the start on, even if nothing happens in it
            yield Recording(recorder)
        finally:
            recorder.shutdown()
            relay.processors.remove(recorder.processor)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Child processes take part in the recording while it lasts, and only then."""
    before = {name: os.environ.get(name) for name in (RUN_ID, BEGUN_RUN, DB)}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _layers_apart() -> Iterator[None]:
    """What was entered before is no layer of this run, and what this one enters was entered for those around it too."""
    before = set(surround.layers)
    surround.layers.clear()
    try:
        yield
    finally:
        surround.layers.update(before)


@contextmanager
def _hooks_on() -> Iterator[None]:
    """The hooks that are not in place yet are, and are taken off again."""
    mine = [one for one in instrumentors() if not one.is_instrumented_by_opentelemetry]
    for instrumentor in mine:
        instrumentor.instrument()
    try:
        yield
    finally:
        for instrumentor in mine:
            instrumentor.uninstrument()


def objectives(files: Sequence[Path]) -> "tuple[SLO, ...]":
    """The objectives of definition files over the built-in ones. Raises DefinitionError."""
    from retrospan.slo.documents.commands import objectives as read_objectives

    return read_objectives(files)


class _Relay:
    """A span processor that hands on to those of the recordings that are open: a provider takes none back."""

    def __init__(self) -> None:
        self.processors: list[Any] = []

    def on_start(self, span: "Span", parent_context: "Context | None" = None) -> None:
        for processor in self.processors:
            processor.on_start(span, parent_context)

    def on_end(self, span: "ReadableSpan") -> None:
        for processor in self.processors:
            processor.on_end(span)

    def _on_ending(self, span: "Span") -> None:
        return

    def shutdown(self) -> None:
        return

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return all(processor.force_flush(timeout_millis) for processor in self.processors)


_relays: Final[dict[int, tuple[Any, _Relay]]] = {}


def _relay_of(provider: Any) -> _Relay:
    """The one relay of a provider, given to it when it is first asked for."""
    if id(provider) not in _relays:
        _relays[id(provider)] = provider, _Relay()
        provider.add_span_processor(_relays[id(provider)][1])
    return _relays[id(provider)][1]
