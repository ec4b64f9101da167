"""Put hooks on a library's classes: now or when it is imported, guarded, and off again.

A file of this package names the library it watches and says what surrounds a call; everything else is done here once:
patching what is loaded and waiting for what is not, the version check, the fault guard, un-patching, sync and async.

    class TenacityInstrumentor(LibraryInstrumentor):
        layer, distribution, versions = "retry", "tenacity", ">=8.5,<10"

        def targets(self):
            return {"tenacity": self._hook}

        def _hook(self, module):
            self.wrap(module.Retrying, "__call__", RetryingCall)

What surrounds a call is a `Call`: made before it, told of its result or its exception after. No fault of a `Call` reaches the
application: the wrapped function is called as if no hook were there, and the fault is logged once a place.
"""

import functools
import importlib
import importlib.metadata
import logging
import os
import sys
import types
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, ClassVar, Protocol

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from packaging.specifiers import SpecifierSet

from . import emit, metrics

_logger = logging.getLogger("retrospan")
_faults: set[tuple[str, int]] = set()
_MARK = "_retrospan_hook"

layers: set[str] = set()
"""The layers whose hooks have been called in this process; what `run_info.layers` is made of."""


DISABLED = "RETROSPAN_DISABLED"
SDK_DISABLED = "OTEL_SDK_DISABLED"


def is_set(variable: str) -> bool:
    """Whether the environment says true."""
    return os.environ.get(variable, "").strip().lower() in ("1", "true")


def is_disabled() -> bool:
    """Whether the environment switches all of this off."""
    return is_set(DISABLED) or is_set(SDK_DISABLED)


class Call(Protocol):
    """What surrounds one call of a watched function."""

    def returned(self, result: Any) -> Any:
        """Take the result, and return what the caller gets."""

    def raised(self, error: BaseException) -> None:
        """Take the exception, which goes on to the caller."""


Enter = Callable[[Any, tuple[Any, ...], dict[str, Any]], Call | None]
"""Called before: (instance, args, kwargs) -> the `Call` around it, or None to leave it alone."""


def fault(error: BaseException) -> None:
    """Log a fault of a hook, once a place, by class and line: its text may hold what must not be written."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = (traceback.tb_frame.f_code.co_filename, traceback.tb_lineno) if traceback is not None else ("?", 0)
    if where in _faults:
        return
    _faults.add(where)
    module = where[0].replace("\\", "/").rsplit("/", 1)[-1]
    _logger.error(
        "A hook failed with %s at %s:%d; the application's call went on without it. Please report this.",
        type(error).__name__,
        module,
        where[1],
    )


def _hooked(
    function: Callable[..., Any], enter: Enter, owner: "LibraryInstrumentor", layer: str, when: bool = True
) -> Callable[..., Any]:
    """A method inside what `enter` makes of each call, while `owner.is_on` is `when`; each counts for this layer.

    A plain function, with no other in between: wrapt's binding would cost half a hook more.
    """

    @functools.wraps(function)
    def hooked(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        if owner.is_on is not when:
            return function(instance, *args, **kwargs)
        try:
            if layer not in layers:
                layers.add(layer)
            call = enter(instance, args, kwargs)
        except Exception as error:
            fault(error)
            call = None
        if call is None:
            return function(instance, *args, **kwargs)
        try:
            result = function(instance, *args, **kwargs)
        except BaseException as error:
            _raised(call, error)
            raise
        try:
            return call.returned(result)
        except Exception as error:
            fault(error)
            return result

    setattr(hooked, _MARK, True)
    return hooked


def _hooked_async(
    function: Callable[..., Any], enter: Enter, owner: "LibraryInstrumentor", layer: str, when: bool = True
) -> Callable[..., Any]:
    """The same of a coroutine function: nothing differs but the `await`."""

    @functools.wraps(function)
    async def hooked(instance: Any, /, *args: Any, **kwargs: Any) -> Any:
        if owner.is_on is not when:
            return await function(instance, *args, **kwargs)
        try:
            if layer not in layers:
                layers.add(layer)
            call = enter(instance, args, kwargs)
        except Exception as error:
            fault(error)
            call = None
        if call is None:
            return await function(instance, *args, **kwargs)
        try:
            result = await function(instance, *args, **kwargs)
        except BaseException as error:
            _raised(call, error)
            raise
        try:
            return call.returned(result)
        except Exception as error:
            fault(error)
            return result

    setattr(hooked, _MARK, True)
    return hooked


def _raised(call: Call, error: BaseException) -> None:
    try:
        call.raised(error)
    except Exception as own:
        fault(own)


class _Hook(wrapt.FunctionWrapper):  # type: ignore[type-arg]  # not every release can be subscripted
    """A hook on what is no plain method: a function of a module, a static method, whatever a program's own class holds."""


def _as_placed(found: Any) -> Any:
    """What was put on a class: whoever gets it through the class and puts it back there, puts back what it was bound to."""
    parent = getattr(found, "_self_parent", None)
    return found if parent is None else parent


def _is_hooked(function: Any) -> bool:
    """Whether one of our hooks is on this function, or under what others have put over it."""
    while function is not None:
        if isinstance(_as_placed(function), _Hook) or getattr(function, _MARK, False):
            return True
        function = getattr(function, "__wrapped__", None)
    return False


def _taken_off(owner: Any, name: str, hook: Any) -> bool:
    if _as_placed(owner.__dict__.get(name)) is not hook:
        return False
    setattr(owner, name, hook.__wrapped__)
    return True


class LibraryInstrumentor(BaseInstrumentor):  # type: ignore[misc]  # its package is not typed
    """Base of all instrumentors here. A subclass names its library and its targets; the rest is done.

    `layer` is the name under which the library's hooks count in `layers`; `distribution` and `versions` say which
    releases are known: another one gets a warning and no hook.
    """

    layer: ClassVar[str] = ""
    distribution: ClassVar[str] = ""
    versions: ClassVar[str] = ""

    is_on = False
    """Whether it is instrumented now; a wrapper that could not be taken off lets every call through."""
    _patches: list[tuple[Any, str, Any]]
    _waiting: set[str]

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        """The modules to hook, each with the function that hooks it once it is loaded."""
        raise NotImplementedError

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: versions are checked when the library is loaded, since it may never be."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        # One tracer and one meter serve all hooks; who names none leaves what is there.
        if (tracers := kwargs.get("tracer_provider")) is not None:
            emit.use(tracers)
        if (meters := kwargs.get("meter_provider")) is not None:
            metrics.use(meters)
        else:
            metrics.look()
        if "_patches" not in self.__dict__:
            self._patches, self._waiting = [], set()
        if is_disabled():
            return
        self.is_on = True
        for name, hook in self.targets().items():
            if sys.modules.get(name) is not None:
                # A module that another thread is just importing is waited for: half of it would have nothing to hook.
                self._loaded(hook, importlib.import_module(name))
            elif name not in self._waiting:
                self._waiting.add(name)
                wrapt.register_post_import_hook(partial(self._loaded, hook), name)

    def _uninstrument(self, **kwargs: Any) -> None:
        self.is_on = False
        # Whoever patched over us keeps what it has; ours then lets every call through, until it is on again.
        self._patches = [patch for patch in reversed(self._patches) if not _taken_off(*patch)][::-1]

    def _loaded(self, hook: Callable[[ModuleType], None], module: ModuleType) -> None:
        # Runs inside the target's import: a fault here would fail the program's `import`.
        try:
            if self.is_on and self._supported():
                hook(module)
        except Exception as error:
            fault(error)

    def _supported(self) -> bool:
        if not self.distribution:
            return True
        try:
            version = importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return True
        if SpecifierSet(self.versions, prereleases=True).contains(version):
            return True
        if (self.distribution, 0) not in _faults:
            _faults.add((self.distribution, 0))
            _logger.warning(
                "%s %s is not hooked: this release of retrospan knows %s", self.distribution, version, self.versions
            )
        return False

    def wrap(
        self,
        owner: Any,
        name: str,
        enter: Enter,
        *,
        asynchronous: bool = False,
        layer: str = "",
        choose: Callable[[Callable[..., Any], Callable[..., Any]], Callable[..., Any]] | None = None,
    ) -> None:
        """Surround `owner.name` with what `enter` makes; a call of it counts for this layer, by default the library's.

        `choose` makes of the method and its hook what is placed: one that spares the hook the calls that do not concern it.
        """
        layer = layer or self.layer
        surround = _hooked_async if asynchronous else _hooked
        original = owner.__dict__.get(name)
        if isinstance(original, FunctionType) and isinstance(owner, type):
            hook = surround(original, enter, self, layer)
            if choose is not None:
                hook = functools.wraps(hook)(choose(original, hook))
                hook.__wrapped__ = original
            self._place(owner, name, hook)
            return

        def wrapper(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return surround(lambda _, *args, **kwargs: wrapped(*args, **kwargs), enter, self, layer)(
                instance, *args, **kwargs
            )

        self.patch(owner, name, wrapper)

    def wrap_object(
        self,
        thing: Any,
        name: str,
        enter: Enter,
        *,
        asynchronous: bool = False,
        function: Callable[..., Any] | None = None,
    ) -> None:
        """Surround the method of this one object (or `function` in its place), until it is taken from its `__dict__`.

        While the whole class is hooked, that hook has the call, and this one lets it through.
        """
        if name in thing.__dict__:
            return
        method = function or getattr(type(thing), name)
        surround = _hooked_async if asynchronous else _hooked
        thing.__dict__[name] = types.MethodType(surround(method, enter, self, self.layer, when=False), thing)

    def patch(self, owner: Any, name: str, wrapper: Callable[..., Any]) -> None:
        """Put a wrapt wrapper on `owner.name`, where the owner itself defines it."""
        original = owner.__dict__.get(name)
        if original is not None:
            self._place(owner, name, _Hook(original, wrapper))

    def _place(self, owner: Any, name: str, hook: Any) -> None:
        """Once, by whatever name the owner is reached."""
        if not _is_hooked(owner.__dict__[name]):
            setattr(owner, name, hook)
            self._patches.append((owner, name, hook))
