"""How much a test of a promise does: a little always, all of it for ``benchmarks/reliability.py``, which sets these.

``TRISCALE_FULL=1`` asks for the full sizes; ``TRISCALE_FIGURES`` names a file to which each figure is added as a line.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


def size(usual: int, full: int) -> int:
    """Return how often something is done."""
    return full if os.environ.get("TRISCALE_FULL") == "1" else usual


def figure(promise: int, what: str, result: int, of: int, **more: object) -> None:
    """Write down that something was found so often out of so many."""
    if path := os.environ.get("TRISCALE_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"promise": promise, "what": what, "found": result, "of": of} | more) + "\n")
