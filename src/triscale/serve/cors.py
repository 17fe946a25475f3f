"""Let pages of other origins call the server from a browser (cross-origin resource sharing)."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from triscale.errors import UserError

ANY = "*"
MAX_AGE = 600
_DEFAULT_PORTS = {"http": 80, "https": 443}


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Allow pages of some origins to read responses; without an origin nothing changes.

    Cookies and other credentials are never allowed: the server has none.

    Args:
        app: The application.
        origins: The origins as :func:`check_origin` returns them.
    """
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            expose_headers=["Retry-After"],
            max_age=MAX_AGE,
        )


def check_origin(text: str) -> str:
    """Return an origin as browsers send it in the header Origin.

    Args:
        text: Scheme, host and port such as ``https://example.com:8443``, or ``*`` for all origins.

    Raises:
        UserError: The text is not an origin.

    Example:
        >>> check_origin("https://Example.com:443/")
        'https://example.com'
    """
    if text == ANY:
        return text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _wrong(text) from None
    other = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in _DEFAULT_PORTS or not host or other or not _is_host(host):
        raise _wrong(text)
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def _is_host(host: str) -> bool:
    """Return whether a host is ASCII without a wildcard; browsers send other names in their ASCII form (xn--...)."""
    return host.isascii() and all(character.isalnum() or character in "-._:" for character in host)


def _wrong(text: str) -> UserError:
    return UserError(
        f"--cors {text!r} is not an origin; give scheme, host and port such as https://example.com or "
        "http://localhost:3000, or '*' for all origins"
    )
