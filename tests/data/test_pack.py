"""Packed shards hold the same images, and other libraries can read them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from triscale.data.images.decode import FORMATS
from triscale.data.images.optional_formats import OPTIONAL_FORMATS
from triscale.data.images.transforms import Augmentation
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.data.sources.pack import _SUFFIXES, Packed, pack, shard_size
from triscale.data.sources.scanned import Scan
from triscale.errors import DataError
from triscale.network.contract import Preprocessing
from triscale.places import cache_folder

from .batches import train_batches
from .pictures import noise, write_classes


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path_factory.mktemp("cache")))


def moved(found: Scan, root: Path) -> Scan:
    return found.model_copy(update={"root": str(root), "bad": (), "notes": ()})


def odd_names(root: Path) -> Path:
    """Write images whose names cannot be WebDataset keys, and unusual class names."""
    names = ["cat.1.jpg", "cat.2.jpg", "1.png", "1.jpg", "no suffix", "deep/er/1.JPEG", "ä ö.png", "x.dat", ".5.png"]
    for offset, folder in enumerate(("Füchse", "10", "9", "a.b c", unicodedata.normalize("NFD", "ñu"), "日本")):
        for number, name in enumerate(names):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(100 * offset + number).save(path, "PNG")
    return root


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*") if path.is_file()}


def packed(images: Path, out: Path, size: int = 20_000) -> Packed:
    return pack(scan(images), out, shard_bytes=size)


def test_packed_dataset_scans_identically(tmp_path: Path) -> None:
    images = odd_names(tmp_path / "images")
    result = packed(images, tmp_path / "shards")
    found = scan(images)
    assert found.num_images == 48
    assert scan(tmp_path / "shards") == moved(found, tmp_path / "shards")
    assert result.splits[0].shards == len(list((tmp_path / "shards").glob("*.tar"))) > 2
    assert not cache_folder().joinpath("shards").exists(), "the index next to the shards was not used"


def test_splits_are_kept(tmp_path: Path) -> None:
    for part in ("Train", "valid", "TEST"):
        odd_names(tmp_path / "images" / part)
    for part in ("Train", "valid", "TEST"):
        for path in (tmp_path / "images" / part).rglob("1.jpg"):
            noise(len(part) * 1000 + ord(part[0])).save(path, "PNG")
    result = packed(tmp_path / "images", tmp_path / "shards")
    assert [(split.split, split.images) for split in result.splits] == [("train", 48), ("val", 48), ("test", 48)]
    assert scan(tmp_path / "shards") == moved(scan(tmp_path / "images"), tmp_path / "shards")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_images_of_new_formats_without_suffix_are_packed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(3):
            noise(number + 10 * (name == "b")).save(tmp_path / "images" / name / f"picture {number}", "AVIF")
    pack(scan(tmp_path / "images"), tmp_path / "shards")
    assert scan(tmp_path / "shards").counts == {"unsplit": {"a": 3, "b": 3}}
    assert set(_SUFFIXES) == {*FORMATS, *OPTIONAL_FORMATS, "NPY"}


def test_manifest_paths_without_split_are_packed(tmp_path: Path) -> None:
    write_classes(tmp_path / "set", {"a": 6, "b": 6})
    write_classes(tmp_path / "elsewhere", {"a": 2, "b": 2}, seed=3)
    rows = [
        f"{path.parent.name}/{path.name},{path.parent.name},{'train' if path.name < '004' else 'test'}"
        for path in sorted((tmp_path / "set").rglob("*.png"))
    ]
    rows += [f"{path},{path.parent.name},val" for path in sorted((tmp_path / "elsewhere").rglob("*.png"))]
    (tmp_path / "set" / "set.csv").write_text("\n".join(["path,label,split", *rows]))
    packed(tmp_path / "set" / "set.csv", tmp_path / "shards")
    found = scan(tmp_path / "set" / "set.csv")
    assert len(found.val) == 4
    assert scan(tmp_path / "shards") == moved(found, tmp_path / "shards")


def test_packing_is_deterministic(tmp_path: Path) -> None:
    packed(odd_names(tmp_path / "images"), tmp_path / "one")
    shutil.copytree(tmp_path / "images", tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.jpg"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    packed(tmp_path / "copy", tmp_path / "two")
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert {name for name in one if one[name] != two[name]} == {"index.json"}, "which holds times"


def test_batches_from_shards_equal_batches_from_files(tmp_path: Path) -> None:
    packed(write_classes(tmp_path / "images", {"a": 40, "b": 30}), tmp_path / "shards")
    splits = [make_split(scan(root), seed=3) for root in (tmp_path / "images", tmp_path / "shards")]
    assert splits[0] == splits[1].model_copy(update={"root": splits[0].root})
    preprocessing = Preprocessing(resolution=12)
    for workers in (0, 2):
        streams = [
            [
                *train_batches(split, preprocessing, Augmentation(), batch=8, seed=1, epoch=2, workers=workers),
                *eval_batches(split.test, split.root, preprocessing, batch=8, workers=workers),
            ]
            for split in splits
        ]
        for one, two in zip(*streams, strict=True):
            assert all(bool((a == b).all()) for a, b in zip(one[:3], two[:3], strict=True))


def test_shards_are_readable_by_tarfile(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 5, "b": 6})
    packed(images, tmp_path / "shards")
    seen = {}
    for path in sorted((tmp_path / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                assert (info.mode, info.uid, info.gid, info.uname, info.mtime) == (0o644, 0, 0, "", 0)
                opened = tar.extractfile(info)
                assert opened is not None
                seen[info.name] = opened.read()
    assert {name: content for name, content in seen.items() if name.endswith(".png")} == {
        path.relative_to(images).as_posix(): path.read_bytes() for path in images.rglob("*.png")
    }
    assert {name: content for name, content in seen.items() if name.endswith(".cls")} == {
        f"{name}/{number:03d}.cls": label
        for name, label, count in (("a", b"0", 5), ("b", b"1", 6))
        for number in range(count)
    }


def test_shards_are_readable_by_hugging_face_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for part in ("train", "test"):
        write_classes(tmp_path / "images" / part, {"a": 5, "b": 6}, seed=len(part))
    packed(tmp_path / "images", tmp_path / "shards")
    files = {part: sorted(map(str, (tmp_path / "shards").glob(f"{part}-*.tar"))) for part in ("train", "test")}
    read = datasets.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path / "hub"))
    for part, found in scan(tmp_path / "images").by_role.items():
        rows = {f"{row['__key__']}.png": row for row in read[part]}
        assert sorted(rows) == [image.path for image in found]
        for image in found:
            assert rows[image.path]["cls"] == image.label
            with Image.open(tmp_path / "images" / image.path) as expected:
                assert np.array_equal(np.asarray(rows[image.path]["png"]), np.asarray(expected))


def test_only_single_sample_shards_exceed_requested_size(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 20, "b": 20})
    for size in (1, 10_000, 50_000):
        packed(images, tmp_path / str(size), size)
        for path in (tmp_path / str(size)).glob("*.tar"):
            with tarfile.open(path) as tar:
                count = len(tar.getnames())
            assert count == 2 or path.stat().st_size <= size + tarfile.RECORDSIZE


def test_moved_shards_are_reindexed_in_cache(tmp_path: Path) -> None:
    packed(write_classes(tmp_path / "images", {"a": 8, "b": 8}), tmp_path / "shards")
    shutil.copytree(tmp_path / "shards", tmp_path / "copy", copy_function=shutil.copyfile)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").iterdir()}
    assert scan(tmp_path / "copy") == moved(scan(tmp_path / "shards"), tmp_path / "copy")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").iterdir()} == before
    assert list((cache_folder() / "shards").glob("*/index.json"))


def test_nonempty_or_nested_output_folder_is_rejected(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    before = sorted(images.rglob("*"))
    with pytest.raises(DataError, match="where nothing is written"):
        packed(images, images / "shards")
    assert sorted(images.rglob("*")) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(DataError, match="exists already"):
        packed(images, tmp_path / "full")
    with pytest.raises(DataError, match="cannot write"):
        packed(images, tmp_path / "full" / "mine" / "shards")
    (tmp_path / "empty").mkdir()
    packed(images, tmp_path / "empty")


def test_image_changed_while_packing_is_an_error_without_output(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    found = scan(images)
    noise(77).save(images / "a" / "001.png")
    with pytest.raises(DataError, match=r"a/001\.png changed"):
        pack(found, tmp_path / "shards")
    (images / "a" / "001.png").unlink()
    with pytest.raises(DataError, match=r"a/001\.png can no longer be read"):
        pack(found, tmp_path / "shards")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


KILLED = """
import pathlib, sys
from triscale.data.sources.pack import pack
from triscale.data.pipeline.scan import scan

def wait(done, total):
    print(done, flush=True)
    sys.stdin.readline()

pack(scan(sys.argv[1]), pathlib.Path(sys.argv[2]), shard_bytes=20_000, progress=wait)
"""


@pytest.mark.process
def test_killed_pack_leaves_no_output(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 30, "b": 30})
    command = [sys.executable, "-c", KILLED, str(images), str(tmp_path / "shards")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(DataError, match="another process is packing"):
            packed(images, tmp_path / "shards")
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    assert not (tmp_path / "shards").exists()
    packed(images, tmp_path / "shards")
    packed(images, tmp_path / "again")
    tars = [{k: v for k, v in digests(tmp_path / name).items() if k != "index.json"} for name in ("shards", "again")]
    assert tars[0] == tars[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "images", "shards"]


@pytest.mark.parametrize(
    ("text", "size"),
    [("256MB", 256_000_000), ("1 GiB", 1 << 30), ("1.5k", 1500), ("7", 7), ("64mib", 64 << 20), ("10B", 10)],
)
def test_common_size_spellings_are_parsed(text: str, size: int) -> None:
    assert shard_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "0", "1XB", "1e3", "one"])
def test_invalid_sizes_are_rejected(text: str) -> None:
    with pytest.raises(DataError, match="256MB"):
        shard_size(text)


NAMES = st.builds(
    lambda stem, suffix: stem + suffix,
    st.text("ab1.é日 -_%#~", min_size=1, max_size=10).filter(lambda stem: not stem.startswith(".")),
    st.sampled_from([".png", ".JPG", ".tar", ".cls", ".json", ""]),
).filter(lambda name: not name.endswith("."))


@settings(max_examples=40, deadline=None)
@given(names=st.lists(NAMES, min_size=2, max_size=12, unique=True), size=st.integers(1, 10_000))
def test_arbitrary_names_round_trip(names: list[str], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        for number, name in enumerate(names):
            path = images / "abc"[number % 2] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            noise(number).save(path, "PNG")
        result = packed(images, Path(folder) / "shards", size)
        assert result.splits[0].images == len(names)
        assert scan(Path(folder) / "shards") == moved(scan(images), Path(folder) / "shards")
