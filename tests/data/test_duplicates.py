"""Duplicates are found by their bytes and by fingerprint; images that merely resemble each other are not."""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from triscale.data.checks.duplicates import DuplicatePair, Duplicates, find_duplicates
from triscale.data.images.fingerprint import fingerprints_of, shrink, unpack
from triscale.data.pipeline.scan import scan
from triscale.data.sources.digits import write_digits
from triscale.data.sources.scanned import Scan, ScannedImage

from .pictures import write_classes


def photo(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    """Return a picture with structure at every scale, as photographs have."""
    rng = np.random.default_rng(seed)
    values = np.full((height, width, 3), 128.0)
    for cells, strength in ((3, 60), (7, 35), (15, 20), (31, 10)):
        small = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(small[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            values[..., channel] += np.asarray(layer)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def scanned(images: Sequence[Image.Image]) -> Scan:
    """Return the scan of a dataset with these images, all with different bytes."""
    fingerprints = fingerprints_of([shrink(image.convert("RGB")) for image in images])
    result = tuple(
        ScannedImage(
            f"{i:04d}", 0, image.width, image.height, 1, "PNG", hashlib.sha256(b"%d" % i).hexdigest(), fingerprint
        )
        for i, (image, fingerprint) in enumerate(zip(images, fingerprints, strict=True))
    )
    return Scan(root="/images", classes=("a", "b"), unsplit=result)


def again(image: Image.Image, kind: str, **options: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file).convert("RGB")


RECODINGS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 50": lambda image: again(image, "JPEG", quality=50),
    "JPEG 95": lambda image: again(image, "JPEG", quality=95),
    "WebP": lambda image: again(image, "WEBP", quality=75),
    "half": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "double": lambda image: image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC),
    "gray": lambda image: image.convert("L").convert("RGB"),
}


@pytest.mark.parametrize("name", RECODINGS)
def test_reencoded_copies_are_found_without_false_positives(name: str) -> None:
    originals = [photo(seed) for seed in range(150)]
    result = find_duplicates(scanned(originals + [RECODINGS[name](image) for image in originals]))
    expected = [(f"{i:04d}", f"{i + 150:04d}") for i in range(150)]
    assert [(pair.first, pair.second) for pair in result.reencoded] == expected
    assert result.possible == ()


def test_equal_bytes_are_exact_duplicates(tmp_path: Path) -> None:
    write_classes(tmp_path, {"a": 3, "b": 3})
    blank = tmp_path / "a" / "blank.png"
    Image.new("RGB", (20, 20), "white").save(blank)
    for name in ("a/again.png", "b/other.png"):
        (tmp_path / name).write_bytes(blank.read_bytes())
    result = find_duplicates(scan(tmp_path))
    assert result.exact == (("a/again.png", "a/blank.png", "b/other.png"),)
    assert (result.reencoded, result.possible) == ((), ())


def test_blank_pages_are_not_duplicates() -> None:
    rng = np.random.default_rng(0)
    pages = [Image.new("RGB", (60, 80), (value, value, value)) for value in (0, 100, 250, 251, 252, 255)]
    pages += [Image.fromarray(rng.integers(248, 256, (80, 60, 3), dtype=np.uint8)) for _ in range(10)]
    assert find_duplicates(scanned(pages)) == Duplicates()


def test_nearly_blank_pages_are_not_duplicates() -> None:
    pages = []
    for seed in range(40):
        values = np.full((128, 96), 250, np.uint8)
        row, column = np.random.default_rng(seed).integers(10, 80, 2)
        values[row : row + 12, column : column + 8] = 0
        pages.append(Image.fromarray(values))
    assert find_duplicates(scanned(pages)) == Duplicates()


def test_fixed_camera_images_are_not_certain_duplicates() -> None:
    scene, shots = np.asarray(photo(1)).astype(float), []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        shot = scene + rng.normal(0, 6, scene.shape)
        row, column = rng.integers(0, 60), rng.integers(0, 90)
        shot[row : row + 4, column : column + 4] = 0  # what differs from shot to shot is small
        shots.append(Image.fromarray(shot.clip(0, 255).astype(np.uint8)))
    assert find_duplicates(scanned(shots)).reencoded == ()


def test_recolored_image_is_possible_duplicate() -> None:
    image = photo(5)
    y, cb, cr = image.convert("YCbCr").split()
    tinted = (y, cb.point(lambda value: value + 15), cr.point(lambda value: value - 15))
    other = Image.merge("YCbCr", tinted).convert("RGB")
    result = find_duplicates(scanned([image, other]))
    assert result.reencoded == ()
    assert [(pair.first, pair.second) for pair in result.possible] == [("0000", "0001")]


def test_stretched_image_is_not_a_duplicate() -> None:
    image = photo(6)
    assert find_duplicates(scanned([image, image.resize((image.width, image.height * 2))])) == Duplicates()


def test_digits_have_no_duplicates(tmp_path: Path) -> None:
    assert find_duplicates(scan(write_digits(tmp_path / "digits"))) == Duplicates()


def test_result_does_not_depend_on_image_order() -> None:
    originals = [photo(seed) for seed in range(30)]
    result = scanned(originals + [RECODINGS["JPEG 50"](image) for image in originals])
    shuffled = list(result.unsplit)
    random.Random(0).shuffle(shuffled)
    assert find_duplicates(result.model_copy(update={"unsplit": tuple(shuffled)})) == find_duplicates(result)


def test_groups_sharing_a_file_are_merged() -> None:
    pairs = (DuplicatePair("b", "c", 1.0), DuplicatePair("x", "y", 2.0), DuplicatePair("y", "z", 2.0))
    copies = Duplicates(exact=(("a", "b"), ("p", "q", "r")), reencoded=pairs, possible=(DuplicatePair("a", "x", 6.0),))
    assert copies.groups == (("a", "b", "c"), ("p", "q", "r"), ("x", "y", "z"))


@given(st.lists(st.lists(st.sampled_from("abcdefghij"), min_size=2, max_size=4, unique=True), max_size=8))
def test_groups_are_disjoint_and_keep_copies_together(given_groups: list[list[str]]) -> None:
    groups = Duplicates(exact=tuple(map(tuple, given_groups))).groups
    members = [path for group in groups for path in group]
    assert len(members) == len(set(members))
    assert set(members) == {path for group in given_groups for path in group}
    for group in given_groups:
        assert sum(set(group) <= set(joined) for joined in groups) == 1


def test_fingerprint_has_luma_and_chroma() -> None:
    fingerprints = unpack(
        fingerprints_of([shrink(Image.new("RGB", (40, 30), color)) for color in ("red", "white", (90, 90, 90))])
    )
    assert fingerprints.luma[:, 0].tolist() == [76, 255, 90]  # 0.299 * 255
    assert fingerprints.chroma[0].tolist() == [85, 255] * 16
    assert (fingerprints.chroma[1:] == 128).all()


def test_scans_without_images_or_fingerprints_have_no_duplicates() -> None:
    plain = ScannedImage("a", 0, 8, 8, 1, "PNG")
    assert find_duplicates(Scan(root="/", classes=("a",))) == Duplicates()
    assert find_duplicates(Scan(root="/", classes=("a",), unsplit=(plain, plain))) == Duplicates()
