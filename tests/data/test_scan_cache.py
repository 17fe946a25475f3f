"""A scan with a cache has the same result as one without."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triscale.data.checks import examine
from triscale.data.images.decode import ImageLimits
from triscale.data.options import DataOptions
from triscale.data.pipeline.scan import scan
from triscale.data.sources import scan_cache
from triscale.data.sources.pack import pack
from triscale.data.sources.scanned import Scan
from triscale.places import cache_folder

from .pictures import noise, write_classes


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(scan_cache, "RECENT_SECONDS", 0.03)


class Counted:
    """Counts decoded files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        decode = examine.open_image

        def counting(*arguments: object) -> object:
            self.number += 1
            return decode(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(examine, "open_image", counting)

    def of(self, root: Path) -> int:
        """Return how many images a scan decodes."""
        self.number = 0
        scan(root)
        return self.number


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def fresh(root: Path) -> Scan:
    """Scan without the cache."""
    os.environ[scan_cache.OFF] = "1"
    try:
        return scan(root)
    finally:
        del os.environ[scan_cache.OFF]


def settle() -> None:
    """Let the files become old enough to be cached."""
    time.sleep(scan_cache.RECENT_SECONDS * 1.5)


def test_unchanged_files_are_decoded_once(tmp_path: Path, decoded: Counted) -> None:
    images = write_classes(tmp_path / "images", {"a": 40, "b": 40})
    settle()
    assert [decoded.of(images) for _ in range(3)] == [80, 0, 0]
    assert scan(images) == fresh(images)
    noise(5).save(images / "a" / "000.png")
    (images / "a" / "001.png").rename(images / "b" / "renamed.png")
    (images / "b" / "002.png").unlink()
    noise(6).save(images / "b" / "new.png")
    settle()
    assert scan(images) == fresh(images)
    (images / "a" / "003.png").touch()
    settle()
    assert [decoded.of(images) for _ in range(2)] == [1, 0]


def test_change_with_same_size_and_mtime_is_detected(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    (images / "a" / "000.png").write_bytes((images / "a" / "000.png").read_bytes() + b"1")
    before = (images / "a" / "000.png").stat()
    settle()
    first = scan(images)
    content = (images / "a" / "000.png").read_bytes()
    (images / "a" / "000.png").write_bytes(content[:-1] + b"2")
    os.utime(images / "a" / "000.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (images / "a" / "000.png").stat().st_mtime_ns == before.st_mtime_ns
    assert first != scan(images) == fresh(images)


def test_recently_changed_files_are_not_cached(tmp_path: Path, decoded: Counted, monkeypatch) -> None:
    monkeypatch.setattr(scan_cache, "RECENT_SECONDS", 1000.0)
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    assert [decoded.of(images) for _ in range(2)] == [6, 6]


def test_bad_files_are_decoded_again(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    (images / "a" / "bad.png").write_bytes(b"")
    settle()
    assert len(scan(images).bad) == 1
    assert scan(images) == fresh(images)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other"])
def test_damaged_cache_is_rebuilt(tmp_path: Path, decoded: Counted, damage: str) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    settle()
    first = scan(images)
    (file,) = (cache_folder() / "scans").iterdir()
    content = file.read_bytes()
    place = content.index(b'"PNG"') - 4
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    file.write_bytes({"flip": flipped, "cut": content[:-9], "empty": b"", "other": b"\xff\n{}"}[damage])
    assert decoded.of(images) == 6
    assert decoded.of(images) == 0
    assert scan(images) == first


def test_every_flipped_bit_in_cache_is_detected(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 1, "b": 1})
    settle()
    first = scan(images)
    (file,) = (cache_folder() / "scans").iterdir()
    content = file.read_bytes()
    for place in range(0, len(content), 23):
        file.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
        assert scan(images) == first


def test_changed_limits_and_disabled_cache_decode_again(tmp_path: Path, decoded: Counted, monkeypatch) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    settle()
    scan(images)
    decoded.number = 0
    scan(images, options=DataOptions(limits=ImageLimits(pixels=100_000)))
    assert decoded.number == 6
    monkeypatch.setenv(scan_cache.OFF, "1")
    assert decoded.of(images) == 6
    monkeypatch.setenv("TRISCALE_CACHE", str(images / "a" / "000.png" / "no folder"))
    monkeypatch.delenv(scan_cache.OFF)
    assert decoded.of(images) == 6


def test_interrupted_scan_caches_finished_files(tmp_path: Path, decoded: Counted) -> None:
    images = write_classes(tmp_path / "images", {"a": 200, "b": 200})
    settle()

    def stop(done: int, total: int) -> None:
        if done > 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(images, progress=stop)
    result = decoded.number
    assert decoded.of(images) == 400 - result


def test_shards_are_cached_too(tmp_path: Path, decoded: Counted) -> None:
    pack(scan(write_classes(tmp_path / "images", {"a": 5, "b": 5})), tmp_path / "shards")
    settle()
    assert [decoded.of(tmp_path / "shards") for _ in range(2)] == [10, 0]


NAMES = st.sampled_from([f"{folder}/{number}.png" for folder in ("a", "b", "c") for number in range(5)])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["write", "remove", "rename", "swap", "touch", "break", "link"]), NAMES, NAMES),
    min_size=1,
    max_size=6,
)


@settings(max_examples=60, deadline=None)
@given(rounds=st.lists(CHANGES, min_size=1, max_size=3))
@pytest.mark.stress
def test_cached_scan_equals_fresh_scan_after_any_change(rounds: list[list[tuple[str, str, str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = write_classes(Path(folder) / "images", {"a": 4, "b": 4, "c": 4})
        for path in root.rglob("*.png"):
            path.rename(path.with_name(f"{int(path.stem)}.png"))
        (root / "a" / "kept.png").write_bytes((root / "a" / "0.png").read_bytes())
        (root / "b" / "kept.png").write_bytes((root / "b" / "0.png").read_bytes())
        (root / "c" / "kept.png").write_bytes((root / "c" / "0.png").read_bytes())
        settle()
        scan(root)
        count = 0
        for changes in rounds:
            for kind, one, other in changes:
                count += 1
                change(root / one, root / other, kind, count)
            settle()
            assert outcome(root, scan) == outcome(root, fresh)
            assert outcome(root, scan) == outcome(root, fresh)


def change(one: Path, other: Path, kind: str, seed: int) -> None:
    """Change files that may not exist."""
    if kind == "write" or (kind == "link" and not other.exists()):
        one.unlink(missing_ok=True)
        noise(seed).save(one)
    elif kind == "remove":
        one.unlink(missing_ok=True)
    elif kind == "break":
        one.write_bytes(b"\x89PNG broken")
    elif not one.exists():
        return
    elif kind == "touch":
        one.touch()
    elif kind == "rename":
        one.rename(other)
    elif kind == "swap" and other.exists() and one != other:
        aside = one.with_name("aside")
        one.rename(aside)
        other.rename(one)
        aside.rename(other)
    elif kind == "link" and one != other:
        one.unlink()
        shutil.copy2(other, one)


def outcome(root: Path, scanning: object) -> object:
    """Return the result of a scan, or its error message."""
    try:
        return scanning(root)  # type: ignore[operator]
    except ValueError as error:
        return str(error)
