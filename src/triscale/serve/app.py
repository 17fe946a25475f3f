"""The HTTP interface: predictions as JSON, a web page, and an OpenAPI description."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from triscale.data.images.color import BadImage
from triscale.errors import UserError
from triscale.record import Record
from triscale.scaling.budget import Budget
from triscale.serve.limits import DEFAULTS, ServerLimits, read_body
from triscale.serve.model import Answer, Scaled, Served, ServedModel
from triscale.version import __version__

PAGE_POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
IMAGE_BODY = {
    "requestBody": {
        "required": True,
        "description": "The bytes of an image file: JPEG, PNG, WebP and others. The Content-Type header is ignored.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Problem(Record):
    """The reason why a request was refused."""

    detail: str


REFUSED: dict[int | str, dict[str, object]] = {
    400: {"model": Problem, "description": "The connection ended early."},
    408: {"model": Problem, "description": "The image arrived too slowly."},
    413: {"model": Problem, "description": "The image is too large."},
    415: {"model": Problem, "description": "The body is not a readable image."},
    503: {"model": Problem, "description": "Too many images are waiting; retry after Retry-After seconds."},
}


def make_app(model: ServedModel, limits: ServerLimits = DEFAULTS) -> FastAPI:
    """Return the ASGI application that serves a network.

    The network classifies one image at a time, on one thread; the number of waiting requests is limited.

    Args:
        model: The network.
        limits: Limits of requests and connections.
    """
    app = FastAPI(
        title=f"Triscale: {model.about.network}",
        version=__version__,
        description="Classify images with a trained network.",
        docs_url=None,  # FastAPI's documentation pages load scripts from other sites.
        redoc_url=None,
    )
    threads = ThreadPoolExecutor(1, thread_name_prefix="network")
    waiting = asyncio.Semaphore(limits.waiting)

    _add_pages(app)

    @app.get("/api/health", summary="Check that the server responds")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/model", summary="Describe the network")
    async def about() -> Served:
        return model.about

    @app.post("/api/predict", summary="Classify an image", responses=REFUSED, openapi_extra=IMAGE_BODY)
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=1000, description="number of classes")] = 5,
        with_map: Annotated[bool, Query(alias="map", description="also return a class activation map")] = False,
    ) -> Answer:
        content = await read_body(request, limits)
        if waiting.locked():
            raise HTTPException(503, "too many images are waiting; retry in a second", {"Retry-After": "1"})
        async with waiting:
            try:
                return await asyncio.get_running_loop().run_in_executor(
                    threads, lambda: model.answer(content, top, with_map=with_map)
                )
            except BadImage as error:
                raise HTTPException(415, f"the body is not a readable image: {error}") from None

    @app.get("/api/scale", summary="Scale the network to a budget", responses={422: {"model": Problem}})
    async def scale(
        budget: Annotated[str, Query(max_length=100, description="such as 400M, 5M params or 20MB")],
    ) -> Scaled:
        try:
            limit = Budget.of(budget)
            return await asyncio.to_thread(model.scaled, limit)
        except UserError as error:
            raise HTTPException(422, str(error)) from None

    @app.exception_handler(Exception)
    async def internal_error(request: Request, error: Exception) -> JSONResponse:
        del request, error
        return JSONResponse({"detail": "internal server error; see the server's log"}, 500)

    return app


def _add_pages(app: FastAPI) -> None:
    """Add the web page, which is not part of the documented API."""
    page = resources.files("triscale.serve").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff"})

    @app.get("/favicon.ico", include_in_schema=False)
    async def show_icon() -> Response:
        return Response(status_code=204)
