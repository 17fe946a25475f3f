"""Check output paths."""

from __future__ import annotations

from pathlib import Path

from triscale.errors import RunError


def refuse_output_in_images(out: Path, images: str | Path, option: str = "--out") -> None:
    """Check that an output path is not inside the directory of the images.

    Args:
        out: File or directory to be written.
        images: The images; if they are not a directory (a table, a URL, a named data set), every path is accepted.
        option: The command-line option that sets ``out``.

    Raises:
        RunError: ``out`` is inside the directory of the images.
    """
    root = Path(images).resolve()
    if root.is_dir() and out.resolve().is_relative_to(root):
        raise RunError(f"{out} is inside the image folder {images}; give a path outside of it with {option}")
