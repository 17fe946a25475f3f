"""Write the handwritten digits of scikit-learn as a folder of images: real data without a download."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from triscale.errors import DataError
from triscale.record import atomic_directory

SIDE = 32
"""Side of the written images in pixels; the originals have 8 pixels."""

TEST_SHARE = 0.2


def write_digits(folder: Path) -> Path:
    """Write the 1797 digits as ``train/<digit>/NNNN.png`` and ``test/<digit>/NNNN.png``.

    They are the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998,
    https://doi.org/10.24432/C50P49): 8 x 8 pixels of 17 gray levels, written as 8-bit gray of 32 x 32 pixels. A fixed
    20% of every digit is for testing.

    Args:
        folder: The folder to create, atomically; if it already holds the digits, nothing is written.

    Returns:
        The folder.

    Raises:
        DataError: The folder holds something else, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as temporary:
        ...     folder = write_digits(Path(temporary) / "digits")
        ...     len(list(folder.rglob("*.png")))
        1797
    """
    digits = load_digits()
    names = _names(digits.target)
    if folder.exists() and _complete(folder, names):
        return folder
    try:
        with atomic_directory(folder) as aside:
            for values, name in zip(digits.images, names, strict=True):
                path = aside / name
                path.parent.mkdir(parents=True, exist_ok=True)
                gray = Image.fromarray(np.round(values * (255 / 16)).astype(np.uint8))
                gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    except OSError as error:
        raise DataError(f"cannot write {folder} ({error.strerror}); choose another folder") from error
    return folder


def _names(targets: np.ndarray) -> list[str]:
    """Return the path of every image; within a digit, the first ones in the order of a hash are for testing."""
    names = [""] * len(targets)
    for digit in range(10):
        members = np.flatnonzero(targets == digit).tolist()
        members.sort(key=lambda index: hashlib.sha256(str(index).encode()).digest())
        num_test = round(TEST_SHARE * len(members))
        for position, index in enumerate(members):
            names[index] = f"{'test' if position < num_test else 'train'}/{digit}/{index:04d}.png"
    return names


def _complete(folder: Path, names: list[str]) -> bool:
    """Return whether a folder holds exactly these files, or False if it is empty.

    Raises:
        DataError: The folder is a file, or holds other files.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; choose a folder that does not exist or is empty")
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    if not sizes and not any(folder.iterdir()):
        return False
    if sizes.keys() != set(names) or not all(sizes.values()):
        raise DataError(
            f"{folder} holds something other than the digits; choose a folder that does not exist or is empty"
        )
    return True
