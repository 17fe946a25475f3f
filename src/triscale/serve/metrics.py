"""Figures of a running server in the Prometheus text format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram in seconds."""
OTHER = "other"


class ServerMetrics:
    r"""Counts requests, images and prediction latencies.

    All methods run on the event loop, so no lock is needed. The number of time series is bounded: a path that the
    server does not know counts as ``other``.

    Args:
        paths: The known paths.

    Example:
        >>> metrics = ServerMetrics(["/api/predict"])
        >>> metrics.count_request("/api/predict", 200)
        >>> metrics.count_request("/wp-admin", 404)
        >>> print(*[line for line in metrics.render().splitlines() if line.startswith("triscale_http")], sep="\n")
        triscale_http_requests_total{path="/api/predict",status="200"} 1
        triscale_http_requests_total{path="other",status="404"} 1
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = frozenset(paths)
        self._requests: Counter[tuple[str, int]] = Counter()
        self._images: Counter[str] = Counter()
        self._latencies = [0] * (len(BUCKETS) + 1)  # the last counts what is above all bounds
        self._seconds = 0.0

    def count_request(self, path: str, status: int) -> None:
        """Count a response."""
        self._requests[path if path in self._paths else OTHER, status] += 1

    def count_image(self, outcome: Literal["classified", "unreadable"], seconds: float | None = None) -> None:
        """Count an image, and the time that it took to decode and classify it."""
        self._images[outcome] += 1
        if seconds is not None:
            self._latencies[bisect_left(BUCKETS, seconds)] += 1
            self._seconds += seconds

    def render(self) -> str:
        """Return all figures as text."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield "# HELP triscale_http_requests_total Responses by path and status."
        yield "# TYPE triscale_http_requests_total counter"
        for (path, status), count in sorted(self._requests.items()):
            yield f'triscale_http_requests_total{{path="{path}",status="{status}"}} {count}'
        yield "# HELP triscale_images_total Images received by outcome."
        yield "# TYPE triscale_images_total counter"
        for outcome in ("classified", "unreadable"):
            yield f'triscale_images_total{{outcome="{outcome}"}} {self._images[outcome]}'
        yield "# HELP triscale_prediction_seconds Time to decode and classify an image, without waiting and maps."
        yield "# TYPE triscale_prediction_seconds histogram"
        *counts, total = accumulate(self._latencies)
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), (*counts, total), strict=True):
            yield f'triscale_prediction_seconds_bucket{{le="{bound}"}} {count}'
        yield f"triscale_prediction_seconds_sum {self._seconds:.9g}"
        yield f"triscale_prediction_seconds_count {total}"


class CountRequests:
    """ASGI middleware that counts responses.

    Args:
        app: The application.
        metrics: Where to count.
    """

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # an exception that leaves the application becomes this status further outside

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            self._metrics.count_request(scope["path"], status)
