"""Promises of the tenacity hooks between attempts: who decides, when the next begins, and what is left alone."""

import asyncio
from typing import Any

import pytest
import tenacity

from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc

from .conftest import Spans
from .scenario import HTTP
from .test_tenacity import COUNT, THREE, Failed


@pytest.mark.parametrize("mode", ["sync", "asyncio"])
@pytest.mark.parametrize("policy", [{}, {"reraise": True}, {"retry_error_callback": lambda state: None}])
def test_the_span_of_a_loop_ends_when_the_policy_gives_up(spans: Spans, mode: str, policy: Any) -> None:
    held: list[Any] = []
    policy = {"stop": tenacity.stop_after_attempt(2), **policy}

    async def scenario() -> None:
        if mode == "sync":
            for one in tenacity.Retrying(**policy):
                held.append(one)
                with one:
                    raise Failed
        else:
            async for one in tenacity.AsyncRetrying(**policy):
                held.append(one)
                with one:
                    raise Failed

    if "retry_error_callback" in policy:
        asyncio.run(scenario())
    else:
        with pytest.raises((Failed, tenacity.RetryError)):
            asyncio.run(scenario())
    assert len(held) == 2
    assert len(spans.all("retry")) == 1


def test_the_span_of_a_loop_goes_on_while_the_policy_sleeps(spans: Spans) -> None:
    ended: list[int] = []
    policy = tenacity.Retrying(stop=tenacity.stop_after_attempt(3), sleep=lambda _: ended.append(len(spans.all())))
    with pytest.raises(tenacity.RetryError):
        for one in policy:
            with one:
                raise Failed
    assert ended == [0, 0]
    assert [(name, facts[sc.RETRY_ATTEMPT]) for name, facts in spans.events("retry.scheduled")] == [
        ("retry", 1),
        ("retry", 2),
    ]


def test_what_an_attempt_left_running_sends_for_it_until_the_next_begins(spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(200))

    async def scenario() -> None:
        late: list[asyncio.Task[Any]] = []

        async def sleep(seconds: float) -> None:
            asleep.set()
            await late[0]

        async def fetch(client: Any) -> None:
            await asleep.wait()
            await client.get(url)

        async def attempt() -> None:
            late.append(asyncio.create_task(fetch(client)))
            if len(late) == 1:
                raise Failed
            await late[1]

        asleep = asyncio.Event()
        async with HTTP("httpx2", "asyncio").client() as client:
            await tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(2), sleep=sleep)(attempt)

    asyncio.run(scenario())
    assert spans.sends(*COUNT) == THREE[:2]


def test_a_program_that_drives_a_policy_itself_has_its_retries_told(spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))
    policy = tenacity.Retrying(wait=tenacity.wait_fixed(0.01))
    with (
        spans.provider.get_tracer("program").start_as_current_span("program"),
        HTTP("httpx2", "sync").client() as client,
    ):
        policy.begin()
        state = tenacity.RetryCallState(policy, fn=None, args=(), kwargs={})
        while do := policy.iter(state):
            if isinstance(do, tenacity.DoSleep):
                state.prepare_for_next_attempt()
                continue
            try:
                client.get(url).raise_for_status()
                state.set_result(None)
            except Exception as error:
                state.set_exception((type(error), error, None))
    assert spans.events("retry.scheduled") == [
        ("program", {sc.RETRY_ATTEMPT: 1, sc.RETRY_WAIT: 0.01, sc.ERROR_TYPE: "HTTPStatusError"})
    ]
    assert spans.sends(*COUNT) == [(0, None), (1, "inferred")]


def test_a_wait_that_the_policy_did_not_choose_is_not_told(spans: Spans) -> None:
    class Own(tenacity.Retrying):
        def iter(self, retry_state: tenacity.RetryCallState) -> Any:
            return tenacity.DoSleep(1) if retry_state.outcome is not None else super().iter(retry_state)

    def end(seconds: float) -> None:
        raise Failed

    with spans.provider.get_tracer("program").start_as_current_span("program"), pytest.raises(Failed):
        Own(sleep=end)(lambda: None)
    assert spans.events("retry.scheduled") == [("program", {sc.RETRY_ATTEMPT: 1})]


def test_calls_of_one_policy_at_once_have_each_their_attempts(spans: Spans, origin: Origin) -> None:
    urls = [origin.script(f"/{number}", Answer(202), Answer(202), Answer(200)) for number in range(3)]

    async def scenario() -> None:
        policy = tenacity.AsyncRetrying(retry=tenacity.retry_if_result(lambda status: status == 202))

        async def fetch(client: Any, url: str) -> int:
            return int((await client.get(url)).status_code)

        async with HTTP("httpx2", "asyncio").client() as client:
            await asyncio.gather(*(policy(fetch, client, url) for url in urls))
            await policy(fetch, client, urls[0])

    asyncio.run(scenario())
    assert sorted(spans.sends(*COUNT)[:9], key=str) == sorted(THREE * 3, key=str)
    assert spans.sends(*COUNT)[9:] == THREE[:1]
