"""What no hook can know, said by the program: which artifact is resolved, which source is tried, what was stored.

    with retrospan.resolution("10.1000/1", work_id="W1"):
        with retrospan.attempt("direct_oa", "unpaywall") as attempt, retrospan.role("metadata"):
            response = client.get(url)
            attempt.outcome("no_pdf", status=response.status_code)
        with retrospan.attempt("landing", "doi"), retrospan.download() as download:
            download.stored(sha256=digest, final_path=path, content_length=size)

All are context managers (`with` and `async with`) and decorators (of functions and coroutine functions), and raise nothing
of their own. As decorators, `resolution` and `download` take an artifact's and a work's id from the arguments of that name.
"""

import functools
import inspect
import os
import re
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from time import time_ns
from types import TracebackType
from typing import Any, TypeVar, cast

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current, set_value
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from . import emit, frames, mapping, metrics, waits
from . import semconv as sc
from .frames import AttemptFrame, Frame, ResolutionFrame
from .sends import is_retryable
from .surround import fault, layers

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Self = TypeVar("_Self", bound="_Scope")
_MOST_POLICIES = 8  # retry policies around each other
_CODE = re.compile(r"[A-Za-z0-9_.:+-]{1,64}")
_last_resolution: ContextVar[tuple[str | None, str | None]] = ContextVar(
    "retrospan-last-resolution", default=(None, None)
)


def code(reason: object) -> str | None:
    """A reason as it may be recorded: a short code as it stands, anything longer or freer as "other"."""
    if reason is None:
        return None
    said = word(reason)
    return said if said is not None and _CODE.fullmatch(said) and "://" not in said else "other"


def text(value: object) -> str | None:
    """An id or a path as it is recorded: a string, None kept."""
    if value is None:
        return None
    try:
        return os.fsdecode(value) if isinstance(value, (os.PathLike, bytes)) else str(value)
    except Exception as error:  # of the program's own object
        fault(error)
        return None


def word(value: object) -> str | None:
    """One of a few words, which may come as an Enum's member."""
    return text(value.value if isinstance(value, Enum) else value)


def whole(value: object) -> int | None:
    """A whole number, else None."""
    return int(value) if isinstance(value, int) else None


def host_named(value: object) -> str | None:
    """A host as it is recorded; of a URL nothing else."""
    said = text(value)
    return mapping.label_of(said) if said else None


class _Scope:
    """What all have in common: context manager and decorator, sync and async, and that no fault of theirs gets out."""

    def _open(self) -> None:
        raise NotImplementedError

    def _close(self, error: BaseException | None) -> None:
        raise NotImplementedError

    def _for_call(self, arguments: dict[str, Any]) -> "_Scope":
        """A fresh scope for one call of a decorated function with these arguments."""
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        try:
            self._open()
        except Exception as error:
            fault(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._close(error)
        except Exception as own:
            fault(own)

    async def __aenter__(self: _Self) -> _Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: _Function) -> _Function:
        signature = inspect.signature(function)

        def scope(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Scope:
            try:
                return self._for_call(signature.bind_partial(*args, **kwargs).arguments)
            except TypeError:  # not a valid call: the function itself will say so
                return self._for_call({})

        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                with scope(args, kwargs):
                    return await function(*args, **kwargs)

            return cast(_Function, call_async)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with scope(args, kwargs):
                return function(*args, **kwargs)

        return cast(_Function, call)


class _SpanScope(_Scope):
    """A scope with a span, whose attributes are given once, at its end; and a frame where others must find it."""

    _name = ""
    _layer = "fallback"
    _span: Span
    _started = 0
    _frame: Frame | None = None
    _before: Context | None = None

    def _make_frame(self) -> Frame | None:
        return None

    def _open(self) -> None:
        layers.add(self._layer)
        self._started = time_ns()
        self._span = emit.tracer.start_span(self._name, kind=SpanKind.INTERNAL)
        frame = self._make_frame()
        if frame is not None:
            self._frame = frame
        else:
            self._before = get_current()
            attach(trace.set_span_in_context(self._span))

    def _facts(self, error: BaseException | None) -> dict[str, AttributeValue | None]:
        raise NotImplementedError

    def _close(self, error: BaseException | None) -> None:
        if self._frame is not None:
            self._frame.close()
        elif self._before is not None:
            attach(self._before)
        try:
            facts = emit.known(self._facts(error))
            self._span.set_attributes(facts)
            if metrics.live is not None:
                metrics.live.told(self._name, facts, (time_ns() - self._started) / 1e9)
        finally:
            self._span.end()


class resolution(_SpanScope):
    """One artifact is resolved: what is tried and stored inside belongs to it. Emits a `fallback.resolve` span."""

    _name = sc.SPAN_FALLBACK_RESOLVE

    def __init__(self, artifact_id: object = None, work_id: object = None) -> None:
        self.artifact_id, self.work_id = text(artifact_id), text(work_id)

    def _for_call(self, arguments: dict[str, Any]) -> "resolution":
        return resolution(self.artifact_id or arguments.get("artifact_id"), self.work_id or arguments.get("work_id"))

    def _make_frame(self) -> Frame:
        _last_resolution.set((self.artifact_id, self.work_id))
        return ResolutionFrame(self.artifact_id, self.work_id, self._span)

    def _facts(self, error: BaseException | None) -> dict[str, AttributeValue | None]:
        return {
            sc.DOWNLOAD_ARTIFACT_ID: self.artifact_id,
            sc.DOWNLOAD_WORK_ID: self.work_id,
            sc.ERROR_TYPE: None if error is None else type(error).__name__,
        }


class attempt(_SpanScope):
    """One source is tried: one `fallback_attempts` row. Left without `outcome()`, it is judged by how it ends."""

    _name = sc.SPAN_FALLBACK_ATTEMPT

    def __init__(self, tier: object, source: object, host: object = None) -> None:
        self._tier, self._source, self._host = word(tier), word(source), host_named(host)
        self._outcome: tuple[str, str | None, int | None] | None = None

    def outcome(self, outcome: str, reason: object = None, status: int | None = None, host: object = None) -> None:
        """Say how it came out: success, retryable, nonretryable, timeout, skipped, error or no_pdf; the last word counts.

        `reason` is a short code; free text is recorded as "other". Another outcome than these is recorded as error.
        """
        said = word(outcome)
        self._outcome = said if said in sc.OUTCOMES else "error", code(reason), whole(status)
        self._host = host_named(host) or self._host

    def _for_call(self, arguments: dict[str, Any]) -> "attempt":
        return attempt(self._tier, self._source, self._host)

    def _make_frame(self) -> Frame:
        return AttemptFrame(self._source, self._span)

    def _facts(self, error: BaseException | None) -> dict[str, AttributeValue | None]:
        frame = self._frame if isinstance(self._frame, AttemptFrame) else None
        outcome, reason, status = self._outcome or _judged(error, frame)
        if status is None and frame is not None and outcome != "skipped":
            status = frame.last_status
        artifact_id, work_id = ids_of(frame)
        return {
            sc.DOWNLOAD_ARTIFACT_ID: artifact_id,
            sc.DOWNLOAD_WORK_ID: work_id,
            sc.FALLBACK_TIER: self._tier,
            sc.FALLBACK_SOURCE: self._source,
            sc.SERVER_ADDRESS: self._host or (frame.last_host if frame is not None else None),
            sc.FALLBACK_OUTCOME: outcome,
            sc.FALLBACK_REASON: reason,
            sc.FALLBACK_STATUS: status,
        }


class download(_SpanScope):
    """One artifact is stored, or given up: one `downloads` row. Ids default to the resolution it happens in, or the last."""

    _name, _layer = sc.SPAN_DOWNLOAD, "download"

    def __init__(self, artifact_id: object = None, work_id: object = None) -> None:
        self._artifact_id, self._work_id = text(artifact_id), text(work_id)
        self._said: dict[str, AttributeValue | None] | None = None
        self._attempt: AttemptFrame | None = None

    def stored(
        self,
        *,
        sha256: object,
        final_path: object,
        content_length: int | None = None,
        content_type: str | None = None,
        dedupe_action: str = "none",
        source: object = None,
        host: object = None,
    ) -> None:
        """The file is in place: its SHA-256 (64 hex digits), path, bytes on disk, and how a copy of it was saved."""
        self._said = {
            sc.DOWNLOAD_OUTCOME: "stored",
            sc.DOWNLOAD_SHA256: text(sha256),
            sc.DOWNLOAD_FINAL_PATH: text(final_path),
            sc.DOWNLOAD_CONTENT_LENGTH: whole(content_length),
            sc.DOWNLOAD_CONTENT_TYPE: text(content_type),
            sc.DOWNLOAD_DEDUPE_ACTION: action if (action := word(dedupe_action)) in sc.DEDUPE_ACTIONS else "none",
            sc.FALLBACK_SOURCE: word(source),
            sc.SERVER_ADDRESS: host_named(host),
        }
        if self._attempt is not None:
            self._attempt.stored = True

    def failed(self, reason: object, *, source: object = None, host: object = None) -> None:
        """It was given up; `reason` is a short code."""
        self._said = {
            sc.DOWNLOAD_OUTCOME: "failed",
            sc.DOWNLOAD_REASON: code(reason),
            sc.FALLBACK_SOURCE: word(source),
            sc.SERVER_ADDRESS: host_named(host),
        }

    def identify(self, artifact_id: object, work_id: object) -> None:
        """Say which artifact it is, where that was not known before."""
        self._artifact_id = self._artifact_id or text(artifact_id)
        self._work_id = self._work_id or text(work_id)

    def _for_call(self, arguments: dict[str, Any]) -> "download":
        return download(self._artifact_id or arguments.get("artifact_id"), self._work_id or arguments.get("work_id"))

    def _open(self) -> None:
        self._attempt = frames.nearest(AttemptFrame)
        super()._open()

    def _facts(self, error: BaseException | None) -> dict[str, AttributeValue | None]:
        if self._said is None:
            reason = "unknown" if error is None else type(error).__name__
            self._said = {sc.DOWNLOAD_OUTCOME: "failed", sc.DOWNLOAD_REASON: reason}
        facts, tried = self._said, self._attempt
        artifact_id, work_id = ids_of(tried or frames.current())
        facts[sc.DOWNLOAD_ARTIFACT_ID] = self._artifact_id or artifact_id
        facts[sc.DOWNLOAD_WORK_ID] = self._work_id or work_id
        if tried is not None:
            facts[sc.FALLBACK_SOURCE] = facts.get(sc.FALLBACK_SOURCE) or tried.source
            facts[sc.SERVER_ADDRESS] = facts.get(sc.SERVER_ADDRESS) or tried.last_host
        return facts


class role(_Scope):
    """What requests and limiter waits inside are for: metadata, landing or artifact."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._before: Context | None = None

    def _for_call(self, arguments: dict[str, Any]) -> "role":
        return role(self._role)

    def _open(self) -> None:
        self._before = get_current()
        attach(set_value(waits.ROLE_KEY, self._role))

    def _close(self, error: BaseException | None) -> None:
        if self._before is not None:
            attach(self._before)


def head_skip(host: str, role: str | None = None) -> None:
    """Say that a limiter was deliberately not asked, because the request is a HEAD: one `rate_events` row."""
    try:
        layers.add("limiter")
        waits.head_skip(host_named(host), role or waits.current_role())
    except Exception as error:
        fault(error)


def ids_of(frame: Frame | None) -> tuple[str | None, str | None]:
    """(artifact id, work id) of the resolution around this frame, else of this context's last one."""
    around = frames.nearest(ResolutionFrame, frame) if frame is not None else None
    return (around.artifact_id, around.work_id) if around is not None else _last_resolution.get()


def _judged(error: BaseException | None, frame: AttemptFrame | None) -> tuple[str, str | None, int | None]:
    """(outcome, reason, status) of an attempt that was left without a word."""
    if error is None and frame is not None and frame.stored:
        return "success", None, None
    cause = None if error is None else _cause(error)
    if cause is not None:
        return _judged_by(cause)
    status = frame.last_status if frame is not None else None
    if outcome := _by_status(status):
        return outcome, f"http_{status}", status
    return ("no_pdf", None, status) if error is None else ("error", type(error).__name__, None)


def _judged_by(error: BaseException) -> tuple[str, str | None, int | None]:
    name = type(error).__name__
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if isinstance(error, TimeoutError) or kinds & {"TimeoutException", "Timeout"}:
        return "timeout", name, None
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int) and (outcome := _by_status(status)):
        return outcome, f"http_{status}", status
    return ("retryable" if kinds & {"TransportError", "ConnectionError"} else "error"), name, None


def _by_status(status: int | None) -> str | None:
    if status is None or status < 400:
        return None
    return "retryable" if is_retryable(status) else "nonretryable"


def _cause(error: BaseException) -> BaseException | None:
    """What a retry policy gave up on, not that it gave up; None when that was a result."""
    cause: BaseException | None = error
    for _ in range(_MOST_POLICIES):
        last = getattr(cause, "last_attempt", None)
        if last is None:
            break
        try:
            cause = last.exception(timeout=0)
        except Exception:
            break
    return cause
