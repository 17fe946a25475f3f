"""Where a job may write."""

from __future__ import annotations

from pathlib import Path

from triscale.errors import RunError


def refuse_output_in_images(out: Path, images: str | Path, option: str = "--out") -> None:
    """Make sure that nothing is written below the images.

    Args:
        out: File or directory to be written.
        images: The images; anything but a directory (a table, a URL, a named data set) is fine.
        option: How the user chose ``out``.

    Raises:
        RunError: ``out`` lies within the directory of images.
    """
    root = Path(images).resolve()
    if root.is_dir() and out.resolve().is_relative_to(root):
        raise RunError(f"{out} lies within the images in {images}, where nothing is written; give another {option}")
