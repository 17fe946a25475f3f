"""What a server allows its clients, so that none of them keeps the others waiting."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits of a server.

    Attributes:
        body_bytes: of a request.
        body_seconds: in which it has to be there.
        head_seconds: in which the head of a connection's first request has to be there.
        pixels: of an image.
        waiting: images that may wait for the network; more are told to come back.
        connections: at a time.
    """

    body_bytes: int = 20_000_000
    body_seconds: float = 15.0
    head_seconds: float = 10.0
    pixels: int = 50_000_000
    waiting: int = 32
    connections: int = 1000


DEFAULTS = ServerLimits()


async def read_body(request: Request, limits: ServerLimits) -> bytes:
    """Read the body of a request within limits.

    Raises:
        HTTPException: 413 too large, 408 too slow, 400 broken off.
    """
    stated = request.headers.get("content-length", "0")
    if stated.isdecimal() and int(stated) > limits.body_bytes:
        raise _too_large(limits)
    content = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for part in request.stream():
                content += part
                if len(content) > limits.body_bytes:
                    raise _too_large(limits)
    except TimeoutError:
        raise HTTPException(408, f"the image was not there after {limits.body_seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the connection ended before the image did") from None
    return bytes(content)


def patient_for(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol for connections that have to say what they want within some seconds.

    Without that, a connection that sends nothing, or its head byte by byte, is kept for good.
    """

    class Impatient(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(seconds, self._close_if_silent)

        def _close_if_silent(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return Impatient


def _too_large(limits: ServerLimits) -> HTTPException:
    return HTTPException(413, f"the image has more than {limits.body_bytes} bytes; send a smaller one")
