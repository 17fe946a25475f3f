"""Addresses of sets of images."""

from __future__ import annotations

import re
from pathlib import Path


def is_url(images: str) -> bool:
    """Return whether a set of images is given by an address such as ``s3://bucket/folder``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", images) is not None


def absolute(images: str) -> str:
    """Return a set's address, or its path on this machine, such that it is found from any folder."""
    return images if is_url(images) else str(Path(images).resolve())
