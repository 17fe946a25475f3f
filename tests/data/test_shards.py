"""Tar shards in WebDataset layout, as Python's tarfile writes them, are read like folders and never misread."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import os
import pickle
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from triscale.data.images.color import BadImage
from triscale.data.images.decode import FORMATS, ImageLimits
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import check_present, make_split
from triscale.data.sources import shard_index, shards
from triscale.data.sources.scanned import Scan
from triscale.data.sources.shards import MAX_OPEN, Shards
from triscale.data.sources.store import open_store
from triscale.errors import DataError
from triscale.places import cache_folder

from .pictures import encode, noise

Members = list[tuple[str, bytes]]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_tar(path: Path, members: Members, kind: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def picture(seed: int, kind: str = "PNG") -> bytes:
    return encode(noise(seed), kind)


def samples(numbers: range, classes: int = 2, suffix: str = "png") -> Members:
    return [
        member
        for number in numbers
        for member in (
            (f"{number:04d}.{suffix}", picture(number)),
            (f"{number:04d}.cls", str(number % classes).encode()),
        )
    ]


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        scan(root)
    return str(caught.value)


def labels(result: Scan) -> dict[str, str]:
    return {image.path: result.classes[image.label] for images in result.by_role.values() for image in images}


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_is_read(tmp_path: Path, kind: int) -> None:
    write_tar(tmp_path / "shards" / "0.tar", samples(range(6)), kind)
    write_tar(tmp_path / "shards" / "1.tar", samples(range(6, 11)), kind)
    result = scan(tmp_path / "shards")
    assert result.root == str(tmp_path / "shards")
    assert labels(result) == {f"{number:04d}.png": str(number % 2) for number in range(11)}
    store = open_store(result.root)
    assert all(store.read(f"{number:04d}.png") == picture(number) for number in range(11))


def test_splits_are_read_from_names_or_folders(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        write_tar(tmp_path / "names" / f"set-{part}-000000.tar", samples(range(4)))
        write_tar(tmp_path / "folders" / part / "000000.tar", samples(range(4)))
    for root in (tmp_path / "names", tmp_path / "folders"):
        result = scan(root)
        assert {role: [image.path for image in images] for role, images in result.by_role.items()} == {
            role: [f"{role}/{number:04d}.png" for number in range(4)] for role in ("train", "val", "test")
        }
    train = write_tar(tmp_path / "train only" / "train-0.tar", samples(range(4)))
    assert set(scan(train.parent).by_role) == {"unsplit"}


def test_labels_can_be_numbers_names_or_json(tmp_path: Path) -> None:
    kinds: list[tuple[str, bytes]] = [
        ("cls", "Füchse".encode()),
        ("json", json.dumps({"label": "dog", "caption": "a dog"}).encode()),
        ("json", json.dumps({"cls": 7}).encode()),
        ("cls", b"10\n"),
    ]
    members: Members = []
    for number, (suffix, content) in enumerate(kinds):
        members += [(f"{number}.jpg", picture(number, "JPEG")), (f"{number}.{suffix}", content)]
    write_tar(tmp_path / "a" / "0.tar", members)
    assert labels(scan(tmp_path / "a")) == {"0.jpg": "Füchse", "1.jpg": "dog", "2.jpg": "7", "3.jpg": "10"}
    write_tar(tmp_path / "b" / "0.tar", members[4:])
    assert scan(tmp_path / "b").classes == ("7", "10")


@pytest.mark.parametrize("name", ["classes.txt", "classes.json"])
def test_class_names_are_read_from_file(tmp_path: Path, name: str) -> None:
    names = ["zebra", "ärger", "10"]
    write_tar(tmp_path / "0.tar", samples(range(6), 3))
    (tmp_path / name).write_text(json.dumps(names) if name.endswith("json") else "\n".join(names), encoding="utf-8")
    result = scan(tmp_path)
    assert result.classes == tuple(names)
    assert [image.label for image in result.unsplit] == [0, 1, 2, 0, 1, 2]
    (tmp_path / name).write_text('["a", "b"]' if name.endswith("json") else "a\nb\n")
    assert f"0002.png in {tmp_path} is of class 2, but {name} names 2 classes" in refused(tmp_path)
    (tmp_path / name).write_text('["a", "a", "b"]' if name.endswith("json") else "a\na\nb")
    assert "lists the class a twice" in refused(tmp_path)
    (tmp_path / name).write_text('{"a": 0}' if name.endswith("json") else "")
    assert name in refused(tmp_path)


def test_common_member_names_are_read(tmp_path: Path) -> None:
    deep = "a very long folder name " * 12
    members = [
        ("./cats/1.seg.mask.png", picture(1)),
        ("./cats/1.cls", b"0"),
        (f"v1.5/{deep}/2.JPG", picture(2)),
        (f"v1.5/{deep}/2.cls", b"1"),
        ("._cats", b"what macOS leaves"),
        ("cats/.hidden.png", picture(3)),
        ("README", b"no sample"),
    ]
    assert labels(scan(write_tar(tmp_path / "0.tar", members).parent)) == {
        "cats/1.seg.mask.png": "0",
        f"v1.5/{deep}/2.JPG": "1",
    }


def test_bad_samples_are_listed_with_reason(tmp_path: Path) -> None:
    bad: Members = [
        ("no-label.png", picture(9000)),
        ("no-image.txt", b"text"),
        ("no-image.cls", b"0"),
        ("two.png", picture(9001)),
        ("two.jpg", picture(9002)),
        ("two.cls", b"0"),
        ("odd.png", picture(9003)),
        ("odd.cls", b""),
        ("listed.png", picture(9004)),
        ("listed.json", b'{"label": [1]}'),
        ("0001.png", picture(9005)),
        ("0001.cls", b"0"),
        ("text.png", b"no image"),
        ("text.cls", b"1"),
    ]
    write_tar(tmp_path / "0.tar", samples(range(800)))
    write_tar(tmp_path / "1.tar", bad)
    result = scan(tmp_path)
    assert {file.path: file.reason for file in result.bad} == {
        "1.tar: no-label": "it has no .cls and no .json",
        "1.tar: no-image": "there is no image among its files (no-image.txt, no-image.cls)",
        "1.tar: two": "it has 2 images (two.png, two.jpg); expected one",
        "1.tar: odd": "odd.cls holds ''; expected the number or the name of a class",
        "1.tar: listed": "listed.json holds [1]; expected the number or the name of a class",
        "1.tar: 0001": "its key occurs twice, in 0.tar and 1.tar",
        "text.png": f"not an image ({', '.join(FORMATS)})",
    }
    assert result.num_images == 800
    write_tar(tmp_path / "2.tar", [(name.replace(".", "-2."), content) for name, content in bad])
    assert "13 of 814 files" in refused(tmp_path)


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(write_tar(tmp_path / "0.tar", samples(range(200))), "a") as tar:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    assert [(file.path, file.reason) for file in scan(tmp_path).bad] == [("0.tar: link", "its image is a link")]


def test_names_that_are_not_utf8_are_listed_with_escapes(tmp_path: Path) -> None:
    odd = [(os.fsdecode(b"caf\xe9.png"), picture(999)), (os.fsdecode(b"caf\xe9.x.cls"), b"0")]
    write_tar(tmp_path / "0.tar", samples(range(200)) + odd, tarfile.GNU_FORMAT)
    (file,) = scan(tmp_path).bad
    assert file.path == r"0.tar: caf\xe9"
    assert scan(tmp_path).bad == (file,)


def test_archive_truncated_at_any_byte_is_rejected(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "0.tar", samples(range(4))).read_bytes()
    end = len(whole.rstrip(b"\0"))
    for length in [*range(0, end, 512), *range(100, end, 1000)]:
        (tmp_path / "0.tar").write_bytes(whole[:length])
        message = refused(tmp_path)
        assert str(tmp_path / "0.tar") in message, length
        assert "create it again" in message


def test_any_damaged_header_is_rejected(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "0.tar", samples(range(4)), tarfile.USTAR_FORMAT).read_bytes()
    with tarfile.open(tmp_path / "0.tar") as tar:
        headers = [info.offset for info in tar]
    for offset in headers:
        (tmp_path / "0.tar").write_bytes(whole[: offset + 2] + b"\xff" + whole[offset + 3 :])
        assert "damaged" in refused(tmp_path), offset


def test_compressed_and_concatenated_archives_are_rejected(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "0.tar", samples(range(4))).read_bytes()
    (tmp_path / "0.tar").write_bytes(gzip.compress(whole))
    assert "expected a complete, uncompressed .tar" in refused(tmp_path)
    (tmp_path / "0.tar").write_bytes(whole + whole)
    assert "concatenated archives" in refused(tmp_path)


def test_splits_for_only_some_shards_are_rejected(tmp_path: Path) -> None:
    for name in ("train-0.tar", "test-0.tar", "more.tar"):
        write_tar(tmp_path / name, samples(range(4)))
    assert "more.tar" in refused(tmp_path)
    (tmp_path / "more.tar").unlink()
    (tmp_path / "train-0.tar").unlink()
    write_tar(tmp_path / "val-0.tar", samples(range(4)))
    assert "none for train" in refused(tmp_path)


def test_class_folders_next_to_an_archive_are_class_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(picture(ord(name)))
    write_tar(tmp_path / "images.tar", samples(range(4)))
    assert scan(tmp_path).classes == ("a", "b")


def test_index_is_cached_and_updated_with_shards(tmp_path: Path) -> None:
    root = tmp_path / "shards"
    write_tar(root / "0.tar", samples(range(4)))
    before = sorted(root.iterdir())
    first = scan(root)
    assert sorted(root.iterdir()) == before
    (index,) = (cache_folder() / "shards").glob("*/index.json")
    made = index.stat().st_mtime_ns
    assert scan(root) == first
    assert index.stat().st_mtime_ns == made
    write_tar(root / "0.tar", samples(range(2, 8)))
    assert labels(scan(root)) == {f"{number:04d}.png": str(number % 2) for number in range(2, 8)}
    write_tar(root / "1.tar", samples(range(10, 12)))
    assert scan(root).num_images == 8
    assert len(list(index.parent.iterdir())) == 3


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_damaged_index_is_rebuilt(tmp_path: Path, damage: str, which: int) -> None:
    write_tar(tmp_path / "shards" / "0.tar", samples(range(4)))
    first = scan(tmp_path / "shards")
    file = sorted((cache_folder() / "shards").glob("*/*"))[which]
    content = file.read_bytes()
    file.unlink()
    if damage != "remove":
        place = len(content) - 3
        file.write_bytes(content[:place] + (b"\x01" + content[place + 1 :] if damage == "flip" else b""))
    assert scan(tmp_path / "shards") == first


def test_shards_are_read_without_writable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path / "file" / "cache"))
    write_tar(tmp_path / "shards" / "0.tar", samples(range(4)))
    assert scan(tmp_path / "shards").num_images == 4


@pytest.mark.process
def test_store_is_thread_and_fork_safe_with_few_descriptors(tmp_path: Path) -> None:
    count = MAX_OPEN + 20
    for number in range(count):
        write_tar(tmp_path / "shards" / f"{number:03d}.tar", samples(range(2 * number, 2 * number + 2)))
    store = Shards(tmp_path / "shards")
    numbers = [number * 37 % (2 * count) for number in range(6 * count)]
    before = len(list(Path("/proc/self/fd").iterdir()))

    def right(number: int) -> bool:
        return store.read(f"{number:04d}.png") == picture(number)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(right, numbers))
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + MAX_OPEN + 8
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=lambda: os._exit(not all(map(right, numbers)))) for _ in range(2)]
    for child in children:
        child.start()
    assert all(map(right, numbers))
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert pickle.loads(pickle.dumps(store)).read("0003.png") == picture(3)


def test_limits_and_missing_samples_are_errors(tmp_path: Path) -> None:
    write_tar(tmp_path / "shards" / "0.tar", samples(range(40)))
    store = open_store(str(tmp_path / "shards"))
    with pytest.raises(BadImage, match="more than the limit"):
        store.read("0001.png", ImageLimits(file_bytes=10))
    with pytest.raises(BadImage, match="not in the shards"):
        store.read("0041.png")
    split = make_split(scan(tmp_path / "shards"))
    check_present(split)
    write_tar(tmp_path / "shards" / "0.tar", samples(range(39)))
    with pytest.raises(DataError, match="1 of 40 images of the split are no longer in"):
        check_present(split)


def test_paths_with_equal_hash_are_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (shard_index, shards):
        monkeypatch.setattr(module, "hash_path", lambda path: 7)
    write_tar(tmp_path / "0.tar", samples(range(20)))
    store = Shards(tmp_path)
    assert all(store.read(f"{number:04d}.png") == picture(number) for number in range(20))
    assert store.missing(["0003.png", "0030.png"]) == ["0030.png"]


def test_shard_closed_by_one_thread_is_readable_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_OPEN", 1)
    for number in range(20):
        write_tar(tmp_path / f"{number:02d}.tar", samples(range(2 * number, 2 * number + 2)))
    store, expected = Shards(tmp_path), [picture(number) for number in range(40)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(16) as pool:
            numbers = [number * 7 % 40 for number in range(2500)]
            assert all(pool.map(lambda number: store.read(f"{number:04d}.png") == expected[number], numbers))
    finally:
        sys.setswitchinterval(interval)
