"""Addresses of sets of images, and where on this machine Triscale keeps what it can always make or fetch again."""

from __future__ import annotations

import os
import re
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: ``$TRISCALE_CACHE``, or ``triscale`` in ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    given = os.environ.get("TRISCALE_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of these folders has a relative path ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "triscale"


def is_url(images: str) -> bool:
    """Return whether a set of images is given by an address such as ``s3://bucket/folder``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", images) is not None


def absolute(images: str) -> str:
    """Return a set's address, or its path on this machine, such that it is found from any folder."""
    return images if is_url(images) else str(Path(images).resolve())
