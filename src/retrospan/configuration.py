"""Set up recording: from code, and for the zero-code start, which builds on the same parts.

    recorder = retrospan.configure(db="telemetry.sqlite")
    ...
    recorder.flush()
    recorder.stats().written["http_events"]
    recorder.shutdown()                 # or leave it to the end of the process

Beside any tracer provider, processor or exporter that the program has: it gets one more processor, ours.
"""

import logging
import os
import time
from _thread import start_new_thread
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from retrospan_exporters import lifecycle
from retrospan_exporters.processor import RecorderSpanProcessor
from retrospan_exporters.run import Run
from retrospan_exporters.settings import DB
from retrospan_exporters.sqlite import SQLiteSpanExporter
from retrospan_instrumentation import mapping, semconv
from retrospan_instrumentation.hooks import is_disabled

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from retrospan_exporters.jsonl import JSONLSpanExporter

MAPPER: Final = "RETROSPAN_MAPPER"
_logger: Final = logging.getLogger("retrospan")
_recorders: Final[dict[str, "Recorder"]] = {}
_lines: Final[list["JSONLSpanExporter"]] = []


@dataclass(frozen=True, slots=True)
class Stats:
    """What this process has recorded: rows written by table, rows and spans dropped, spans that wait in the queue, rows
    that wait for a record that cannot be written, and when the queue was last written, in seconds since 1970 (None: not yet).
    """

    run_id: str
    written: Mapping[str, int]
    dropped: int
    queued: int
    waiting: int
    last_flush: float | None


class Recorder:
    """The handle of a recording; `processor` is None while Retrospan or the SDK is switched off, and nothing is recorded."""

    def __init__(self, processor: RecorderSpanProcessor | None, exporter: SQLiteSpanExporter) -> None:
        self.processor, self._exporter = processor, exporter
        self._instruments = False

    @property
    def path(self) -> str:
        """Absolute path of the record."""
        return self._exporter.path

    @property
    def run_id(self) -> str:
        """The run that rows are written for."""
        return self._exporter.run.id

    def flush(self, timeout: float = 1.0) -> bool:
        """Write every span that has ended, within `timeout` seconds, and the run itself; whether all are written."""
        if self.processor is None:
            return True
        is_written = self.processor.force_flush(int(timeout * 1000))
        return (self._exporter.has_begun or self._exporter.start()) and is_written

    def stats(self) -> Stats:
        """What has been recorded so far."""
        exporter, processor = self._exporter, self.processor
        written = dict(exporter.written)
        if processor is None:
            return Stats(self.run_id, written, exporter.dropped, 0, exporter.waiting, None)
        dropped = exporter.dropped + processor.dropped
        return Stats(self.run_id, written, dropped, processor.queued, exporter.waiting, processor.last_flush)

    def watch(self, provider: Any, *, instrument: bool = False, meter_provider: "MeterProvider | None" = None) -> None:
        """Take note of the provider whose spans are recorded, and have the hooks make theirs by it."""
        self._exporter.run.sampler = _thinning_sampler(provider)
        _quicken_hooks(provider)
        if instrument:
            from retrospan_instrumentation import instrument_all

            self._instruments = True
            instrument_all(tracer_provider=provider, meter_provider=meter_provider)

    def shutdown(self) -> None:
        """Write what is left, sum the run up, take the hooks off again. A second call does nothing."""
        if self.processor is None or _recorders.pop(self.path, None) is None:
            return
        self.processor.stop()
        if self._instruments and not _recorders:
            from retrospan_instrumentation import uninstrument_all

            uninstrument_all()


def configure(
    db: str | os.PathLike[str] | None = None,
    run_id: str | None = None,
    *,
    tracer_provider: "TracerProvider | None" = None,
    meter_provider: "MeterProvider | None" = None,
    instrument: bool = True,
    signals: bool = True,
    wrap_process: bool = False,
    mapper: mapping.Mapper | None = None,
) -> Recorder:
    """Record this process from now on, into `db` (default: RETROSPAN_DB, else telemetry.sqlite), as run `run_id`.

    Spans of `tracer_provider`, by default the global one, are recorded; where there is none yet, one is made and set. With
    `instrument` false the hooks are left to the program. `signals` sets a handler for SIGTERM and SIGHUP where the default
    stands, so that what has ended is written first; `wrap_process` also wraps what else ends a process (os._exit, exec, a
    signal set back to its default). `mapper` says which host, role and scope names stand for (default: RETROSPAN_MAPPER's,
    else the built-in one). Asked again for the same file, it returns the same recorder. Switched off by RETROSPAN_DISABLED
    or OTEL_SDK_DISABLED it records nothing.

    Raises TypeError when the program's tracer provider takes no span processors.
    """
    exporter = SQLiteSpanExporter(db, run_id)
    if is_disabled():
        return Recorder(None, exporter)
    known = _recorders.get(exporter.path)
    if known is not None:
        return known
    recorder = begin(exporter, signals=signals, wrap_process=wrap_process)
    if mapper is not None:
        mapping.use(mapper)
    provider = provider_for(tracer_provider, exporter.run.id)
    provider.add_span_processor(recorder.processor)
    recorder.watch(provider, instrument=instrument, meter_provider=meter_provider)
    return recorder


def recorders() -> list[Recorder]:
    """The recorders of this process, by whatever way they came."""
    return list(_recorders.values())


def begin(exporter: SQLiteSpanExporter, *, signals: bool = True, wrap_process: bool = True) -> Recorder:
    """Begin the run of an exporter of ours. The recorder's processor is yet to be given to a provider.

    The run is summed up when the process that began it ends.
    """

    def sum_up() -> None:
        from retrospan.record import RecordError
        from retrospan.summary import summarize

        try:
            summarize(exporter.path, exporter.run.id, finished_at=time.time())
        except RecordError:
            # What stands in the way was told when rows could not be written.
            _logger.warning("Run %s has no summary; `retrospan summarize` writes it.", exporter.run.id)

    processor = RecorderSpanProcessor(exporter, on_close=sum_up)
    # The run shows from its start on. A new one waits for no disk; an id that was given may be complete already in this
    # record, and go on under another one: that is settled before any span or child process bears it.
    if exporter.run.is_new:
        start_new_thread(exporter.start, ())
    else:
        exporter.start()
    _settle(DB, exporter.path, exporter.run, signals=signals, wrap_process=wrap_process)
    recorder = _recorders[exporter.path] = Recorder(processor, exporter)
    return recorder


def begin_lines(
    exporter: "JSONLSpanExporter", *, signals: bool = True, wrap_process: bool = True
) -> RecorderSpanProcessor:
    """Begin to write lines: the processor for an exporter of lines, which is yet to be given to a provider."""
    from retrospan_exporters.jsonl import JSONL

    processor = RecorderSpanProcessor(exporter, on_close=exporter.finish)
    _settle(JSONL, exporter.path, exporter.run, signals=signals, wrap_process=wrap_process)
    _lines.append(exporter)
    return processor


def watch_lines(provider: Any) -> None:
    """Take note of the provider whose spans are written as lines."""
    for exporter in _lines:
        exporter.run.sampler = _thinning_sampler(provider)
    if _lines:
        _quicken_hooks(provider)


def _settle(variable: str, path: str, run: Run, *, signals: bool, wrap_process: bool) -> None:
    """What holds for the whole process: names for what is seen, and how it ends; and for the processes that it starts."""
    mapping.use(_mapper_of_environment())
    # They take part in this run, in this file, whatever folder they run in.
    run.pass_on()
    if not os.environ.get(variable) or os.path.abspath(os.environ[variable]) == path:  # noqa: PTH100  # links are kept
        os.environ[variable] = path
    if signals:
        lifecycle.handle_signals()
    if wrap_process:
        lifecycle.wrap_exits()


def _mapper_of_environment() -> mapping.Mapper | None:
    """The mapper that RETROSPAN_MAPPER names, made if it is a class; None, with one clear line, when there is none such."""
    named = os.environ.get(MAPPER, "").strip()
    if not named:
        return None
    module, _, name = named.partition(":")
    try:
        found = getattr(import_module(module), name)
        mapper = found() if isinstance(found, type) else found
    except Exception as error:
        _logger.error(
            "%s=%s cannot be used (%s): it must say package.module:Class.", MAPPER, named, type(error).__name__
        )
        return None
    if isinstance(mapper, mapping.Mapper):
        return mapper
    _logger.error("%s=%s is no retrospan_instrumentation.mapping.Mapper.", MAPPER, named)
    return None


def _quicken_hooks(provider: Any) -> None:
    """Have the hooks' spans cost little with a program's own provider, too; those of its other tracers stay its own.

    The provider keeps one tracer a scope, so this is the one that the hooks have, or get.
    """
    from opentelemetry.sdk.trace import TracerProvider

    from retrospan_exporters.provider import use_fast_spans

    if isinstance(provider, TracerProvider):
        use_fast_spans(provider.get_tracer(semconv.SCOPE, semconv.VERSION))


def _thinning_sampler(provider: Any) -> str | None:
    """Description of the provider's sampler, if it is one that does not keep every span."""
    if not hasattr(provider, "sampler"):
        return None
    description = str(provider.sampler.get_description())
    return None if description.startswith(("AlwaysOnSampler", "ParentBased{root:AlwaysOnSampler")) else description


def resource_attributes(run_id: str) -> dict[str, str]:
    """What the resource of every span says of its run."""
    return {semconv.RETROSPAN_RUN_ID: run_id}


def provider_for(given: "TracerProvider | None", run_id: str) -> Any:
    """A provider that takes span processors: the given one, the global one, or one that is made and set as such.

    Raises TypeError when the program's takes none.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource

    from retrospan_exporters.provider import provider_class

    provider: Any = given or trace.get_tracer_provider()
    if hasattr(provider, "add_span_processor"):
        return provider
    if given is None and isinstance(provider, trace.ProxyTracerProvider):
        made = provider_class()(resource=Resource.create(resource_attributes(run_id)))
        trace.set_tracer_provider(made)
        return made
    raise TypeError(
        f"{type(provider).__name__} takes no span processors: give configure() an SDK TracerProvider as tracer_provider"
    )
