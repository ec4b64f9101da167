"""The current OTel context, read and set with nothing in between.

    before = get_current()
    attach(inside)
    ...
    attach(before)

The API's functions of these names reach the same ContextVar through two calls each, and a request inside a retry, a breaker
and a limiter comes here two dozen times: a twentieth of what watching it costs. With another runtime context than the API's
default one they are the API's.
"""

from collections.abc import Callable
from contextvars import ContextVar

from opentelemetry import context as api

_variable = getattr(getattr(api, "_RUNTIME_CONTEXT", None), "_current_context", None)
get_current: Callable[[], api.Context] = api.get_current
attach: Callable[[api.Context], object] = api.attach
if isinstance(_variable, ContextVar):
    get_current, attach = _variable.get, _variable.set
