"""What a process does at its end, at a fork and on a signal, so that nothing that ended is lost.

    lifecycle.survive_forks(exporter)       # before_fork, after_fork_in_parent, after_fork_in_child
    lifecycle.watch(processor)              # flush, end
    lifecycle.handle_signals()              # SIGTERM, SIGHUP and SIGINT, where the system's default stands
    lifecycle.wrap_exits()                  # os._exit, exec, signal.signal, the wakeup fd

`watch` takes part in the normal end (atexit) alone. Wrapped is the least that the other ends need, each reason beside it;
whoever starts the recorder decides whether it is. All ends together wait one second for a record that is stuck.
"""

import atexit
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable
from logging import getLogger
from typing import Any, Final, Protocol

EXIT_SECONDS: Final = 1.0
# For a recorder whose turn comes when others have taken that second.
_LEAST_SECONDS: Final = 0.1
# "false" leaves the process's signals, or its functions, as they are.
SIGNALS: Final = "RETROSPAN_SIGNALS"
WRAP_PROCESS: Final = "RETROSPAN_WRAP_PROCESS"
_OFF: Final = ("false", "0", "no", "off")
_logger = getLogger("retrospan")


class Recorder(Protocol):
    """What has spans to write when the process ends."""

    def flush(self, timeout: float) -> bool:
        """Write what has ended, within so many seconds."""

    def end(self, timeout: float) -> bool:
        """Write what has ended, and then whatever is to be done when the run ends."""


class Forking(Protocol):
    """What must know of forks."""

    def before_fork(self) -> None: ...
    def after_fork_in_parent(self) -> None: ...
    def after_fork_in_child(self) -> None: ...


_recorders: tuple[weakref.ref[Recorder], ...] = ()
_forking: tuple[weakref.ref[Forking], ...] = ()
_deadline: float | None = None
_watches_forks = False


def watch(recorder: Recorder) -> None:
    """Have the recorder end with the process. It is kept alive by its owner only."""
    global _recorders
    _recorders = (*(known for known in _recorders if known() is not None), weakref.ref(recorder))


def recorders() -> list[Recorder]:
    """Those that are watched and alive."""
    return [recorder for known in _recorders if (recorder := known()) is not None]


def forking() -> list[Forking]:
    """The parts that are told of forks, and alive."""
    return [part for known in _forking if (part := known()) is not None]


def survive_forks(part: Forking) -> None:
    """Tell the part of every fork of this process."""
    global _forking, _watches_forks
    _forking = (*(known for known in _forking if known() is not None), weakref.ref(part))
    if not _watches_forks and hasattr(os, "register_at_fork"):
        _watches_forks = True
        os.register_at_fork(
            before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
        )


def drain_waits(final: bool = False) -> None:
    """Have the limiter waits told that no request has taken; every flush that must lose nothing begins with it."""
    waits = sys.modules.get("retrospan_instrumentation.waits")
    if waits is not None:
        _guarded(lambda: waits.drain(final))


def flush() -> None:
    """Write what has ended; the process goes on."""
    global _deadline
    drain_waits()
    _all(lambda recorder, seconds: recorder.flush(seconds))
    _deadline = None


def end() -> None:
    """Write what has ended, and end the run if it is this process's; all calls together wait a second for a stuck record."""
    drain_waits(final=True)
    _all(lambda recorder, seconds: recorder.end(seconds))


def _all(act: Callable[[Recorder, float], bool]) -> None:
    global _deadline
    if _deadline is None:
        _deadline = time.monotonic() + EXIT_SECONDS
    for recorder in recorders():
        seconds = max(_LEAST_SECONDS, _deadline - time.monotonic())
        _guarded(lambda recorder=recorder, seconds=seconds: act(recorder, seconds))  # type: ignore[misc]


def _guarded(act: Callable[[], object]) -> None:
    """The application's exit, fork or signal goes its way whatever happens to the recorder."""
    try:
        act()
    except Exception as error:
        _logger.error("The recorder failed with %s while the process was to end or to fork.", type(error).__name__)


def _at_exit() -> None:
    was_interrupted = _was_interrupted()
    end()
    if was_interrupted:
        # Python dies of SIGINT, as it should, only if no source text was run since; importing dataclasses runs some.
        try:
            exec("raise KeyboardInterrupt")
        except KeyboardInterrupt:
            pass


def _was_interrupted() -> bool:
    """Whether the program itself was ended by Ctrl-C, and not only a statement in an interactive console of its."""
    traceback = getattr(sys, "last_traceback", None)
    if traceback is None or getattr(sys, "last_type", None) is not KeyboardInterrupt:
        return False
    outermost = traceback.tb_frame  # of a script, or of `python -m`
    return outermost.f_back is None and outermost.f_code.co_name in ("<module>", "_run_module_as_main")


# Whoever comes first runs last: exit handlers of the program and of the SDK's provider may still end spans.
atexit.register(_at_exit)


# -- forks ------------------------------------------------------------------------------------------------------------


def _before_fork() -> None:
    drain_waits()
    _each_forking("before_fork")


def _after_fork_in_parent() -> None:
    _each_forking("after_fork_in_parent")


def _after_fork_in_child() -> None:
    global _deadline, _seen
    _deadline, _seen = None, False
    _each_forking("after_fork_in_child")
    if _wakeup is not None:
        _guarded(_renew_wakeup)


def _each_forking(what: str) -> None:
    for part in forking():
        _guarded(getattr(part, what))


# -- signals ----------------------------------------------------------------------------------------------------------

# SIGINT only where a program has it end the process at once: Python's own way runs the exit handlers.
_ENDING: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGINT") if hasattr(signal, name))
_signal, _getsignal, _set_wakeup_fd = signal.signal, signal.getsignal, signal.set_wakeup_fd
_seen = False


def is_wanted(variable: str) -> bool:
    """Whether the environment does not switch it off."""
    return os.environ.get(variable, "").strip().lower() not in _OFF


def handle_signals() -> None:
    """Flush on SIGTERM, SIGHUP and SIGINT, then die of them as before; only where the system's default stands."""
    if not is_wanted(SIGNALS):
        return
    for number in _ENDING:
        if _getsignal(number) is signal.SIG_DFL:
            try:
                _signal(number, _on_signal)
            except ValueError:  # not the main thread: nobody but it may set a handler
                return


def _on_signal(number: int, frame: object) -> None:
    global _seen
    _seen = True
    if _getsignal(number) is not _on_signal:
        flush()  # the program's own handler calls the one that it found: what comes of the signal is its decision
        _seen = False
        return
    end()
    _signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


# -- ends that run no exit handler ------------------------------------------------------------------------------------

_wrapped = False


def wrap_exits() -> None:
    """Wrap what ends a process past atexit and signal handlers; once."""
    global _wrapped
    if _wrapped or not is_wanted(WRAP_PROCESS):
        return
    _wrapped = True
    # multiprocessing and every program that forks by hand end their children by os._exit.
    os._exit = _before(end, os._exit)
    # execl and its kin call these two.
    os.execv = _before(flush, os.execv)
    os.execve = _before(flush, os.execve)
    if not is_wanted(SIGNALS):
        return
    # asyncio sets the default again when its loop closes: our handler stands in for it.
    signal.signal = _set_signal
    # A program that chains to the handler that it finds must not find ours, which would return to it.
    signal.getsignal = _get_signal
    # A Python handler runs in the main thread only, which may sit in C for long.
    _guarded(_install_wakeup)


def _before(act: Callable[[], None], ending: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _guarded(act)
        return ending(*args, **kwargs)

    wrapped.__name__, wrapped.__doc__ = ending.__name__, ending.__doc__
    return wrapped


def _set_signal(signalnum: Any, handler: Any) -> Any:
    ours = signalnum in _ENDING and handler == signal.SIG_DFL
    return _shown(_signal(signalnum, _on_signal if ours else handler))


def _get_signal(signalnum: Any) -> Any:
    return _shown(_getsignal(signalnum))


def _shown(handler: Any) -> Any:
    return signal.SIG_DFL if handler is _on_signal else handler


# -- a main thread that sits in C -------------------------------------------------------------------------------------

_wakeup: tuple[int, int] | None = None


def _install_wakeup() -> None:
    """Watch the signals' numbers come through a pipe, which C writes at once, unless the program has a pipe of its own."""
    global _wakeup
    from _thread import start_new_thread

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        before = _set_wakeup_fd(writer, warn_on_full_buffer=False)
    except ValueError:  # not the main thread
        before = None
    if before != -1:
        if before is not None:
            _set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)
        return
    _wakeup = reader, writer
    signal.set_wakeup_fd = _lend_wakeup_fd
    start_new_thread(_watch_wakeup, (reader,))


def _lend_wakeup_fd(fd: int, *, warn_on_full_buffer: bool = True) -> int:
    """asyncio and trio take the wakeup fd and give it back by -1: then it is ours again."""
    ours = -1 if _wakeup is None else _wakeup[1]
    if fd == -1:
        before = _set_wakeup_fd(ours, warn_on_full_buffer=False)
    else:
        before = _set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
    return -1 if before == ours else before


def _watch_wakeup(reader: int) -> None:
    while octets := os.read(reader, 1):
        number = octets[0]
        if number not in _ENDING or _getsignal(number) is not _on_signal:
            continue
        deadline = time.monotonic() + EXIT_SECONDS
        while time.monotonic() < deadline and not _seen:
            time.sleep(0.02)
        if not _seen and _getsignal(number) is _on_signal:
            end()
            _die_of(number)


def _die_of(number: int) -> None:
    """Set the default by C's own signal(): Python's works in the main thread only, which does not answer."""
    import ctypes

    ctypes.CDLL(None).signal(number, None)
    os.kill(os.getpid(), number)


def _renew_wakeup() -> None:
    """A child needs a pipe of its own: through a shared one its signals would kill the parent."""
    global _wakeup
    if _wakeup is None:
        return
    (reader, writer), _wakeup = _wakeup, None
    current = _set_wakeup_fd(-1)
    if current not in (-1, writer):
        _set_wakeup_fd(current)
    os.close(reader)
    os.close(writer)
    if current == writer:
        _install_wakeup()
