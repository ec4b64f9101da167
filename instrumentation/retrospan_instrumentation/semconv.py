"""Every span, event, attribute and metric name, once, with its meaning, unit and type.

OpenTelemetry's stable HTTP conventions are used wherever they have a name; what they lack has a short namespace of its
own. The hooks write these names, the projection reads them, the docs are generated from them:

    span.set_attribute(semconv.HTTP_CACHE_HIT, True)
    semconv.ATTRIBUTES["http.cache.hit"].meaning

An attribute whose name ends in `_ms` is a whole number of milliseconds; other durations are seconds, as the conventions ask.
"""

from typing import Final, NamedTuple


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

ROLES: Final = ("metadata", "landing", "artifact")
OUTCOMES: Final = ("success", "retryable", "nonretryable", "timeout", "skipped", "error", "no_pdf")
DEDUPE_ACTIONS: Final = ("hardlink", "copy", "skipped", "none")
LAYERS: Final = ("http", "cache", "retry", "limiter", "breaker", "fallback", "download")
