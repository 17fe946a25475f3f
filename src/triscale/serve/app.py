"""The HTTP interface: predictions as JSON, a web page, and an OpenAPI description."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response

from triscale.errors import UserError
from triscale.scaling.budget import Budget
from triscale.serve.bodies import describe_body, read_upload
from triscale.serve.cors import allow_origins
from triscale.serve.head_requests import AnswerHead
from triscale.serve.limits import DEFAULTS, ServerLimits
from triscale.serve.metrics import CONTENT_TYPE, CountRequests, ServerMetrics
from triscale.serve.model import Answer, Answers, Scaled, Servable, Served
from triscale.serve.pages import add_pages
from triscale.serve.prediction_queue import PredictionQueue
from triscale.serve.problems import (
    Problem,
    answer_internal_error,
    answer_invalid_parameter,
    answer_other_method,
    answer_unknown_path,
    problem,
)
from triscale.version import __version__

PATHS = (
    "/", "/docs", "/openapi.json", "/metrics", "/favicon.ico",
    "/api/health", "/api/model", "/api/predict", "/api/scale",
)  # fmt: skip
"""All paths of the server."""

REFUSED: dict[int | str, dict[str, object]] = {
    400: {"model": Problem, "description": "The form or the JSON is malformed, or the connection ended early."},
    408: {"model": Problem, "description": "The body arrived too slowly."},
    413: {"model": Problem, "description": "The body is too large, or holds too many images."},
    415: {"model": Problem, "description": "An image is not readable."},
    422: {"model": Problem, "description": "A parameter, the form or the JSON is invalid."},
    503: {"model": Problem, "description": "Too many images are waiting; retry after Retry-After seconds."},
}


def make_app(model: Servable, limits: ServerLimits = DEFAULTS, origins: Sequence[str] = ()) -> FastAPI:
    """Return the ASGI application that serves a network.

    The network classifies one image at a time, on one thread; the number of waiting requests is limited.

    Args:
        model: The network.
        limits: Limits of requests and connections.
        origins: Origins whose pages may call the server from a browser; see :mod:`triscale.serve.cors`.
    """
    app = FastAPI(
        title=f"{model.about.dataset}: {model.about.network}",
        version=__version__,
        description="Classify images with a trained network.",
        docs_url=None,  # FastAPI's own pages load scripts from other sites.
        redoc_url=None,
    )
    metrics = ServerMetrics(PATHS)
    queue = PredictionQueue(model, limits, metrics)

    allow_origins(app, origins)
    app.add_middleware(CountRequests, metrics=metrics)
    app.add_middleware(AnswerHead)
    add_pages(app, model.about)

    @app.get("/metrics", include_in_schema=False)
    async def show_metrics() -> Response:
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/api/health", summary="Check that the server responds", response_description="It responds.")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/api/model", summary="Describe the network", response_description="The network and its classes.")
    async def about() -> Served:
        return model.about

    @app.post(
        "/api/predict",
        summary="Classify images",
        response_description="One prediction, or a list of predictions.",
        responses=REFUSED,
        openapi_extra=describe_body(limits),
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=1000, description="number of classes")] = 5,
        with_map: Annotated[bool, Query(alias="map", description="also return a class activation map")] = False,
    ) -> Answer | Answers:
        """Return one prediction for bytes or JSON with `image`, and a list for a form or JSON with `images`."""
        upload = await read_upload(request, limits)
        predictions = await queue.classify(request, upload, top, with_map=with_map)
        return Answers(predictions=predictions) if upload.many else predictions[0]

    @app.get(
        "/api/scale",
        summary="Scale the network to a budget",
        response_description="The scaled network.",
        responses={422: {"model": Problem, "description": "The budget is missing, unreadable or cannot be met."}},
    )
    async def scale(
        budget: Annotated[str, Query(max_length=100, description="such as 400M, 5M params or 20MB")],
    ) -> Scaled:
        try:
            limit = Budget.of(budget)
            return await asyncio.to_thread(model.scaled, limit)
        except UserError as error:
            raise problem(422, str(error)) from None

    app.add_exception_handler(404, answer_unknown_path)
    app.add_exception_handler(405, answer_other_method)
    app.add_exception_handler(RequestValidationError, answer_invalid_parameter)
    app.add_exception_handler(Exception, answer_internal_error)
    return app
