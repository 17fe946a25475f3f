"""What a reference to weights looks like: a file, a URL, or a published name."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".pkl", ".safetensors", ".index", ".tar", ".gz")
"""Of weights files; a name with one of them is not that of published weights."""
REMOTE = ("https://", "http://", "hub:")
"""What the address of weights begins with."""


def looks_like_file(text: str) -> bool:
    """Return whether a reference to weights is a path or a URL rather than a published name.

    Example:
        >>> looks_like_file("lite0.safetensors"), looks_like_file("timm/tf_efficientnet_b0")
        (True, False)
    """
    return Path(text).suffix in SUFFIXES or text.startswith((".", "/", "~", *REMOTE))
