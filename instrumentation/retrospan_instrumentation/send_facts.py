"""What is known of one send, and how its span says it: the attributes of a request's row.

They are read when the span is exported, on a provider that can wait for them; else at the span's start and at its end.
"""

from collections.abc import Sequence

from opentelemetry.util.types import AttributeValue

from . import emit, mapping, waits
from . import semconv as sc
from .frames import AttemptFrame, CacheAnswer, Target
from .headers import Entries, value_of
from .late import LateAttributes, LateEvent
from .urls import url_hash

METHODS = frozenset(("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "QUERY"))
"""Those that are called by their name; others are `_OTHER`, and their span is called HTTP."""


class SendFacts(LateAttributes):
    """What is known of a send. `wire`: True on the wire, False answered by a cache without, None unknown."""

    # What most sends never learn stands here: a send is made for every request, and each store counts.
    target: Target
    start: int
    wire: bool | None = None
    role: str | None = None
    end: int | None = None
    status: int | None = None
    ttfb: int | None = None
    delay: int | None = None
    retry_wait: int | None = None
    retry_after: float | None = None
    error: str | None = None
    body_bytes: int | None = None
    body_end: str | None = None
    protocol: bytes | None = None
    answer: Entries = ()  # headers of the answer that the client received, where its Content-Type says the role
    attempt: AttemptFrame | None = None
    resend_count = 0
    retry_source: str | None = None
    breaker_state: str | None = None
    breaker_recorded: str | None = None
    cache: CacheAnswer | None = None  # on the wire that goes without saying: no cache answered
    hop_last = False
    granted: Sequence[waits.Wait] = ()  # permits that were granted at once
    is_open = True
    """Whether its span has not ended yet."""

    def facts(self) -> dict[str, AttributeValue]:
        """What is known: until the span ends, that with which it starts."""
        facts = self._identity()
        if self.is_open:
            self.was_read = True
        else:
            facts |= self._attributes()
        return facts

    @property
    def late_events(self) -> Sequence[LateEvent]:
        """The permits that it waited for."""
        return [(sc.RATE_LIMITER_ACQUIRE, wait, wait.end) for wait in self.granted]

    def role_said(self) -> str | None:
        """The role that the program gave, else what the answer's Content-Type says."""
        if self.role is None and self.answer:
            self.role = mapping.role_of_media_type(value_of(self.answer, b"content-type"))
            self.answer = ()
        return self.role

    def _identity(self) -> dict[str, AttributeValue]:
        """What a sampler may decide by: the conventions ask for it at the span's start."""
        target = self.target
        return {
            sc.HTTP_REQUEST_METHOD: target.method if target.method in METHODS else "_OTHER",
            sc.SERVER_ADDRESS: target.host,
            sc.SERVER_PORT: target.port,
            sc.URL_SCHEME: target.scheme,
        }

    def _outcome(self) -> dict[str, AttributeValue]:
        facts: dict[str, AttributeValue] = {}
        status = self.status
        if status is not None:
            facts[sc.HTTP_RESPONSE_STATUS_CODE] = status
            if status >= 400:
                facts[sc.ERROR_TYPE] = str(status)
        if self.error is not None:
            facts[sc.ERROR_TYPE] = self.error
        return facts

    def _attributes(self) -> dict[str, AttributeValue]:
        """What is known. Written out by cases, since this runs for every request, and most are answered plainly."""
        facts = self._outcome()
        facts[sc.URL_HASH] = url_hash(self.target.address)
        facts[sc.HTTP_REQUEST_HOP_LAST] = self.hop_last
        facts[sc.HTTP_REQUEST_RESEND_COUNT] = self.resend_count
        if self.wire is not None:
            facts[sc.HTTP_REQUEST_WIRE] = self.wire
        if (role := self.role_said()) is not None:
            facts[sc.HTTP_REQUEST_ROLE] = role
        if self.body_bytes is not None:
            facts[sc.HTTP_RESPONSE_BODY_SIZE] = self.body_bytes
        if self.protocol:
            facts[sc.NETWORK_PROTOCOL_VERSION] = self.protocol[5:].decode("ascii", "replace")  # of b"HTTP/1.1"
        if self.ttfb is not None:
            facts[sc.HTTP_RESPONSE_TTFB_MS] = waits.milliseconds(self.ttfb)
        if self.delay is not None:
            facts[sc.RATE_LIMITER_DELAY_MS] = waits.milliseconds(self.delay)
        if self.breaker_state is not None:
            facts[sc.CIRCUIT_BREAKER_STATE] = self.breaker_state
            facts[sc.CIRCUIT_BREAKER_RECORDED] = self.breaker_recorded or "none"
        if self.resend_count or self.cache is not None or self.body_end is not None or self.retry_after is not None:
            facts |= emit.known(self._rarer_facts())
        return facts

    def _rarer_facts(self) -> emit.Facts:
        cache, retry_wait = self.cache, self.retry_wait
        return {
            sc.RETRY_SOURCE: self.retry_source,
            sc.RETRY_WAIT_MS: None if retry_wait is None else waits.milliseconds(retry_wait),
            sc.HTTP_RESPONSE_RETRY_AFTER: self.retry_after,
            sc.HTTP_RESPONSE_BODY_END: self.body_end,
            sc.HTTP_CACHE_HIT: None if cache is None else cache.hit,
            sc.HTTP_CACHE_REVALIDATED: None if cache is None else cache.revalidated,
            sc.HTTP_CACHE_STALE: None if cache is None else cache.stale,
        }
