"""Errors of the HTTP interface: one sentence with the right status."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from triscale.record import Record


class Problem(Record):
    """The reason why a request was refused."""

    detail: str


def problem(status: int, message: str, headers: Mapping[str, str] | None = None) -> HTTPException:
    """Return the exception that answers a request with a status and one sentence.

    Args:
        status: The HTTP status.
        message: The reason; the first letter is capitalized and a missing period is added.
        headers: Additional headers of the response.
    """
    return HTTPException(status, sentence(message), dict(headers or {}))


def sentence(text: str) -> str:
    """Return a text with a capital first letter and a period.

    Example:
        >>> sentence("the image is empty")
        'The image is empty.'
    """
    ended = text if text.endswith((".", "!", "?")) else f"{text}."
    return ended[:1].upper() + ended[1:]


async def answer_invalid_parameter(request: Request, error: Exception) -> JSONResponse:
    """Answer a request with a missing or invalid query parameter: status 422, and one sentence about the first."""
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name, reason = first["loc"][-1], str(first["msg"])
    if first["type"] == "missing":
        message = f"the query parameter {name!r} is missing"
    else:
        message = f"the query parameter {name!r} is invalid: {reason[:1].lower()}{reason[1:]}"
    return JSONResponse({"detail": sentence(message)}, 422)


async def answer_unknown_path(request: Request, error: Exception) -> JSONResponse:
    """Answer a request for a path that does not exist."""
    del error
    return JSONResponse({"detail": f"There is no {request.url.path[:100]}; /docs lists the paths."}, 404)


async def answer_other_method(request: Request, error: Exception) -> JSONResponse:
    """Answer a request whose method the path does not support, with what to send."""
    assert isinstance(error, StarletteHTTPException)
    allowed = (error.headers or {}).get("Allow", "")
    detail = f"{request.url.path} takes {allowed}, not {request.method[:20]}"
    if "POST" in allowed:
        detail += "; send the bytes of an image file, a form with files, or JSON with base64, see /docs"
    return JSONResponse({"detail": sentence(detail)}, 405, headers=error.headers)


async def answer_internal_error(request: Request, error: Exception) -> JSONResponse:
    """Answer a request that failed in the server, without details that help an attacker."""
    del request, error
    return JSONResponse({"detail": "Internal server error; see the server's log."}, 500)
