"""The three forms of a request with images: the bytes of one file, a form with files, and JSON with base64."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from fastapi import Request

from triscale.serve.form_body import files_of_form
from triscale.serve.json_body import images_of_json
from triscale.serve.limits import ServerLimits, read_body
from triscale.serve.upload import UploadedImage

MULTIPART, JSON, URL_ENCODED = "multipart/form-data", "application/json", "application/x-www-form-urlencoded"
_BASE64 = {"type": "string", "contentEncoding": "base64", "description": "The bytes of an image file in base64."}
_FILE = {"type": "string", "format": "binary"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The images of a request.

    Attributes:
        images: One or more images.
        many: Whether the request has the form of a list, even of one image; the response then is a list as well.
    """

    images: tuple[UploadedImage, ...]
    many: bool = False


async def read_upload(request: Request, limits: ServerLimits) -> Upload:
    """Read the images of a request; any Content-Type other than a form or JSON means the bytes of one image file.

    Args:
        request: The request.
        limits: Limits of the size and number of images.

    Raises:
        HTTPException: Status 400, 408, 413 or 422.
    """
    content_type = request.headers.get("content-type", "")
    match content_type.partition(";")[0].strip().lower():
        case kind if kind == MULTIPART:
            body = await read_body(request, limits)
            files = await asyncio.to_thread(files_of_form, body, content_type, limits.images)
            return Upload(images=files, many=True)
        case kind if kind == JSON:
            # Base64 has 4 characters for 3 bytes, and may have line breaks; the decoded size is checked again.
            body = await read_body(request, limits, limits.body_bytes * 3 // 2)
            images, many = await asyncio.to_thread(images_of_json, body, limits)
            return Upload(images=images, many=many)
        case kind:
            content = await read_body(request, limits)
            return Upload(images=(UploadedImage(content=content, url_encoded=kind == URL_ENCODED),))


def describe_body(limits: ServerLimits) -> dict[str, object]:
    """Return the OpenAPI description of the body of a request with images."""
    one = {"type": "object", "properties": {"image": _BASE64}, "required": ["image"], "additionalProperties": False}
    images = {"type": "array", "items": _BASE64, "minItems": 1, "maxItems": limits.images}
    several = {
        "type": "object",
        "properties": {"images": images},
        "required": ["images"],
        "additionalProperties": False,
    }
    files = {"type": "array", "items": _FILE, "minItems": 1, "maxItems": limits.images}
    form = {"type": "object", "properties": {"file": files}, "required": ["file"], "additionalProperties": False}
    return {
        "requestBody": {
            "required": True,
            "description": (
                f"A form with 1 to {limits.images} files, JSON with base64, or, with any other Content-Type, "
                "the bytes of one image file (JPEG, PNG, WebP and others)."
            ),
            "content": {
                "application/octet-stream": {"schema": _FILE},
                MULTIPART: {"schema": form},
                JSON: {"schema": {"oneOf": [one, several]}},
            },
        }
    }
