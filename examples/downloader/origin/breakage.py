"""Breaking a connection on purpose: a TCP reset, or an end before the promised length.

    server = uvicorn.Server(uvicorn.Config(app, http=Breakable))
    await reset(scope)          # the client sees ECONNRESET
    await cut(scope)            # the client sees the end of the stream

An ASGI application has no way to its socket, so `Breakable` keeps the transport of each open connection by its two ends.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from .access_log import note

_LINGER_NONE = struct.pack("ii", 1, 0)  # on, 0 s: close() sends RST instead of FIN
_FLUSH_S = 0.02  # what was written reaches the client before the break does

_open: dict[tuple[object, object], asyncio.Transport] = {}


class Breakable(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, whose connections can be found again."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn itself
        super().connection_made(transport)
        _open[self.client, self.server] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        _open.pop((self.client, self.server), None)
        super().connection_lost(exc)


async def reset(scope: Scope) -> None:
    """Ends the connection with RST."""
    transport = await _flushed(scope, "reset")
    connection = cast("socket.socket", transport.get_extra_info("socket"))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
    transport.abort()
    await asyncio.sleep(0)  # the loop closes it before uvicorn looks whether the answer was whole


async def cut(scope: Scope) -> None:
    """Ends the connection with FIN, whatever Content-Length promised."""
    transport = await _flushed(scope, "cut")
    transport.close()
    await asyncio.sleep(0)


async def _flushed(scope: Scope, end: str) -> asyncio.Transport:
    note(scope, end=end)
    await asyncio.sleep(_FLUSH_S)
    return _open[scope["client"], scope["server"]]
