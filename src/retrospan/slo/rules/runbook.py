"""What an alert says to whoever it wakes: what is wrong, and where to look. The long form is docs/prometheus-rules.md."""

from typing import Final

from retrospan.slo.definitions import SLO

PAGE: Final = "docs/prometheus-rules.md"

# By indicator; "" is one of a definition file's own.
_WHERE: Final = {
    "": "More events are bad than were promised.",
    "yield": "Artifacts are attempted and not stored: look for the source or host that stopped giving them, then for open"
    " breakers and exhausted tiers.",
    "ttfp": "Artifacts come late: see whether the wait is the limiter's, the back-off between resends, a slow host, or"
    " tiers that fail before one succeeds.",
    "http_429": "Hosts say that they are asked too often: lower the limit of the host that is named, and see whether"
    " resends wait as long as Retry-After says.",
    "cache_hit": "Metadata is fetched again that was there: look for a cache that is new, moved or full, and for hosts"
    " that changed their Cache-Control.",
    "rate_delay": "Metadata requests wait for their limiter: either the limit is tighter than the hosts ask for, or more"
    " is asked of one host than before.",
    "breaker_opens": "Breakers open again and again: a host fails, or its breaker's threshold or reset timeout is too"
    " tight for it.",
    "corruption": "A file was said to be stored without hash, path or length: take what was stored since out of use, and"
    " check the disk with --verify disk.",
}


def runbook(slo: SLO, alert: str, since: str) -> str:
    """Where to look, and the command that names who and when."""
    config = "" if slo.default else " --config FILE"
    where = _WHERE["" if slo.sli.queries else slo.sli.name]
    return (
        f"{where} `retrospan slo explain {slo.name} --since {since}{config}` names who and when. See {PAGE}, {alert}."
    )


def escaped(text: str) -> str:
    """A text of a definition file's in an annotation, which Prometheus takes for a template."""
    return text.replace("{{", '{{ "{{" }}')
