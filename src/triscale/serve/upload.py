"""The images of a request, however they were sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from triscale.serve.problems import problem


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadedImage:
    """The bytes of an image file, its name if the client stated one, and whether they came as a URL-encoded form."""

    content: bytes
    name: str | None = None
    url_encoded: bool = field(default=False, repr=False)


def check_count(number: int, limit: int) -> None:
    """Check the number of images of a request.

    Raises:
        HTTPException: Status 413, more than the limit.
    """
    if number > limit:
        raise problem(413, f"the request holds more than {limit} images; send several requests")
