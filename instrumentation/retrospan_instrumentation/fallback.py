"""Record a fallback orchestrator and the function that stores files, with no code change.

    RETROSPAN_FALLBACK=package.module:Orchestrator RETROSPAN_DOWNLOAD=package.module:store opentelemetry-instrument …

Any class will do that has a `resolve…(context, adapters)` method: `context` a mapping with artifact_id and work_id,
`adapters` a mapping of source names to `adapter(policy, context)`, called in whatever thread or task. An adapter's result
says outcome, reason, status, host or url. Tiers come from `self.plan.tiers` (each with a name and its sources), skipped
sources from `self._health_gate(source, context)`, where there is one.

The storing function's result says sha256, final_path or path, content_length, content_type and dedupe_action. Results may
have attributes or keys. Both must stand in a module that the program imports (not in the script itself).
"""

import copy
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from time import time_ns
from types import ModuleType, TracebackType
from typing import Any

import wrapt
from opentelemetry.context import Context, attach, detach, get_current

from . import api, emit, frames
from . import semconv as sc
from .frames import ResolutionFrame
from .hooks import LibraryInstrumentor
from .surround import Call, fault

_logger = logging.getLogger("retrospan")

FALLBACK = "RETROSPAN_FALLBACK"
DOWNLOAD = "RETROSPAN_DOWNLOAD"


class FallbackInstrumentor(LibraryInstrumentor):
    """Hooks the orchestrator and the storing function that the environment names."""

    layer = "fallback"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        named: dict[str, list[tuple[str, str]]] = {}
        for variable in (FALLBACK, DOWNLOAD):
            module, _, path = os.environ.get(variable, "").strip().partition(":")
            if module and path:
                named.setdefault(module, []).append((variable, path))
            elif module:
                _logger.error("%s is %r; it must say package.module:name. Nothing is hooked for it.", variable, module)
        return {module: partial(self._hook, wanted) for module, wanted in named.items()}

    def _instrument(self, **kwargs: Any) -> None:
        super()._instrument(**kwargs)
        if self._tell_missing not in frames.at_end:
            frames.at_end.append(self._tell_missing)

    def _tell_missing(self) -> None:
        """The process ends, and what the environment named was never imported: a name misspelt, most likely."""
        for module in sorted(self._waiting if self.is_on else ()):
            if module not in sys.modules:
                _logger.warning("%s, named for a hook, was never imported: nothing was hooked there.", module)

    def _hook(self, wanted: Iterable[tuple[str, str]], module: ModuleType) -> None:
        hooks = {FALLBACK: self._hook_orchestrator, DOWNLOAD: self._hook_download}
        for variable, path in wanted:
            if not hooks[variable](module, path):
                _logger.error(
                    "%s names %s:%s, where nothing can be hooked: see the names in that module.",
                    variable,
                    module.__name__,
                    path,
                )

    def _hook_orchestrator(self, module: ModuleType, path: str) -> bool:
        orchestrator = _walk(module, path.split("."))
        if not inspect.isclass(orchestrator):
            return False
        found = False
        for owner in orchestrator.__mro__:
            for name, method in list(vars(owner).items()):
                asynchronous = inspect.iscoroutinefunction(method)
                if name.startswith("resolve") and {"context", "adapters"} <= _parameters(method):
                    self.patch(owner, name, self._resolve_async if asynchronous else self._resolve)
                    found = True
                elif name == "_health_gate" and inspect.isroutine(method):
                    self.wrap(owner, name, partial(_enter_gate, method), asynchronous=asynchronous)
        return found

    def _hook_download(self, module: ModuleType, path: str) -> bool:
        *owners, name = path.split(".")
        owner = _walk(module, owners)
        placed = vars(owner).get(name) if owner is not None else None
        if not inspect.isroutine(placed):
            return False
        function = getattr(placed, "__func__", placed)  # of a class or static method

        def enter(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            return _Storing(_arguments(function, instance, args, kwargs))

        self.wrap(owner, name, enter, asynchronous=inspect.iscoroutinefunction(function), layer="download")
        return True

    def _resolve(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not self.is_on:
            return wrapped(*args, **kwargs)
        with _Resolving(wrapped, instance, args, kwargs) as call:
            return wrapped(*call.args, **call.kwargs)

    async def _resolve_async(
        self, wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not self.is_on:
            return await wrapped(*args, **kwargs)
        with _Resolving(wrapped, instance, args, kwargs) as call:
            return await wrapped(*call.args, **call.kwargs)


class _Adapter(wrapt.FunctionWrapper):  # type: ignore[type-arg]  # not every release can be subscripted
    """An adapter whose calls are attempts; in all else the program's own, also where it is pickled for another process."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _itself, (self.__wrapped__,)


def _itself(adapter: Any) -> Any:
    return adapter


class _Resolving:
    """One call of `resolve…`: a resolution, and the call's arguments with every adapter made an attempt."""

    def __init__(
        self, method: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.args, self.kwargs = args, kwargs
        self._scope: api.resolution | None = None
        self._inside: Context | None = None
        try:
            bound = inspect.signature(method).bind(*args, **kwargs)
            context, adapters = bound.arguments["context"], bound.arguments["adapters"]
        except (TypeError, KeyError):  # not a valid call: the method itself will say so
            return
        try:
            attempted = isinstance(adapters, Mapping)
            if attempted and any(isinstance(adapter, _Adapter) for adapter in adapters.values()):
                return  # one resolve… method calls another
            self._scope = api.resolution(said(context, "artifact_id"), said(context, "work_id"))
            if attempted:
                bound.arguments["adapters"] = self._attempted(adapters, tiers(instance))
                self.args, self.kwargs = bound.args, bound.kwargs
        except Exception as error:
            fault(error)

    def __enter__(self) -> "_Resolving":
        if self._scope is not None:
            self._scope.__enter__()
            self._inside = get_current()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._scope is not None:
            self._scope.__exit__(kind, error, traceback)

    def _attempted(self, adapters: Mapping[Any, Any], tier_of: Mapping[str | None, str | None]) -> Mapping[Any, Any]:
        own: Any = copy.copy(adapters) if isinstance(adapters, dict) else dict(adapters)
        for source, adapter in adapters.items():
            if callable(adapter):
                name = api.word(source)
                own[source] = self._attempting(adapter, name, tier_of.get(name))
        return own  # type: ignore[no-any-return]

    def _attempting(self, adapter: Callable[..., Any], source: str | None, tier: str | None) -> _Adapter:
        async def attempting_async(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            with self._here(), _Attempting(tier, source) as scope:
                return scope.came_to(await wrapped(*args, **kwargs))

        async def awaiting(scope: _Attempting, result: Any) -> Any:
            with self._here(), scope.resumed():
                return scope.came_to(await result)

        def attempting(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            with self._here(), _Attempting(tier, source) as scope:
                result = wrapped(*args, **kwargs)
                if inspect.isawaitable(
                    result
                ):  # a plain function that hands on a coroutine: the attempt is yet to come
                    scope.pause()
                    return awaiting(scope, result)
                return scope.came_to(result)

        return _Adapter(adapter, attempting_async if _is_asynchronous(adapter) else attempting)

    @contextmanager
    def _here(self) -> Iterator[None]:
        """Inside this resolution, also in a worker that was there before it and knows nothing of it."""
        mine = None if self._scope is None else self._scope._frame
        current = frames.current()
        if mine is None or self._inside is None or (current is not None and any(f is mine for f in current.chain())):
            yield
            return
        token = attach(self._inside)
        try:
            yield
        finally:
            detach(token)


def _is_asynchronous(adapter: Any) -> bool:
    return any(inspect.iscoroutinefunction(function) for function in (adapter, getattr(adapter, "__call__", None)))  # noqa: B004


class _Attempting(api.attempt):
    """An attempt whose adapter says by its result how it came out."""

    _paused = False

    def pause(self) -> None:
        """What was called has only promised a result: leave without an end."""
        self._paused = True

    def resumed(self) -> "_Attempting":
        """What was promised is awaited now, in this task perhaps: go on where it was left."""
        self._paused = False
        return self

    def _open(self) -> None:
        if self._frame is None:
            super()._open()
        else:
            self._frame.enter(span=self._span)

    def _close(self, error: BaseException | None) -> None:
        if self._paused and self._frame is not None:
            self._frame.leave()
        else:
            super()._close(error)

    def came_to(self, result: Any) -> Any:
        try:
            outcome = said(result, "outcome")
            if outcome is not None:
                self.outcome(outcome, said(result, "reason"), said(result, "status"), host_said(result))
        except Exception as error:
            fault(error)
        return result


class _Gate(Call):
    """A source that the health gate turned away was skipped: an attempt of its own, made by nobody."""

    def __init__(self, instance: Any, source: object, context: Any) -> None:
        self._source, self._context = api.word(source), context
        self._tier = tiers(instance).get(self._source)
        self._start = time_ns()

    def returned(self, result: Any) -> Any:
        if result is not None:
            outcome = api.word(said(result, "outcome"))
            artifact_id, work_id = api.ids_of(frames.nearest(ResolutionFrame))
            facts: emit.Facts = {
                sc.DOWNLOAD_ARTIFACT_ID: api.text(said(self._context, "artifact_id")) or artifact_id,
                sc.DOWNLOAD_WORK_ID: api.text(said(self._context, "work_id")) or work_id,
                sc.FALLBACK_TIER: self._tier,
                sc.FALLBACK_SOURCE: self._source,
                sc.SERVER_ADDRESS: host_said(result),
                sc.FALLBACK_OUTCOME: outcome if outcome in sc.OUTCOMES else "skipped",
                sc.FALLBACK_REASON: api.code(said(result, "reason")),
                sc.FALLBACK_STATUS: api.whole(said(result, "status")),
            }
            emit.tell(sc.SPAN_FALLBACK_ATTEMPT, facts, start=self._start)
        return result

    def raised(self, error: BaseException) -> None:
        pass


def _enter_gate(method: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    given = dict(_arguments(method, instance, args, kwargs))
    ordered = list(given.values())[1:] or [None]
    return _Gate(instance, given.get("source", ordered[0]), given.get("context"))


class _Storing(Call):
    """One call of the storing function."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        context = arguments.get("context")
        ids = [arguments.get(name) or said(context, name) for name in ("artifact_id", "work_id")]
        self._scope = api.download(*ids)
        self._scope.__enter__()

    def returned(self, result: Any) -> Any:
        try:
            self._scope.identify(said(result, "artifact_id"), said(result, "work_id"))
            sha256, path = said(result, "sha256"), said(result, "final_path") or said(result, "path")
            if sha256 is None and path is None:
                self._scope.failed(said(result, "reason") or "no_file", host=host_said(result))
            else:
                self._scope.stored(
                    sha256=sha256,
                    final_path=path,
                    content_length=said(result, "content_length"),
                    content_type=said(result, "content_type"),
                    dedupe_action=said(result, "dedupe_action"),
                    host=host_said(result),
                )
        finally:
            self._scope.__exit__(None, None, None)
        return result

    def raised(self, error: BaseException) -> None:
        self._scope.__exit__(type(error), error, error.__traceback__)


def _walk(owner: Any, path: Iterable[str]) -> Any:
    for name in path:
        owner = getattr(owner, name, None)
    return owner


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters) if inspect.isroutine(function) else set()


def _arguments(function: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Mapping[str, Any]:
    try:
        given = args if instance is None else (instance, *args)
        return inspect.signature(function).bind_partial(*given, **kwargs).arguments
    except TypeError:
        return kwargs


def said(thing: Any, name: str) -> Any:
    """The value under this name, an attribute's or a key's; None when there is none."""
    if isinstance(thing, Mapping):
        return thing.get(name)
    return getattr(thing, name, None)


def host_said(result: Any) -> str | None:
    """The host that a result names, by itself or by its URL, of which nothing else is kept."""
    return api.host_named(said(result, "host") or said(result, "url"))


def tiers(orchestrator: Any) -> dict[str | None, str | None]:
    """Source -> name of its tier, from the orchestrator's plan; empty when it has none."""
    found: dict[str | None, str | None] = {}
    for tier in said(said(orchestrator, "plan"), "tiers") or ():
        for source in said(tier, "sources") or ():
            found.setdefault(api.word(source), api.word(said(tier, "name")))
    return found
