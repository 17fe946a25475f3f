"""A set of images with any number of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NAMES = ("blue", "green", "red")


def write_colors(folder: Path, count: int = 120) -> Path:
    """Each of three colors is present or absent as a bar in its own third of the image."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = ["image,tags"]
    for number in range(count):
        pixels = generator.integers(0, 60, (24, 24, 3), dtype=np.uint8)
        has = generator.random(3) < (0.3, 0.5, 0.6)
        for index in np.flatnonzero(has):
            pixels[:, 8 * index : 8 * index + 6, 2 - index] = 250
        Image.fromarray(pixels).save(folder / "images" / f"{number:03d}.png")
        rows.append(f"{number:03d}.png,{' '.join(name for name, is_set in zip(NAMES, has, strict=True) if is_set)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder
