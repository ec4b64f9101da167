"""`--mode asyncio`: the same downloader with `await`, telling Retrospan what no library hook can know.

What an artifact is, which attempt belongs to it, what was stored, what a request is for, and which HEAD the limiter was
spared: five calls, and the only lines of the downloader about telemetry. Decisions, guards, retries and the store are
those of the threaded variant (`fetch`, `orchestrator`, `threaded`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from tenacity import AsyncRetrying

import retrospan

from . import store, transfers
from .artifacts import Artifact
from .attempts import AttemptResult, Resolution, context_of, judging
from .clients import Clients, async_clients, load
from .faults import Judge, NoPdf, Rejected, check
from .guards import Guards, go_on, key
from .plan import Plan, Policy, plan_of
from .retries import retry_options
from .settings import Settings
from .sources import SOURCES, Page, Source
from .stopping import Stopping
from .transfers import Head, Redirect

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


def run(
    settings: Settings, works: Iterable[list[Artifact]], done: Callable[[Resolution], None], stopping: Stopping
) -> None:
    """Resolves all works, `concurrency` at once, and tells `done` of each artifact. Returns early when told to stop."""
    with suppress(asyncio.CancelledError):
        asyncio.run(_run(settings, iter(works), done, stopping))


async def _run(
    settings: Settings, works: Iterator[list[Artifact]], done: Callable[[Resolution], None], stopping: Stopping
) -> None:
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    assert task is not None
    stopping.on_stop(lambda: loop.call_soon_threadsafe(task.cancel))
    library = load(settings)
    with closing(Guards(settings)) as guards:
        async with async_clients(library, settings) as clients, asyncio.TaskGroup() as workers:
            fetcher = AsyncFetcher(settings, Judge(library), guards, clients, stopping)
            orchestrator = AsyncOrchestrator(plan_of(settings), settings, guards, fetcher)

            async def work_off() -> None:
                for work in works:  # shared by all workers
                    for artifact in work:
                        done(await orchestrator.resolve_pdf(context_of(artifact)))

            for _ in range(settings.concurrency):
                workers.create_task(work_off())


class AsyncOrchestrator:
    """Tier after tier, source after source, until one has stored the artifact."""

    def __init__(self, plan: Plan, settings: Settings, guards: Guards, fetcher: AsyncFetcher) -> None:
        self.plan, self._settings, self._guards, self._fetcher = plan, settings, guards, fetcher

    async def resolve_pdf(self, context: Mapping[str, Any]) -> Resolution:
        """All attempts, the last of them the one that stored, if any did."""
        artifact: Artifact = context["artifact"]
        usable = {name: source for name, source in SOURCES.items() if source.question(self._settings, artifact)}
        attempts: list[AttemptResult] = []
        end = time.monotonic() + self.plan.budget_s
        with retrospan.resolution(artifact.artifact_id, artifact.work_id):
            for tier, name in self.plan.steps(usable):
                if time.monotonic() > end:
                    break
                with retrospan.attempt(tier, name) as attempt:
                    result = self._health_gate(name, context) or await self._fetcher.adapter(
                        usable[name], self.plan.policies[name], context
                    )
                    attempt.outcome(result.outcome, reason=result.reason, status=result.status, host=result.host)
                attempts.append(result)
                if result.outcome == "success":
                    break
        return Resolution(artifact, tuple(attempts))

    def _health_gate(self, name: str, context: Mapping[str, Any]) -> AttemptResult | None:
        source = SOURCES[name]
        host = source.host(self._settings, context["artifact"])
        if host and self._guards.refuses(host, source.role):
            return AttemptResult(source.tier, name, "skipped", "breaker_open", host=host)
        return None


class AsyncFetcher:
    """`fetch.Fetcher` with `await`: retry > breaker > limiter > client."""

    def __init__(
        self,
        settings: Settings,
        judge: Judge,
        guards: Guards,
        clients: Clients[httpx2.AsyncClient],
        stopping: Stopping,
    ) -> None:
        self.settings, self.judge, self.guards, self.clients = settings, judge, guards, clients
        self.stopped = stopping.event

    async def adapter(self, source: Source, policy: Policy, context: Mapping[str, Any]) -> AttemptResult:
        """One attempt, within its deadline."""
        artifact: Artifact = context["artifact"]
        with judging(source, self.judge) as attempt:
            async with asyncio.timeout(policy.deadline_s):
                attempt.url = source.question(self.settings, artifact)
                if attempt.url is None:
                    raise NoPdf("not_applicable")
                page = await self.ask(attempt.url, source.role, policy)
                urls = source.candidates(page, artifact)
                if not urls:
                    raise NoPdf("no_link")
                for attempt.url in urls:
                    try:
                        attempt.stored = await self.download(attempt.url, artifact, policy)
                        break
                    except Exception:
                        if attempt.url == urls[-1]:
                            raise
        return attempt.result()

    async def ask(self, url: str, role: str, policy: Policy) -> Page:
        """The page at `url`, from the cache where it may."""

        async def read(response: httpx2.Response) -> Page:
            head = Head.of(response)
            return transfers.readable_page(head) or Page(head.url, head.content_type, await response.aread())

        with retrospan.role(role):
            return await self._send(self.clients.cached, "GET", url, role, policy.tries, transfers.ASK_HEADERS, read)

    async def download(self, url: str, artifact: Artifact, policy: Policy) -> store.Stored:
        """Gets and stores the PDF at `url`. Raises a Fault or an error of the HTTP library."""
        with retrospan.role("artifact"):
            target = await self._probed(url)
            with retrospan.download(artifact.artifact_id) as download:
                try:
                    head, stored = await self._received(target, artifact, policy)
                except Exception as error:
                    download.failed(reason=self.judge.verdict(error).reason, host=urlsplit(target).hostname)
                    raise
                download.stored(**_facts(stored), host=urlsplit(head.url).hostname)
                return stored

    async def _received(self, url: str, artifact: Artifact, policy: Policy) -> tuple[Head, store.Stored]:
        with store.staging(self.settings.out, self.settings.max_bytes) as staged:

            async def receive(response: httpx2.Response) -> Head:
                staged.restart()
                async for chunk in response.aiter_bytes():
                    staged.write(chunk)
                return Head.of(response)

            head = await self._send(
                self.clients.plain, "GET", url, "artifact", policy.tries, transfers.PDF_HEADERS, receive
            )
            storing = asyncio.to_thread(
                store.store,
                staged,
                artifact.artifact_id,
                artifact.work_id,
                root=self.settings.out,
                content_type=head.content_type,
                expected_length=head.length,
            )
            return head, await _to_its_end(storing)

    async def _probed(self, url: str) -> str:
        """The address to get: where a HEAD ends up, or `url` where a HEAD does not help."""
        try:
            head = await self._send(self.clients.plain, "HEAD", url, "artifact", 1, transfers.PDF_HEADERS, _head)
        except Exception as error:
            if transfers.head_decides(error):
                raise
            return url
        return transfers.worth_getting(head, self.settings.max_bytes)

    async def _send(
        self,
        client: httpx2.AsyncClient,
        method: str,
        url: str,
        role: str,
        tries: int,
        headers: Mapping[str, str],
        receive: Callable[[httpx2.Response], Awaitable[T]],
    ) -> T:
        """What `receive` makes of the answer, each redirect being a request of its own to its own host."""
        retrying = AsyncRetrying(**retry_options(self.settings, self.judge, tries=tries, stopped=self.stopped))
        request = client.build_request(method, url, headers=headers)
        for _ in range(transfers.MAX_REDIRECTS):
            answer: Redirect | T = await retrying(self._once, client, request, role, receive)
            if not isinstance(answer, Redirect):
                return answer
            request = answer.request
        raise Rejected("redirects")

    async def _once(
        self,
        client: httpx2.AsyncClient,
        request: httpx2.Request,
        role: str,
        receive: Callable[[httpx2.Response], Awaitable[T]],
    ) -> Redirect | T:
        """One send: a redirect, or else what was received. The body is part of it."""
        host = request.url.host
        with self.guards.breaker(host, role).calling():
            await self._admit(host, role, request.method)
            response = await client.send(request, stream=True)
            try:
                redirect = Redirect.of(response)
                if (redirect or response.is_error) and transfers.drainable(response):
                    await response.aread()
                check(response.status_code, response.headers, time.time())
                return redirect or await receive(response)
            finally:
                await response.aclose()

    async def _admit(self, host: str, role: str, method: str) -> None:
        """Waits for the limiter; a HEAD that is known to be harmless does not ask it."""
        go_on(self.stopped)
        if method == "HEAD" and host in self.settings.unmetered_head:
            retrospan.head_skip(host, role)
            return
        limiter = self.guards.limiter(host, role)
        grant = await limiter.try_acquire_async(key(host, role), timeout=self.settings.max_delay)
        go_on(self.stopped, grant)


async def _head(response: httpx2.Response) -> Head:
    return Head.of(response)


def _facts(stored: store.Stored) -> dict[str, Any]:
    return {
        "sha256": stored.sha256,
        "final_path": stored.final_path,
        "content_length": stored.content_length,
        "content_type": stored.content_type,
        "dedupe_action": stored.dedupe_action,
    }


async def _to_its_end(job: Coroutine[Any, Any, T]) -> T:
    """Waits for a thread even when cancelled meanwhile: it works on files that must not vanish under it."""
    task = asyncio.ensure_future(job)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
