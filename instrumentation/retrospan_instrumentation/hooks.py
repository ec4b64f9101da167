"""Put hooks on a library's classes: now or when it is imported, guarded, and off again.

A file of this package names the library it watches and says what surrounds a call; everything else is done here once:
patching what is loaded and waiting for what is not, the version check, un-patching, sync and async.

    class TenacityInstrumentor(LibraryInstrumentor):
        layer, distribution, versions = "retry", "tenacity", ">=8.5,<10"

        def targets(self):
            return {"tenacity": self._hook}

        def _hook(self, module):
            self.wrap(module.Retrying, "__call__", RetryingCall)

What surrounds a call is a `Call`: made before it, told of its result or its exception after. What needs nothing before is told
after alone (`wrap_timed`). `surround` guards both.
"""

import functools
import importlib
import importlib.metadata
import logging
import os
import sys
import types
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, ClassVar

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from packaging.specifiers import SpecifierSet

from . import emit, metrics
from .surround import MARK, After, Enter, fault, faults, marked, surrounded, surrounded_async, timed, timed_async

_logger = logging.getLogger("retrospan")

DISABLED = "RETROSPAN_DISABLED"
SDK_DISABLED = "OTEL_SDK_DISABLED"


def is_set(variable: str) -> bool:
    """Whether the environment says true."""
    return os.environ.get(variable, "").strip().lower() in ("1", "true")


def is_disabled() -> bool:
    """Whether the environment switches all of this off."""
    return is_set(DISABLED) or is_set(SDK_DISABLED)


class _Hook(wrapt.FunctionWrapper):  # type: ignore[type-arg]  # not every release can be subscripted
    """A hook on what is no plain method: a function of a module, a static method, whatever a program's own class holds."""


def _as_placed(found: Any) -> Any:
    """What was put on a class: whoever gets it through the class and puts it back there, puts back what it was bound to."""
    parent = getattr(found, "_self_parent", None)
    return found if parent is None else parent


def _is_hooked(function: Any) -> bool:
    """Whether one of our hooks is on this function, or under what others have put over it."""
    while function is not None:
        if isinstance(_as_placed(function), _Hook) or getattr(function, MARK, False):
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
    _inside: ClassVar[ContextVar[bool]]  # a call that `wrap_timed` hooked

    def __init_subclass__(cls) -> None:
        cls._inside = ContextVar(f"retrospan-inside-{cls.distribution}", default=False)

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
        if not hasattr(self, "_patches"):  # to look into `__dict__` would slow down each look at `is_on`
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
        if (self.distribution, 0) not in faults:
            faults.add((self.distribution, 0))
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
        around = surrounded_async if asynchronous else surrounded
        self._surround(owner, name, lambda function: around(function, enter, self, layer or self.layer), choose)

    def wrap_timed(self, owner: Any, name: str, after: After, *, asynchronous: bool = False) -> None:
        """Have `after` told of each call of `owner.name` when it is over; it counts for the library's layer.

        Of calls that come to others so hooked, the outermost asynchronous one alone is told of.
        """
        around = timed_async if asynchronous else timed
        self._surround(owner, name, lambda function: around(function, after, self, self.layer, self._inside))

    def _surround(
        self,
        owner: Any,
        name: str,
        surround: Callable[[Callable[..., Any]], Callable[..., Any]],
        choose: Callable[[Callable[..., Any], Callable[..., Any]], Callable[..., Any]] | None = None,
    ) -> None:
        original = owner.__dict__.get(name)
        if isinstance(original, FunctionType) and isinstance(owner, type):
            hook = surround(original)
            if choose is not None:
                chosen = functools.wraps(hook)(choose(original, hook))
                chosen.__wrapped__ = original
                hook = marked(chosen)
            self._place(owner, name, hook)
            return

        def wrapper(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return surround(lambda _, *args, **kwargs: wrapped(*args, **kwargs))(instance, *args, **kwargs)

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
        surround = surrounded_async if asynchronous else surrounded
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
