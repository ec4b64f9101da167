"""What a client asks for in one hop: the request, when, and by whom.

    asked = Asked(request, current_context, None)
    asked.waits                          # those that were left for it

It keeps the URL and numbers, and knows no frame: later sends remember it.
"""

from time import time_ns
from typing import Any
from weakref import ref

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext, Tracer

from . import resends, waits
from .frames import SPAN_KEY, Target, left
from .headers import has_any
from .owners import owner_ref
from .semconv import ROLES


class Asked(Target):
    """One hop of a client: a request made inside of this context; `tracer` is the client's own, if it has one."""

    role: str | None
    """What the program said."""
    parent: SpanContext
    """The span that was current."""
    resends: int
    """What a header of the request says about them."""

    def __init__(self, request: Any, context: Context, tracer: Tracer | None) -> None:
        self.method, self.url = request.method, request.url
        self.tracer, self.owner = tracer, owner_ref()
        self.start = start = time_ns()
        if left or abs(start - waits.swept) >= waits.SWEEPS_APART:
            waits.sweep(start)
        span: Any = context.get(SPAN_KEY)
        self.parent = INVALID_SPAN_CONTEXT if span is None else span.get_span_context()
        extensions = request.extensions
        self.role = None
        if (extensions and "role" in extensions) or waits.ROLE_KEY in context:
            self.role = _role_of(extensions, context)
        content = getattr(request, "_content", None)  # absent while the body is a stream: nothing to compare
        self.content_key = None if content is None else hash(content)
        self.resends = resends.asked_for(request.headers) if has_any(request.headers, resends.HEADERS) else 0
        self.request = ref(request)
        self.waits: list[waits.Wait] = []  # those that were for it
        if waits.alone.get():
            waits.take_alone(self)


def _role_of(extensions: Any, context: Context) -> str | None:
    """What the request says of its role, else what its surroundings say."""
    role = extensions.get("role") if isinstance(extensions, dict) else None
    return role if isinstance(role, str) and role in ROLES else waits.role_in(context)
