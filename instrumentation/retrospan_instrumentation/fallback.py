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
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from time import time_ns
from types import ModuleType, TracebackType
from typing import Any
from urllib.parse import urlsplit

from . import api, emit, frames
from . import semconv as sc
from .frames import ResolutionFrame
from .hooks import Call, LibraryInstrumentor, fault

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
        for name, method in list(vars(orchestrator).items()):
            if name.startswith("resolve") and {"context", "adapters"} <= _parameters(method):
                asynchronous = inspect.iscoroutinefunction(method)
                self.patch(orchestrator, name, self._resolve_async if asynchronous else self._resolve)
                found = True
        if "_health_gate" in vars(orchestrator):
            self.wrap(orchestrator, "_health_gate", _Gate)
        return found

    def _hook_download(self, module: ModuleType, path: str) -> bool:
        *owners, name = path.split(".")
        owner = _walk(module, owners)
        function = vars(owner).get(name) if owner is not None else None
        if not inspect.isroutine(function):
            return False

        def enter(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            return _Storing(_arguments(function, instance, args, kwargs))

        self.wrap(owner, name, enter, asynchronous=inspect.iscoroutinefunction(function))
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


class _Resolving:
    """One call of `resolve…`: a resolution, and the call's arguments with every adapter made an attempt."""

    def __init__(
        self, method: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.args, self.kwargs = args, kwargs
        self._scope = api.resolution()
        try:
            bound = inspect.signature(method).bind(*args, **kwargs)
            context, adapters = bound.arguments["context"], bound.arguments["adapters"]
            self._scope = api.resolution(said(context, "artifact_id"), said(context, "work_id"))
            if isinstance(adapters, Mapping):
                bound.arguments["adapters"] = _attempted(adapters, tiers(instance))
                self.args, self.kwargs = bound.args, bound.kwargs
        except Exception as error:
            fault(error)

    def __enter__(self) -> "_Resolving":
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._scope.__exit__(kind, error, traceback)


def _attempted(adapters: Mapping[str, Any], tier_of: Mapping[str, str]) -> Mapping[str, Any]:
    own: Any = copy.copy(adapters) if isinstance(adapters, dict) else dict(adapters)
    for source, adapter in adapters.items():
        if callable(adapter):
            own[source] = _attempting(adapter, source, tier_of.get(source))
    return own  # type: ignore[no-any-return]


def _attempting(adapter: Callable[..., Any], source: str, tier: str | None) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(adapter) or inspect.iscoroutinefunction(getattr(adapter, "__call__", None)):  # noqa: B004

        async def attempting_async(*args: Any, **kwargs: Any) -> Any:
            with _Attempting(tier, source) as scope:
                return scope.came_to(await adapter(*args, **kwargs))

        return attempting_async

    def attempting(*args: Any, **kwargs: Any) -> Any:
        with _Attempting(tier, source) as scope:
            return scope.came_to(adapter(*args, **kwargs))

    return attempting


class _Attempting(api.attempt):
    """An attempt whose adapter says by its result how it came out."""

    def came_to(self, result: Any) -> Any:
        try:
            outcome = said(result, "outcome")
            if outcome is not None:
                self.outcome(_word(outcome), said(result, "reason"), whole(said(result, "status")), host_said(result))
        except Exception as error:
            fault(error)
        return result


class _Gate(Call):
    """A source that the health gate turned away was skipped: an attempt of its own, made by nobody."""

    def __init__(self, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._source = str(args[0] if args else next(iter(kwargs.values()), ""))
        self._context = args[1] if len(args) > 1 else kwargs.get("context")
        self._tier = tiers(instance).get(self._source)
        self._start = time_ns()

    def returned(self, result: Any) -> Any:
        if result is not None:
            outcome = _word(said(result, "outcome") or "skipped")
            artifact_id, work_id = api.ids_of(frames.nearest(ResolutionFrame))
            facts: emit.Facts = {
                sc.DOWNLOAD_ARTIFACT_ID: api.text(said(self._context, "artifact_id")) or artifact_id,
                sc.DOWNLOAD_WORK_ID: api.text(said(self._context, "work_id")) or work_id,
                sc.FALLBACK_TIER: self._tier,
                sc.FALLBACK_SOURCE: self._source,
                sc.SERVER_ADDRESS: host_said(result),
                sc.FALLBACK_OUTCOME: outcome if outcome in sc.OUTCOMES else "skipped",
                sc.FALLBACK_REASON: api.code(said(result, "reason")),
                sc.FALLBACK_STATUS: whole(said(result, "status")),
            }
            emit.tell(sc.SPAN_FALLBACK_ATTEMPT, facts, start=self._start)
        return result

    def raised(self, error: BaseException) -> None:
        pass


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
                    content_length=whole(said(result, "content_length")),
                    content_type=api.text(said(result, "content_type")),
                    dedupe_action=_word(said(result, "dedupe_action") or "none"),
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
    host = said(result, "host")
    if host:
        return str(host)
    url = said(result, "url")
    try:
        return urlsplit(str(url)).hostname if url else None
    except ValueError:
        return None


def whole(value: Any) -> int | None:
    """A whole number, else None."""
    return int(value) if isinstance(value, int) else None


def _word(value: Any) -> str:
    return str(getattr(value, "value", value))


def tiers(orchestrator: Any) -> dict[str, str]:
    """Source -> name of its tier, from the orchestrator's plan; empty when it has none."""
    found: dict[str, str] = {}
    for tier in said(said(orchestrator, "plan"), "tiers") or ():
        for source in said(tier, "sources") or ():
            found.setdefault(str(source), str(said(tier, "name")))
    return found
