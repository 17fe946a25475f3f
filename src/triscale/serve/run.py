"""Run the server until a signal stops it."""

from __future__ import annotations

import socket

import uvicorn
from fastapi import FastAPI

from triscale.errors import UserError
from triscale.serve.limits import DEFAULTS, ServerLimits, http_protocol

GRACE_SECONDS = 5
KEEP_ALIVE_SECONDS = 5
MAX_HEAD_BYTES = 16384


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        UserError: The address is in use or does not belong to this machine.
    """
    try:
        return socket.create_server((host, port), backlog=512)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        raise UserError(f"cannot listen on {host}:{port}: {reason}; give another --port or --host") from None


def run_server(app: FastAPI, listener: socket.socket, limits: ServerLimits = DEFAULTS) -> None:
    """Serve until SIGINT or SIGTERM; requests in progress get five seconds to finish.

    Args:
        app: The application.
        listener: A listening socket.
        limits: Limits of requests and connections.
    """
    config = uvicorn.Config(
        app,
        http=http_protocol(limits.head_seconds),
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    uvicorn.Server(config).run(sockets=[listener])
