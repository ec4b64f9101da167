"""Every span, event, attribute and metric name, once, with its meaning, unit and type.

OpenTelemetry's stable HTTP conventions are used wherever they have a name; what they lack has a short namespace of its
own. The hooks write these names, the projection reads them, the docs are generated from them:

    span.set_attribute(semconv.HTTP_CACHE_HIT, True)
    semconv.ATTRIBUTES["http.cache.hit"].meaning

An attribute whose name ends in `_ms` is a whole number of milliseconds; other durations are seconds, as the conventions ask.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

SCOPE: Final = "retrospan_instrumentation"
"""The instrumentation scope of every span and metric of the hooks."""
try:
    VERSION = version("retrospan")
except PackageNotFoundError:
    VERSION = "0"


class Attribute(NamedTuple):
    """What one attribute holds: its Python type, its unit (empty for none) and its meaning."""

    name: str
    type: type
    unit: str
    meaning: str


ATTRIBUTES: Final[dict[str, Attribute]] = {}


def _attribute(name: str, type_: type, meaning: str, unit: str = "") -> str:
    # The constants are plain `str`: a subclass would lose the fast path of dict look-ups in every request.
    ATTRIBUTES[name] = Attribute(name, type_, unit, meaning)
    return name


# -- stable OpenTelemetry names
HTTP_REQUEST_METHOD = _attribute(
    "http.request.method", str, "Request method; `_OTHER` when it is none of the known ones"
)
HTTP_RESPONSE_STATUS_CODE = _attribute("http.response.status_code", int, "Status of the response")
HTTP_REQUEST_RESEND_COUNT = _attribute("http.request.resend_count", int, "Number of earlier sends of the same request")
HTTP_RESPONSE_BODY_SIZE = _attribute("http.response.body.size", int, "Bytes of the body that were read", "By")
NETWORK_PROTOCOL_VERSION = _attribute("network.protocol.version", str, "HTTP version spoken: 1.1, 2")
SERVER_ADDRESS = _attribute("server.address", str, "Host that the call was for")
SERVER_PORT = _attribute("server.port", int, "Port of that host")
URL_SCHEME = _attribute("url.scheme", str, "http or https")
ERROR_TYPE = _attribute("error.type", str, "Class name of what was raised, or the status code of a failed response")

# -- old HTTP names, which other instrumentations still write by default; read, never written
OLD_HTTP_METHOD = "http.method"
OLD_HTTP_STATUS_CODE = "http.status_code"
OLD_HTTP_URL = "http.url"
OLD_NET_PEER_NAME = "net.peer.name"
OLD_HTTP_HOST = "http.host"
URL_FULL = "url.full"

# -- one send
URL_HASH = _attribute("url.hash", str, "First 16 hex digits of the (keyed) SHA-256 of the canonical URL")
HTTP_REQUEST_ROLE = _attribute("http.request.role", str, "What the request is for: metadata, landing or artifact")
HTTP_REQUEST_WIRE = _attribute("http.request.wire", bool, "True: sent on the wire; false: a cache answered without")
HTTP_REQUEST_HOP_LAST = _attribute("http.request.hop_last", bool, "The client received this send's response")
HTTP_RESPONSE_RETRY_AFTER = _attribute("http.response.retry_after", float, "Wait that the server asked for", "s")
HTTP_RESPONSE_TTFB_MS = _attribute("http.response.ttfb_ms", int, "From the send to the response's headers", "ms")
HTTP_RESPONSE_BODY_END = _attribute("http.response.body_end", str, "Why the body ended early: closed or abandoned")
HTTP_CACHE_HIT = _attribute("http.cache.hit", bool, "A cache answered, after a revalidation or without")
HTTP_CACHE_REVALIDATED = _attribute("http.cache.revalidated", bool, "The server confirmed what the cache held")
HTTP_CACHE_STALE = _attribute("http.cache.stale", bool, "The cache answered past the response's lifetime")

# -- retries
RETRY_SOURCE = _attribute("retry.source", str, "How a resend was known: frame, transport, request, header, inferred")
RETRY_WAIT_MS = _attribute("retry.wait_ms", int, "From the end of the send before to this one's start", "ms")
RETRY_ATTEMPT = _attribute("retry.attempt", int, "Number of the attempt that ended, from 1")
RETRY_WAIT = _attribute("retry.wait", float, "Wait that the retry policy chose before the next attempt", "s")

# -- rate limiters
RATE_LIMITER_NAME = _attribute("rate_limiter.name", str, "Key that the permit was asked for")
RATE_LIMITER_DELAY_MS = _attribute("rate_limiter.delay_ms", int, "Wait for a permit, from the first refusal on", "ms")
RATE_LIMITER_MAX_DELAY_MS = _attribute("rate_limiter.max_delay_ms", int, "Longest wait that was accepted", "ms")

# -- circuit breakers
CIRCUIT_BREAKER_NAME = _attribute("circuit_breaker.name", str, "Name of the breaker")
CIRCUIT_BREAKER_SCOPE = _attribute("circuit_breaker.scope", str, "What it guards: host or resolver")
CIRCUIT_BREAKER_STATE = _attribute("circuit_breaker.state", str, "closed, half_open or open, when the call began")
CIRCUIT_BREAKER_RECORDED = _attribute(
    "circuit_breaker.recorded", str, "What the breaker took it for: success, failure, none"
)
CIRCUIT_BREAKER_OLD_STATE = _attribute("circuit_breaker.old_state", str, "State before the transition")
CIRCUIT_BREAKER_NEW_STATE = _attribute("circuit_breaker.new_state", str, "State after the transition")
CIRCUIT_BREAKER_RESET_TIMEOUT = _attribute("circuit_breaker.reset_timeout", float, "Time it stays open", "s")

# -- fallbacks
FALLBACK_TIER = _attribute("fallback.tier", str, "Name of the tier that the source belongs to")
FALLBACK_SOURCE = _attribute("fallback.source", str, "Name of the source that was tried")
FALLBACK_OUTCOME = _attribute(
    "fallback.outcome", str, "success, retryable, nonretryable, timeout, skipped, error or no_pdf"
)
FALLBACK_REASON = _attribute("fallback.reason", str, "Code of why it came out so")
FALLBACK_STATUS = _attribute("fallback.status", int, "HTTP status that decided it")

# -- artifacts
DOWNLOAD_ARTIFACT_ID = _attribute("download.artifact_id", str, "Id of the artifact, the program's own")
DOWNLOAD_WORK_ID = _attribute("download.work_id", str, "Id of the work that the artifact belongs to")
DOWNLOAD_OUTCOME = _attribute("download.outcome", str, "stored or failed")
DOWNLOAD_REASON = _attribute("download.reason", str, "Code of why it failed")
DOWNLOAD_SHA256 = _attribute("download.sha256", str, "SHA-256 of the stored file, 64 hex digits")
DOWNLOAD_FINAL_PATH = _attribute("download.final_path", str, "Where the file was stored")
DOWNLOAD_CONTENT_LENGTH = _attribute("download.content_length", int, "Bytes on disk", "By")
DOWNLOAD_CONTENT_TYPE = _attribute("download.content_type", str, "Media type of the file")
DOWNLOAD_DEDUPE_ACTION = _attribute("download.dedupe_action", str, "hardlink, copy, skipped or none")

# -- on the resource
RETROSPAN_RUN_ID = _attribute("retrospan.run_id", str, "Id of the run, shared by all its processes")

# -- where spans go elsewhere, too
RETROSPAN_LAYERS = _attribute("retrospan.layers", str, "Layers that this process has entered, comma-separated")

# -- spans and events
SPAN_FALLBACK_RESOLVE = "fallback.resolve"
SPAN_FALLBACK_ATTEMPT = "fallback.attempt"
SPAN_DOWNLOAD = "download"
RATE_LIMITER_ACQUIRE = "rate_limiter.acquire"
RATE_LIMITER_BLOCK = "rate_limiter.block"
RATE_LIMITER_HEAD_SKIP = "rate_limiter.head_skip"
BREAKER_STATE_CHANGE = "circuit_breaker.state_change"
BREAKER_REJECTED = "circuit_breaker.rejected"
RETRY_SCHEDULED = "retry.scheduled"
SPAN_RETRY = "retry"
# Of no length, and of no table: where spans go elsewhere too, it says what `run_info.layers` says of a process.
SPAN_LAYERS = "retrospan.layers"

# -- names that only metrics know: a send, and what its cache said
HTTP_REQUEST = "http.request"
HTTP_CACHE = "http.cache"
HTTP_CACHE_RESULT = "http.cache.result"

ROLES: Final = ("metadata", "landing", "artifact")
OUTCOMES: Final = ("success", "retryable", "nonretryable", "timeout", "skipped", "error", "no_pdf")
DEDUPE_ACTIONS: Final = ("hardlink", "copy", "skipped", "none")
LAYERS: Final = ("http", "cache", "retry", "limiter", "breaker", "fallback", "download")


class Metric(NamedTuple):
    """One live metric: its kind (histogram, counter, gauge), its unit, its labels and its meaning."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    meaning: str


METRICS: Final[dict[str, Metric]] = {}
DURATION_BUCKETS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 3.0, 5.0, 7.5, 10.0, 20.0, 60.0
)  # fmt: skip
"""Edges of every duration, seconds: the conventions' own, and the default objectives' thresholds."""


def _metric(name: str, kind: str, unit: str, labels: tuple[str, ...], meaning: str) -> str:
    METRICS[name] = Metric(name, kind, unit, labels, meaning)
    return name


_LIMITER = (SERVER_ADDRESS, HTTP_REQUEST_ROLE)
_BREAKER = (CIRCUIT_BREAKER_NAME, CIRCUIT_BREAKER_SCOPE, SERVER_ADDRESS)
METRIC_REQUEST_DURATION = _metric(
    "http.client.request.duration", "histogram", "s",
    (HTTP_REQUEST_METHOD, SERVER_ADDRESS, SERVER_PORT, URL_SCHEME, HTTP_RESPONSE_STATUS_CODE, ERROR_TYPE),
    "From a send on the wire to its response's headers, or its error",
)  # fmt: skip
METRIC_CACHE_REQUESTS = _metric(
    "http.cache.requests", "counter", "{request}", (SERVER_ADDRESS, HTTP_REQUEST_ROLE, HTTP_CACHE_RESULT),
    "Requests that passed a cache: hit, revalidated, stale or miss",
)  # fmt: skip
METRIC_RETRY_ATTEMPTS = _metric(
    "retry.attempts", "counter", "{attempt}", (ERROR_TYPE,), "Attempts that failed and are made again"
)
METRIC_WAIT_DURATION = _metric(
    "rate_limiter.wait.duration", "histogram", "s", _LIMITER, "Wait for a permit that was granted"
)
METRIC_BLOCKED = _metric("rate_limiter.blocked", "counter", "{request}", _LIMITER, "Permits refused for good")
METRIC_BREAKER_STATE = _metric(
    "circuit_breaker.state", "gauge", "", (CIRCUIT_BREAKER_NAME, CIRCUIT_BREAKER_STATE),
    "1 for the state that a breaker is in, 0 for the others",
)  # fmt: skip
METRIC_TRANSITIONS = _metric(
    "circuit_breaker.transitions", "counter", "{transition}",
    (*_BREAKER, CIRCUIT_BREAKER_OLD_STATE, CIRCUIT_BREAKER_NEW_STATE), "Changes of a breaker's state",
)  # fmt: skip
METRIC_REJECTED = _metric("circuit_breaker.rejected", "counter", "{call}", _BREAKER, "Calls that a breaker refused")
METRIC_ATTEMPTS = _metric(
    "fallback.attempts", "counter", "{attempt}", (FALLBACK_TIER, FALLBACK_SOURCE, FALLBACK_OUTCOME),
    "Attempts to get an artifact from one source",
)  # fmt: skip
METRIC_ATTEMPT_DURATION = _metric(
    "fallback.attempt.duration", "histogram", "s", (FALLBACK_TIER, FALLBACK_SOURCE, FALLBACK_OUTCOME),
    "Time that an attempt took",
)  # fmt: skip
METRIC_ROWS_DROPPED = _metric(
    "retrospan.rows.dropped", "observable counter", "{row}", (),
    "Rows and spans that this process's recorder had to drop",
)  # fmt: skip
