"""Promise: a fault in a hook, wherever it happens, never reaches the program's call, and is logged once without its text."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pybreaker
import pyrate_limiter
import pytest
import tenacity

import retrospan_instrumentation
from origin import Answer, Origin
from retrospan_exporters.provider import is_fast_wanted
from retrospan_instrumentation import surround, waits

from .conftest import Spans
from .scenario import HTTP, call
from .test_hishel import cached


class Fault(Exception):
    pass


FAULTS = [
    "retrospan_instrumentation.tenacity._Retrying.begin",
    "retrospan_instrumentation.frames.Frame.enter",
    "retrospan_instrumentation.tenacity._Retrying.leave",
    "retrospan_instrumentation.tenacity._Retrying.close",
    "retrospan_instrumentation.pybreaker._BreakerCall.begin",
    "retrospan_instrumentation.pybreaker._BreakerCall.close",
    "retrospan_instrumentation.frames.current",
    "retrospan_instrumentation.owners.owner_ref",
    "retrospan_instrumentation.asked.Asked.__init__",
    "retrospan_instrumentation.sends.Send.__init__",
    "retrospan_instrumentation.sends.Send.headers",
    "retrospan_instrumentation.sends.Send.finish",
    "retrospan_instrumentation.sends.Send.received",
    "retrospan_instrumentation.sends.Send._attributes",
    "retrospan_instrumentation.sends.conclude",
    "retrospan_instrumentation.sends.settle",
    "retrospan_instrumentation.resends.count",
    "retrospan_instrumentation.asked.has_any",
    "retrospan_instrumentation.resends.leave_last",
    "retrospan_instrumentation.waits.report",
    "retrospan_instrumentation.waits.sweep",
    "retrospan_instrumentation.waits.take",
    "retrospan_instrumentation.waits.Wait.facts",
    "retrospan_instrumentation.emit.tell",
    "retrospan_instrumentation.mapping.host_of",
    "retrospan_instrumentation.mapping.scope_of",
    "retrospan_instrumentation.mapping.role_of_media_type",
    "retrospan_instrumentation.hishel.answer_of",
    "retrospan_instrumentation.pybreaker._identity",
    "retrospan_instrumentation.pybreaker._frame_of",
    "retrospan_instrumentation.threads.carried",
    "opentelemetry.propagate.get_global_textmap",
    "retrospan_instrumentation.emit.put",
]
if is_fast_wanted():  # the export thread calls them, not the program's
    FAULTS.remove("retrospan_instrumentation.sends.Send._attributes")
    FAULTS.remove("retrospan_instrumentation.mapping.role_of_media_type")
    FAULTS.remove("retrospan_instrumentation.waits.Wait.facts")


def everything(mode: str, url: str, folder: Any) -> list[Any]:
    """What a program gets from every layer at once, with a failure in each."""
    http = HTTP("httpx2", mode)
    limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(5, pyrate_limiter.Duration.DAY))
    breaker = pybreaker.CircuitBreaker(fail_max=2, name="api")
    got: list[Any] = []

    async def scenario() -> None:
        client = http.client(transport=cached(http, http.retrying(http.wire(), 2), folder / f"{mode}.db"))

        async def fetch() -> Any:
            await call(limiter.try_acquire_async("k") if http.is_async else limiter.try_acquire("k"))
            with breaker.calling():
                response = await call(client.get(url))
                got.append(response.status_code)
                return response.raise_for_status()

        got.append((await http.retry(fetch)).json())
        response = await http.open(client, url)
        await call(http.close(response))
        for _ in range(3):
            try:
                breaker.call(lambda: 1 / 0)
            except (ZeroDivisionError, pybreaker.CircuitBreakerError) as error:
                got.append(type(error).__name__)
        with pytest.raises(http.module.ConnectError):
            await call(client.get("http://127.0.0.1:9/"))
        got.append([await call(acquire(limiter)) for _ in range(6)])
        for one in tenacity.Retrying(stop=tenacity.stop_after_attempt(2)):
            with one:
                got.append(one.retry_state.attempt_number)
                1 / len(got[-1:]) if one.retry_state.attempt_number > 1 else 1 / 0
        await call(http.close(client))

    def acquire(limiter: Any) -> Any:
        if http.is_async:
            return limiter.try_acquire_async("other", blocking=False)
        return limiter.try_acquire("other", blocking=False)

    http.run(scenario())
    with ThreadPoolExecutor(1) as pool:
        got.append(pool.submit(lambda: 7).result())
    return got


@pytest.mark.parametrize("place", FAULTS)
def test_no_fault_in_a_hook_reaches_the_programs_call(
    spans: Spans,
    origin: Origin,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
) -> None:
    spans.faults_are_forced = spans.spans_may_be_lost = True
    kept = Answer(body=b"{}", headers={"content-type": "application/json", "cache-control": "max-age=60"})
    script = [Answer(503), Answer(503), Answer(429), kept]
    met: list[bool] = []

    def broken(*args: Any, **kwargs: Any) -> Any:
        met.append(True)
        raise Fault("SECRET")

    retrospan_instrumentation.uninstrument_all()
    expected = [everything(mode, origin.script(f"/{mode}", *script), tmp_path) for mode in ("sync", "asyncio")]
    retrospan_instrumentation.instrument_all(tracer_provider=spans.provider)
    (tmp_path / "hooked").mkdir()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(waits, "SWEEPS_APART", 0)
        patch.setattr(place, broken)
        found = [
            everything(mode, origin.script(f"/{mode}", *script), tmp_path / "hooked") for mode in ("sync", "asyncio")
        ]
    assert found == expected
    assert met
    ours = [record.getMessage() for record in caplog.records if record.name == "retrospan"]
    assert ours
    assert len(set(ours)) == len(ours)
    assert "SECRET" not in caplog.text
    assert all("Fault" in line for line in ours)


def test_a_fault_is_logged_once_a_place_by_class_and_line(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise Fault("SECRET")

    for _ in range(3):
        try:
            fail()
        except Fault as error:
            surround.fault(error)
    (record,) = caplog.records
    assert record.getMessage().startswith("A hook failed with Fault at test_faults.py:")
    assert "SECRET" not in caplog.text
