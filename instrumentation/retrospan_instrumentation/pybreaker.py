"""Record what pybreaker's circuit breakers decide: state at the call, outcome, transitions, refusals.

    from retrospan_instrumentation.pybreaker import PybreakerInstrumentor
    PybreakerInstrumentor().instrument()

There is no registry of breakers, so a listener of ours joins each one at its first call; breakers made earlier are reached.
The frame around a call says to the requests inside which state they ran under, and what the breaker took them for.
"""

from collections.abc import Callable, Mapping
from contextlib import ContextDecorator
from functools import partial
from types import ModuleType
from typing import Any
from weakref import ref

from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from . import emit, mapping, metrics
from . import semconv as sc
from .contexts import get_current
from .frames import KEY, BreakerFrame, Frame
from .hooks import Call, LibraryInstrumentor, fault


class PybreakerInstrumentor(LibraryInstrumentor):
    """Hooks pybreaker's `CircuitBreaker`."""

    layer, distribution, versions = "breaker", "pybreaker", ">=0.8,<2"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"pybreaker": self._hook}

    def _hook(self, module: ModuleType) -> None:
        listener = self._listener = _listener(module)
        self._heard: dict[int, ref[Any]] = {}

        def listen(breaker: Any) -> None:
            # The property would make a tuple for each look.
            if listener not in (getattr(breaker, "_listeners", None) or breaker.listeners):
                breaker.add_listener(listener)
                metrics.breaker_seen(mapping.label_of(str(breaker.name or "")), _state_in_force(breaker))
                self._heard[id(breaker)] = ref(breaker, partial(_forget, self._heard, id(breaker)))

        def call(state: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
            breaker = state._breaker
            listen(breaker)
            context = get_current()
            frame: Any = context.get(KEY)
            if isinstance(frame, BreakerFrame) and frame.of == id(breaker):
                # A half-open trial and `calling()` come through here a second time for the same call.
                frame.state = _state(state.name)
                return None
            return _BreakerCall(module, breaker, context, _state(state.name))

        def calling(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
            listen(instance)
            return _CallingBlock(module, instance)

        def moved(instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            listen(instance)

        # The states' own `call`, which every breaker's comes to: a bound `breaker.call` kept from before gets there too.
        for state in (module.CircuitBreakerState, module.CircuitOpenState):
            self.wrap(state, "call", call)
        breaker = module.CircuitBreaker
        self.wrap(breaker, "calling", calling)
        for name in ("open", "half_open", "close"):
            self.wrap(breaker, name, moved)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        for heard in list(self.__dict__.pop("_heard", {}).values()):
            breaker = heard()
            if breaker is not None and self._listener in breaker.listeners:
                breaker.remove_listener(self._listener)


def _forget(heard: dict[int, ref[Any]], breaker: int, gone: ref[Any]) -> None:
    if heard.get(breaker) is gone:
        del heard[breaker]


def _state(name: str) -> str:
    return name.replace("-", "_")


def _state_in_force(breaker: Any) -> str:
    # `current_state` may ask a shared storage over the network; the state object in force does not.
    return _state(getattr(getattr(breaker, "_state", None), "name", "") or breaker.current_state)


def _frame_of(breaker: Any) -> BreakerFrame | None:
    frame: Any = get_current().get(KEY)
    while frame is not None:
        if isinstance(frame, BreakerFrame) and frame.of == id(breaker):
            return frame
        frame = frame.outer
    return None


def _decided(breaker: Any, outcome: str) -> None:
    try:
        if (frame := _frame_of(breaker)) is not None:
            frame.outcome = outcome
    except Exception as error:
        fault(error)


def _identity(breaker: Any, frame: BreakerFrame | None) -> dict[str, AttributeValue | None]:
    """Name, host and scope: the host is the one that the name says, else the request's inside, else the name itself."""
    name = str(breaker.name or "")
    label = mapping.label_of(name)
    return {
        sc.CIRCUIT_BREAKER_NAME: label,
        sc.CIRCUIT_BREAKER_SCOPE: mapping.scope_of(name),
        sc.SERVER_ADDRESS: mapping.host_of(name) or (frame.host if frame is not None else None) or label or None,
    }


def _listener(module: ModuleType) -> Any:
    class Listener(module.CircuitBreakerListener):  # type: ignore[misc, name-defined]
        """Hears what breakers decide. pybreaker calls it inside the application's call: no fault may leave it."""

        def success(self, cb: Any) -> None:
            frame = get_current().get(KEY)
            if isinstance(frame, BreakerFrame) and frame.of == id(cb):  # as for most calls: nothing more to look for
                frame.outcome = "success"
            else:
                _decided(cb, "success")

        def failure(self, cb: Any, exc: BaseException) -> None:
            _decided(cb, "failure")

        def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
            try:
                attributes = _identity(cb, _frame_of(cb))
                if old_state is not None:
                    attributes[sc.CIRCUIT_BREAKER_OLD_STATE] = _state(old_state.name)
                attributes[sc.CIRCUIT_BREAKER_NEW_STATE] = _state(new_state.name)
                metrics.breaker_seen(mapping.label_of(str(cb.name or "")), _state(new_state.name))
                attributes[sc.CIRCUIT_BREAKER_RESET_TIMEOUT] = float(cb.reset_timeout)
                emit.tell(sc.BREAKER_STATE_CHANGE, attributes)
            except Exception as error:
                fault(error)

    return Listener()


class _BreakerCall(BreakerFrame):
    """One call through a breaker: the frame, and what surrounds the call."""

    def __init__(self, module: ModuleType, breaker: Any, context: Context, state: str = "closed") -> None:
        Frame.__init__(self, context)  # `super()` and each step on the way would cost a third of it
        self.of, self.state, self.held = id(breaker), state, []
        self._module, self._breaker = module, breaker
        self.enter(None, context)

    def returned(self, result: Any) -> Any:
        self.leave()
        hop = self.hop
        if hop is not None and hop.is_open and not self.held:
            hop.breaker = (self.state, self.outcome or "none")
        self.close()
        return result

    def raised(self, error: BaseException) -> None:
        if isinstance(error, self._module.CircuitBreakerError) and self.outcome is None:
            self.state = "open"
            if self.hop is not None:
                self.hop.refused = True
            emit.tell(sc.BREAKER_REJECTED, _identity(self._breaker, self))
        self.returned(None)


class _CallingBlock(ContextDecorator):
    """`with breaker.calling():`, pybreaker's own block inside a frame. It decorates functions too, with a new one a call."""

    _call: _BreakerCall | None = None

    def __init__(self, module: ModuleType, breaker: Any, block: Any = None) -> None:
        self._module, self._breaker, self._block = module, breaker, block

    def returned(self, result: Any) -> Any:
        """What `calling` returned: its caller gets this one."""
        self._block = result
        return self

    def raised(self, error: BaseException) -> None:
        """It returned none."""

    def _recreate_cm(self) -> "_CallingBlock":
        return _CallingBlock(self._module, self._breaker, self._block._recreate_cm())

    def __enter__(self) -> Any:
        try:
            self._call = _BreakerCall(self._module, self._breaker, get_current())
        except Exception as error:
            fault(error)
        try:
            return self._block.__enter__()
        except BaseException as error:
            self._over(error)
            raise

    def __exit__(self, *raised: Any) -> Any:
        try:
            handled = self._block.__exit__(*raised)
        except BaseException as error:
            self._over(error)
            raise
        self._over(None if handled else raised[1])
        return handled

    def _over(self, error: BaseException | None) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        try:
            if error is None:
                call.returned(None)
            else:
                call.raised(error)
        except Exception as own:
            fault(own)
