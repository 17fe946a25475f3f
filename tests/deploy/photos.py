"""Photos as people have them: of odd sizes, turned by EXIF, gray, transparent, with a palette or 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def smooth(height: int, width: int, seed: int, channels: int = 3) -> np.ndarray:
    """A picture of soft shapes with some noise, so that JPEG and resizing have something to do."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (5, 7, channels), dtype=np.uint8)
    bands = [Image.fromarray(small[..., i]).resize((width, height), Image.Resampling.BICUBIC) for i in range(channels)]
    values = np.stack([np.asarray(band) for band in bands], axis=-1) + random.normal(0, 12, (height, width, channels))
    return values.clip(0, 255).astype(np.uint8)


def write_photos(folder: Path) -> list[Path]:
    """Write the photos, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(smooth(41, 63, 10)).save(folder / f"turned{orientation}.jpg", quality=95, exif=exif)
    Image.fromarray(smooth(301, 187, 0)).save(folder / "tall.jpg", quality=90)
    Image.fromarray(smooth(233, 97, 1)).save(folder / "upright.jpg", quality=92, subsampling=0)
    Image.fromarray(smooth(64, 131, 2, 1)[..., 0]).save(folder / "gray.png")
    Image.fromarray(smooth(75, 75, 3, 1)[..., 0]).save(folder / "gray.jpg")
    clear = smooth(90, 120, 4, 4)
    clear[:20, :, 3] = 0
    clear[-30:, :, 3] = 255
    Image.fromarray(clear).save(folder / "clear.png")
    Image.fromarray(smooth(50, 61, 5)).quantize(32).save(folder / "palette.png")
    Image.fromarray(smooth(9, 13, 6)).save(folder / "small.png")
    Image.fromarray(smooth(71, 52, 7)).save(folder / "progressive.jpg", progressive=True, quality=80)
    deep = 256 * smooth(48, 57, 8, 1)[..., 0].astype(np.uint16) + smooth(48, 57, 9, 1)[..., 0]
    Image.fromarray(deep).save(folder / "deep.png")
    return sorted(folder.iterdir())
