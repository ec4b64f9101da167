"""Asking and downloading in threads: retry > breaker > limiter > client. `aio` is the same with `await`.

    fetcher = Fetcher(settings, judge, guards, clients, stopped)
    page = fetcher.ask("https://api.crossref.org/works/10.5555%2F12345678", "metadata", policy)
    result = fetcher.adapter(SOURCES["crossref"], policy, context)

What an answer means is left to `faults` and `sources`, what a file must be to `store`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import Retrying, sleep_using_event

from . import store, transfers
from .artifacts import Artifact
from .attempts import AttemptResult, judging
from .clients import Clients
from .faults import Judge, NoPdf, Rejected, check
from .guards import Guards, go_on, key
from .plan import Policy
from .retries import retry_options
from .settings import Settings
from .sources import Page, Source
from .transfers import Head, Redirect

if TYPE_CHECKING:
    import httpx2

T = TypeVar("T")


class Fetcher:
    """Shared by all threads. `stopped` ends waits, retries and transfers early."""

    def __init__(
        self, settings: Settings, judge: Judge, guards: Guards, clients: Clients[httpx2.Client], stopped: Event
    ) -> None:
        self.settings, self.judge, self.guards, self.clients = settings, judge, guards, clients
        self.stopped = stopped

    def adapter(self, source: Source, policy: Policy, context: Mapping[str, Any]) -> AttemptResult:
        """One attempt: asks `source`, then downloads what it names until one is stored."""
        artifact: Artifact = context["artifact"]
        with judging(source, self.judge) as attempt:
            attempt.url = source.question(self.settings, artifact)
            if attempt.url is None:
                raise NoPdf("not_applicable")
            page = self.ask(attempt.url, source.role, policy)
            urls = source.candidates(page, artifact)
            if not urls:
                raise NoPdf("no_link")
            for attempt.url in urls:
                try:
                    attempt.stored = self.download(attempt.url, artifact, policy, context["claim"])
                    break
                except Exception:
                    if attempt.url == urls[-1]:
                        raise
        return attempt.result()

    def ask(self, url: str, role: str, policy: Policy) -> Page:
        """The page at `url`, from the cache where it may."""

        def read(response: httpx2.Response) -> Page:
            head = Head.of(response)
            return transfers.readable_page(head) or Page(head.url, head.content_type, response.read())

        return self._send(self.clients.cached, "GET", url, role, policy.tries, transfers.ASK_HEADERS, read)

    def download(self, url: str, artifact: Artifact, policy: Policy, claim: Lock) -> store.Stored:
        """Gets and stores the PDF at `url`. Raises a Fault or an error of the HTTP library."""
        target = self._probed(url)
        with store.staging(self.settings.out, self.settings.max_bytes) as staged:

            def receive(response: httpx2.Response) -> Head:
                staged.restart()
                for chunk in response.iter_bytes():
                    go_on(self.stopped)
                    staged.write(chunk)
                return Head.of(response)

            head = self._send(
                self.clients.plain, "GET", target, "artifact", policy.tries, transfers.PDF_HEADERS, receive
            )
            with _claimed(claim):
                return store.store(
                    staged,
                    artifact.artifact_id,
                    artifact.work_id,
                    root=self.settings.out,
                    content_type=head.content_type,
                    expected_length=head.length,
                )

    def _probed(self, url: str) -> str:
        """The address to get: where a HEAD ends up, or `url` where a HEAD does not help."""
        try:
            head = self._send(self.clients.plain, "HEAD", url, "artifact", 1, transfers.PDF_HEADERS, Head.of)
        except Exception as error:
            if transfers.head_decides(error):
                raise
            return url
        return transfers.worth_getting(head, self.settings.max_bytes)

    def _send(
        self,
        client: httpx2.Client,
        method: str,
        url: str,
        role: str,
        tries: int,
        headers: Mapping[str, str],
        receive: Callable[[httpx2.Response], T],
    ) -> T:
        """What `receive` makes of the answer, each redirect being a request of its own to its own host."""
        retrying = Retrying(
            **retry_options(self.settings, self.judge, tries=tries, stopped=self.stopped),
            sleep=sleep_using_event(self.stopped),
        )
        request = client.build_request(method, url, headers=headers)
        for _ in range(transfers.MAX_REDIRECTS):
            answer: Redirect | T = retrying(self._once, client, request, role, receive)
            if not isinstance(answer, Redirect):
                return answer
            request = answer.request
        raise Rejected("redirects")

    def _once(
        self,
        client: httpx2.Client,
        request: httpx2.Request,
        role: str,
        receive: Callable[[httpx2.Response], T],
    ) -> Redirect | T:
        """One send: a redirect, or else what was received. The body is part of it."""
        host = request.url.host
        with self.guards.breaker(host, role).calling():
            self._admit(host, role, request.method)
            with closing(client.send(request, stream=True)) as response:
                redirect = Redirect.of(response)
                if (redirect or response.is_error) and transfers.drainable(response):
                    response.read()
                check(response.status_code, response.headers, time.time())
                return redirect or receive(response)

    def _admit(self, host: str, role: str, method: str) -> None:
        """Waits for the limiter; a HEAD that is known to be harmless does not ask it."""
        go_on(self.stopped)
        if method == "HEAD" and host in self.settings.unmetered_head:
            return
        grant = self.guards.limiter(host, role).try_acquire(key(host, role), timeout=self.settings.max_delay)
        go_on(self.stopped, bool(grant))


@contextmanager
def _claimed(claim: Lock) -> Iterator[None]:
    """Whoever takes the claim decides the attempt: this thread by storing, or the orchestrator by giving up."""
    if not claim.acquire(blocking=False):
        raise TimeoutError
    try:
        yield
    except Exception:
        claim.release()
        raise
