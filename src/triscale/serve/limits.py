"""Limits of a server, so that no client can block the others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from triscale.serve.problems import problem


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLimits:
    """Limits of a server.

    Attributes:
        body_bytes: Maximum size of a request's body; of JSON, maximum size of its images after decoding base64.
        body_seconds: Time within which the body must arrive.
        head_seconds: Time within which the head of a connection's first request must arrive.
        pixels: Maximum number of pixels of an image.
        images: Maximum number of images of a request.
        waiting: Maximum number of images waiting for the network; further requests get status 503.
        connections: Maximum number of simultaneous connections.
    """

    body_bytes: int = 20_000_000
    body_seconds: float = 15.0
    head_seconds: float = 10.0
    pixels: int = 50_000_000
    images: int = 16
    waiting: int = 32
    connections: int = 1000


DEFAULTS = ServerLimits()


async def read_body(request: Request, limits: ServerLimits, max_bytes: int | None = None) -> bytes:
    """Read the body of a request within limits.

    Args:
        request: The request.
        limits: Limits of time and size.
        max_bytes: Maximum size in bytes if it differs from ``limits.body_bytes``.

    Raises:
        HTTPException: Status 413 (too large), 408 (too slow) or 400 (connection closed).
    """
    most = limits.body_bytes if max_bytes is None else max_bytes
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    content = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > most:
                    raise _too_large(most)
    except TimeoutError:
        raise problem(408, f"the body did not arrive within {limits.body_seconds:g} s") from None
    except ClientDisconnect:
        raise problem(400, "the connection ended before the body was complete") from None
    return bytes(content)


def http_protocol(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol with a time limit for the head of a connection's first request.

    Without it, a connection that sends nothing, or its head byte by byte, stays open forever.

    Args:
        seconds: The time limit.
    """

    class TimeLimited(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self.loop.call_later(seconds, self._close_if_silent)

        def _close_if_silent(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.close()

    return TimeLimited


def _too_large(most: int) -> HTTPException:
    return problem(413, f"the body has more than {most} bytes; send fewer or smaller images")
