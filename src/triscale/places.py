"""Where on this machine Triscale keeps what it can always make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder: ``$TRISCALE_CACHE``, or ``triscale`` in ``$XDG_CACHE_HOME``, by default ``~/.cache``."""
    given = os.environ.get("TRISCALE_CACHE")
    if given:
        return Path(given).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of these folders has a relative path ignored.
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "triscale"
