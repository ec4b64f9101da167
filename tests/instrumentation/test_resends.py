"""Promises about retry_count: how often a request was sent before, by the best source there is, and never by a guess."""

import asyncio
from typing import Any

import pytest

from origin import Answer, Origin
from retrospan_instrumentation import semconv as sc

from .conftest import Spans
from .scenario import HTTP, call

COUNT = (sc.HTTP_REQUEST_RESEND_COUNT, sc.RETRY_SOURCE)
FIRST = (0, None)


class Again(Exception):
    pass


class Bearer:
    """An auth flow that sends again with a token after a 401."""

    def __new__(cls, module: Any) -> Any:
        class Flow(module.Auth):
            def auth_flow(self, request: Any) -> Any:
                response = yield request
                if response.status_code == 401:
                    request.headers["authorization"] = "token"
                    yield request

        return Flow()


async def get_ok(client: Any, url: str, **options: Any) -> Any:
    response = await call(client.get(url, **options))
    return response.raise_for_status()


# -- frame


def test_sends_inside_a_retry_are_counted_by_its_frame(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(429), Answer(200))

    async def scenario() -> None:
        client = http.client()
        await http.retry(lambda: get_ok(client, url))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "frame"), (2, "frame")]


def test_an_exception_before_any_answer_counts_as_a_send(http: HTTP, spans: Spans) -> None:
    async def scenario() -> None:
        client = http.client()
        with pytest.raises(http.module.ConnectError):
            await http.retry(lambda: get_ok(client, "http://127.0.0.1:9/"))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "frame"), (2, "frame")]


def test_equal_requests_in_one_attempt_are_not_retries(http: HTTP, spans: Spans, origin: Origin) -> None:
    async def scenario() -> None:
        client = http.client()

        async def ten() -> None:
            for _ in range(10):
                await get_ok(client, origin.url("/"))

        await http.retry(ten)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST] * 10


def test_a_repeat_after_a_failure_in_the_same_attempt_is_one(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        client = http.client()

        async def own_loop() -> None:
            while (await call(client.get(url))).status_code == 503:
                pass

        await http.retry(own_loop)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "frame")]


def test_a_later_attempt_counts_though_the_send_before_succeeded(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(200))

    async def scenario() -> None:
        client = http.client()
        results = iter([Again, None])

        async def once() -> None:
            await get_ok(client, url)
            if error := next(results):
                raise error

        await http.retry(once)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "frame")]


def test_the_outermost_retry_counts_whatever_an_sdk_says(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        client = http.client()

        async def sdk() -> None:
            for number in range(2):
                response = await call(client.get(url, headers={"x-stainless-retry-count": str(number)}))
            response.raise_for_status()

        with pytest.raises(http.module.HTTPStatusError):
            await http.retry(sdk)
        await call(http.close(client))

    http.run(scenario())
    assert [count for count, _ in spans.sends(*COUNT)] == [0, 1, 2, 3, 4, 5]


def test_siblings_gathered_under_one_retry_are_not_each_others_retries(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "asyncio")
    url = origin.script("/", *[Answer(200)] * 5, Answer(503), *[Answer(200)] * 6)

    async def scenario() -> None:
        async with http.client() as client:

            async def six() -> None:
                await asyncio.gather(*(get_ok(client, url) for _ in range(6)))

            await http.retry(six)

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST] * 6 + [(1, "frame")] * 6


def test_each_gathered_retry_counts_its_own_attempts(spans: Spans, origin: Origin) -> None:
    http = HTTP("httpx2", "asyncio")
    urls = [origin.script(f"/{n}", Answer(503), Answer(200)) for n in range(4)]

    async def scenario() -> None:
        async with http.client() as client:

            async def all_of_them() -> None:
                await asyncio.gather(*(http.retry(lambda url=url: get_ok(client, url)) for url in urls))

            await http.retry(all_of_them)

    http.run(scenario())
    assert sorted(spans.sends(*COUNT), key=str) == sorted([FIRST, (1, "frame")] * 4, key=str)


def test_another_body_is_another_request(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503))

    async def scenario() -> None:
        client = http.client()

        async def two() -> None:
            for body in (b"a", b"b"):
                await call(client.post(url, content=body))
            raise Again

        with pytest.raises(Again):
            await http.retry(two)
        await call(http.close(client))

    http.run(scenario())
    assert [count for count, _ in spans.sends(*COUNT)] == [0, 0, 1, 1, 2, 2]


def test_a_multipart_body_is_told_by_method_and_url_in_a_frame(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        client = http.client()

        async def upload() -> None:
            (await call(client.post(url, files={"file": b"content"}))).raise_for_status()

        await http.retry(upload)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "frame")]


def test_an_auth_flow_in_a_later_attempt_keeps_its_count(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(401), Answer(503), Answer(401), Answer(200))

    async def scenario() -> None:
        client = http.client(auth=Bearer(http.module))
        await http.retry(lambda: get_ok(client, url))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(sc.HTTP_RESPONSE_STATUS_CODE, *COUNT) == [
        (401, 0, None),
        (503, 0, None),
        (401, 1, "frame"),
        (200, 1, "frame"),
    ]


def test_an_auth_flow_after_a_failure_in_the_same_attempt_keeps_its_count(
    http: HTTP, spans: Spans, origin: Origin
) -> None:
    url = origin.script("/", Answer(503), Answer(401), Answer(200))

    async def scenario() -> None:
        client = http.client(auth=Bearer(http.module))

        async def own_loop() -> None:
            while (await call(client.get(url))).status_code == 503:
                pass

        await http.retry(own_loop)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "frame"), (1, "frame")]


def test_a_siblings_attempts_are_not_ones_own(http: HTTP, spans: Spans, origin: Origin) -> None:
    first, second = origin.script("/first", Answer(503)), origin.script("/second", Answer(200))

    async def scenario() -> None:
        client = http.client()
        urls = iter([first, second])

        async def one_after_the_other() -> None:
            await http.retry(lambda: get_ok(client, second))
            await http.retry(lambda: get_ok(client, next(urls)))

        await http.retry(one_after_the_other)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, FIRST, FIRST]


def test_a_retry_remembers_no_more_than_1024_requests(spans: Spans) -> None:
    http = HTTP("httpx2", "sync")
    client = http.client(transport=http.mock(lambda request: http.module.Response(200)))
    attempts = iter([Again, None])

    def many() -> None:
        for number in range(1100):
            client.get(f"http://mock.example/{number}")
        if error := next(attempts):
            raise error

    http.retrying_call()(many)
    counts = [count for count, _ in spans.sends(*COUNT)]
    assert counts[:1100] == [0] * 1100
    # While it goes through them again, each that it adds pushes out the oldest, which would have been next.
    assert counts[1100:] == [0] * 1100


# -- request


def test_the_same_request_object_sent_again_after_a_failure_is_a_resend(
    http: HTTP, spans: Spans, origin: Origin, other_origin: Origin
) -> None:
    url, elsewhere = origin.script("/", Answer(503), Answer(429), Answer(200)), other_origin.url("/")

    async def scenario() -> None:
        client = http.client()
        request = client.build_request("GET", url)
        for _ in range(4):
            await call(client.send(request))
            await call(client.get(elsewhere))  # so that nothing is inferred
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT)[::2] == [FIRST, (1, "request"), (2, "request"), FIRST]


def test_an_auth_flow_alone_is_no_resend(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(401), Answer(200))

    async def scenario() -> None:
        client = http.client(auth=Bearer(http.module))
        await get_ok(client, url)
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, FIRST]


# -- header


@pytest.mark.parametrize("header", ["x-stainless-retry-count", "X-Retry-Count", "Retry-Attempt"])
@pytest.mark.parametrize(
    ("value", "found"), [("2", (2, "header")), ("0", FIRST), ("", FIRST), ("two", FIRST), ("-1", FIRST), ("²", FIRST)]
)
def test_a_resend_header_says_how_often(
    spans: Spans, origin: Origin, header: str, value: str, found: tuple[int, str | None]
) -> None:
    http = HTTP("httpx2", "sync")
    with http.client() as client:
        client.get(origin.url("/"), headers={header: value.encode()})
    assert spans.sends(*COUNT) == [found]


def test_a_header_that_a_transport_changes_is_read_before_the_send(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        wire = http.wire()

        async def kiota(request: Any) -> Any:
            response = await call(http.handle(wire, request))
            await call(http.close(response))
            request.headers["retry-attempt"] = "1"
            return await call(http.handle(wire, request))

        client = http.client(transport=http.through(kiota, wire))
        await call(client.get(url))
        await call(http.close(client))

    http.run(scenario())
    assert spans.sends(*COUNT) == [FIRST, (1, "transport")]


def test_a_header_says_how_often_and_the_send_before_says_when(http: HTTP, spans: Spans, origin: Origin) -> None:
    url = origin.script("/", Answer(503), Answer(200))

    async def scenario() -> None:
        client = http.client()
        await call(client.get(url))
        await call(client.get(url, headers={"x-retry-count": "5"}))
        await call(http.close(client))

    http.run(scenario())
    first, second = spans.clients()
    assert first.end_time is not None
    assert second.start_time is not None
    waited = (second.start_time - first.end_time + 500_000) // 1_000_000
    assert spans.sends(*COUNT, sc.RETRY_WAIT_MS) == [(0, None, None), (5, "header", waited)]
