"""How long a response asks its client to wait before it sends again.

    retry_after({"retry-after": "120"}, 503)                  # 120.0
    retry_after({"ratelimit": '"api";r=0;t=55'}, 429)         # 55.0

Nothing here raises: a header that cannot be read asks for nothing.
"""

from email.utils import parsedate_to_datetime
from math import isfinite
from time import time
from typing import Any

_LONGEST_WAIT = 10.0 * 365 * 86400


def retry_after(headers: Any, status: int) -> float | None:
    """The wait, in seconds, that a response asks for: Retry-After (a number or a date), retry-after-ms, or the reset time
    of an exhausted `ratelimit` field (t= in `"api";r=0;t=55`). None when it asks for none, or nothing that can be read."""
    text = headers.get("retry-after-ms")
    if text is not None and (wait := _seconds(text, 1000.0)) is not None:
        return wait
    text = headers.get("retry-after")
    if text is not None:
        wait = _seconds(text, 1.0)
        return wait if wait is not None else _until(text)
    if status == 429 and (text := headers.get("ratelimit")) is not None:
        return max((wait for policy in text.split(",") if (wait := _reset_of(policy)) is not None), default=None)
    return None


def _reset_of(policy: str) -> float | None:
    fields = dict(field.strip().partition("=")[::2] for field in policy.split(";"))
    return _seconds(fields["t"], 1.0) if fields.get("r") == "0" and "t" in fields else None


def _seconds(text: str, unit: float) -> float | None:
    try:
        wait = float(text) / unit
    except ValueError:
        return None
    return wait if isfinite(wait) and 0 <= wait <= _LONGEST_WAIT else None


def _until(text: str) -> float | None:
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - time()), _LONGEST_WAIT)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
