"""Distinguish URLs of datasets from local paths."""

from __future__ import annotations

import re
from pathlib import Path


def is_url(images: str) -> bool:
    """Return whether a dataset is given by a URL.

    Example:
        >>> is_url("s3://bucket/photos"), is_url("photos")
        (True, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", images) is not None


def absolute(images: str) -> str:
    """Return a URL as it is, and a local path as an absolute path."""
    return images if is_url(images) else str(Path(images).resolve())
