"""The queue before the network: one image at a time, and a limited number waiting."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from fastapi import Request

from triscale.data.images.color import BadImage
from triscale.serve.bodies import Upload
from triscale.serve.limits import ServerLimits
from triscale.serve.metrics import ServerMetrics
from triscale.serve.model import Answer, Servable
from triscale.serve.problems import problem
from triscale.serve.upload import UploadedImage


class PredictionQueue:
    """Classifies the images of requests on one thread, in the order of their arrival.

    The images of one request enter the queue one after another, so that a request with many images does not delay
    those with one image by more than one image each.

    Args:
        model: The network.
        limits: Gives the maximum number of images that wait.
        metrics: Counts images and latencies.
    """

    def __init__(self, model: Servable, limits: ServerLimits, metrics: ServerMetrics) -> None:
        self._model, self._limits, self._metrics, self._waiting = model, limits, metrics, 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    async def classify(self, request: Request, upload: Upload, top: int, *, with_map: bool) -> tuple[Answer, ...]:
        """Classify the images of a request.

        Args:
            request: The request; once its client has disconnected, no further image is classified.
            upload: The images.
            top: Number of classes.
            with_map: Also return class activation maps.

        Raises:
            HTTPException: Status 415 (an image is not readable), 503 (too many images are waiting) or 400 (the client
                has disconnected).
        """
        reserved = len(upload.images)
        if self._waiting + reserved > self._limits.waiting:
            raise problem(503, "too many images are waiting; retry in a second", {"Retry-After": "1"})
        self._waiting += reserved
        answers: list[Answer] = []
        try:
            for number, image in enumerate(upload.images, 1):
                if answers and await request.is_disconnected():
                    raise problem(400, "the connection ended before all images were classified")
                try:
                    answers.append(await self._answer(image, top, with_map=with_map))
                except BadImage as error:
                    self._metrics.count_image("unreadable")
                    named = _name(image, number, upload.many)
                    raise problem(415, f"{named} is not a readable image: {error}{_hint(image)}") from None
                self._waiting -= 1
                reserved -= 1
        finally:
            self._waiting -= reserved
        return tuple(answers)

    async def _answer(self, image: UploadedImage, top: int, *, with_map: bool) -> Answer:
        answer = await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._model.answer(image.content, top, with_map=with_map)
        )
        self._metrics.count_image("classified", answer.milliseconds / 1e3)
        return answer.replace(file=image.name)


def _name(image: UploadedImage, number: int, many: bool) -> str:
    if not many:
        return "the image"
    return f"image {number}" if image.name is None else f"image {number} ({image.name[:100]!r})"


def _hint(image: UploadedImage) -> str:
    """Return what to do about a body that was sent in the wrong way."""
    if image.content.startswith(b'{"'):
        return "; to send JSON, set the header Content-Type: application/json"
    if image.content.startswith(b"--") and b"Content-Disposition" in image.content[:1000]:
        return "; to send a form, set the header Content-Type: multipart/form-data with its boundary"
    if image.content.startswith(b"data:"):
        return '; send a data URI as JSON: {"image": "data:..."}'
    if image.url_encoded:
        return "; curl's -d removes line breaks from the file, give --data-binary"
    return ""
