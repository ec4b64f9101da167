"""Record what pybreaker's circuit breakers decide: state at the call, outcome, transitions, refusals.

    from retrospan_instrumentation.pybreaker import PybreakerInstrumentor
    PybreakerInstrumentor().instrument()

There is no registry of breakers, so a listener of ours joins each one at its first call; breakers made earlier are reached.
The frame around a call says to the requests inside which state they ran under, and what the breaker took them for.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType, GeneratorType, ModuleType
from typing import Any
from weakref import ref

from opentelemetry.context import Context
from opentelemetry.util.types import AttributeValue

from . import emit, mapping, metrics
from . import semconv as sc
from .contexts import get_current
from .frames import KEY, BreakerFrame
from .hooks import LibraryInstrumentor
from .surround import Call, fault, told_of

_STATES = {"Closed": "closed", "HalfOpen": "half_open", "Open": "open"}


class PybreakerInstrumentor(LibraryInstrumentor):
    """Hooks pybreaker's `CircuitBreaker`."""

    layer, distribution, versions = "breaker", "pybreaker", ">=0.8,<2"

    def targets(self) -> Mapping[str, Callable[[ModuleType], None]]:
        return {"pybreaker": self._hook}

    def _hook(self, module: ModuleType) -> None:
        listener = self._listener = _listener(module)
        self._heard = heard = dict[int, ref[Any]]()
        block = _code_of_block(getattr(module.CircuitBreaker, "calling", None))
        states = {getattr(module, f"Circuit{name}State"): said for name, said in _STATES.items()}

        def listen(breaker: Any) -> None:
            if listener not in breaker.listeners:
                breaker.add_listener(listener)
                metrics.breaker_seen(mapping.label_of(str(breaker.name or "")), _state_in_force(breaker))
            heard[id(breaker)] = ref(breaker, partial(_forget, heard, id(breaker)))

        def call(state: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
            breaker = state._breaker
            of = id(breaker)
            if of not in heard:
                listen(breaker)
            context = get_current()
            frame: Any = context.get(KEY)
            if isinstance(frame, BreakerFrame) and frame.of == of:
                # A half-open trial comes through here a second time for the same call.
                frame.state = _state(state.name)
                return None
            kind = _Block if args and getattr(args[0], "__code__", None) is block else _BreakerCall
            return kind(module, breaker, of, states.get(type(state)) or _state(state.name), context)

        def moved(breaker: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            listen(breaker)

        # The states' own `call`, which every breaker's comes to: a bound `breaker.call` kept from before gets there too, and
        # so does `calling()`.
        for state in (module.CircuitBreakerState, module.CircuitOpenState):
            self.wrap(state, "call", call)
        for name in ("open", "half_open", "close"):
            self.wrap(module.CircuitBreaker, name, moved)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        for heard in list(getattr(self, "_heard", {}).values()):
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

        def failure(self, cb: Any, exc: BaseException) -> None:
            try:
                if (frame := _frame_of(cb)) is not None:
                    frame.outcome = "failure"
            except Exception as error:
                fault(error)

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

    def __init__(self, module: ModuleType, breaker: Any, of: int, state: str, context: Context) -> None:
        # As BreakerFrame's own, a call less for each request.
        self.of, self.state, self.outcome = of, state, None
        self.held, self._module, self._breaker = [], module, breaker
        self.begin(context)

    def returned(self, result: Any) -> Any:
        if self.outcome is None and type(result) is not GeneratorType:  # of which nothing has run yet
            self.outcome = "success"
        hop = self.hop
        if hop is not None and hop.is_open and not self.held:
            hop.breaker = (self.state, self.outcome or "none")
        self.close()
        return result

    def raised(self, error: BaseException) -> None:
        if self.outcome is None:  # it heard of no failure: it refused, or this exception is none to it
            self.outcome = "none" if self._breaker.is_system_error(error) else "success"
            if isinstance(error, self._module.CircuitBreakerError) and (self.state == "open" or self.outcome == "none"):
                self.outcome, self.state = "none", "open"
                if self.hop is not None:
                    self.hop.refused = True
                emit.tell(sc.BREAKER_REJECTED, _identity(self._breaker, self))
        _BreakerCall.returned(self, None)


class _Block(_BreakerCall):
    """`with breaker.calling():`, of which pybreaker makes a call that returns a generator: it is over when that is."""

    def returned(self, result: Any) -> Any:
        return self._to_its_end(result) if type(result) is GeneratorType else _BreakerCall.returned(self, result)

    def _to_its_end(self, block: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from block
        except BaseException as error:
            told_of(self, error)
            raise
        try:
            _BreakerCall.returned(self, None)
        except Exception as own:
            fault(own)


def _code_of_block(calling: Any) -> object:
    """The code of the function that `calling()` makes for each block, and calls through the breaker."""
    codes = getattr(getattr(calling, "__wrapped__", None), "__code__", None)
    found = [code for code in getattr(codes, "co_consts", ()) if type(code) is CodeType]
    return found[0] if len(found) == 1 else object()
