"""Images in S3 are read like a folder; network failures are retried and never lose an image silently."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sizes import stressed
from triscale.data.images.transforms import Augmentation
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import check_present, make_split
from triscale.data.sources import fetch
from triscale.data.sources.pack import pack
from triscale.data.sources.scanned import Scan
from triscale.data.sources.store import open_store
from triscale.errors import DataError
from triscale.network.contract import Preprocessing
from triscale.places import cache_folder
from triscale.retry import RetryPolicy

from .batches import train_batches
from .pictures import noise, write_classes

pytest.importorskip("s3fs", reason="needs s3fs")
pytest.importorskip("moto.server", reason="needs moto[server]")

from . import storage as storages

FAST_RETRIES = RetryPolicy(attempts=3, timeout=1.0, pause=0.01)


@pytest.fixture(scope="module")
def server() -> Iterator[storages.Storage]:
    with storages.running() as storage:
        yield storage


@pytest.fixture
def s3(server: storages.Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[storages.Storage]:
    for name, value in {**storages.ENVIRONMENT, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "RETRY_POLICY", FAST_RETRIES)
    monkeypatch.setattr(fetch, "LISTING_TIMEOUT", 5.0)
    server.requests.clear()
    yield server
    server.faults.clear()
    server.down = False


@pytest.fixture
def bucket(tmp_path: Path) -> str:
    return "".join(character if character.isalnum() else "-" for character in tmp_path.name.lower())[-50:].strip("-")


def moved(result: Scan, root: str) -> Scan:
    return result.model_copy(update={"root": root})


def test_remote_class_folders_match_local_and_are_fetched_once(
    s3: storages.Storage, bucket: str, tmp_path: Path
) -> None:
    images = write_classes(tmp_path / "images", {"Füchse & co": 8, "b+c": 8, "d": 8})
    (images / "d" / ".hidden.png").write_bytes(b"hidden")
    (images / "stray.png").write_bytes((images / "d" / "001.png").read_bytes())
    url = s3.upload(bucket, images, "some/prefix/")
    result = scan(url)
    assert result == moved(scan(images), url)
    assert s3.fetched(".png") == 24
    assert scan(url + "/") == result
    store = open_store(result.root)
    assert store.read("d/003.png") == (images / "d" / "003.png").read_bytes()
    assert pickle.loads(pickle.dumps(store)).missing(["d/003.png", "d/999.png"]) == ["d/999.png"]
    assert s3.fetched(".png") == 24


def test_remote_splits_and_skipped_folders(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val")):
        write_classes(tmp_path / "images" / part, {"a": 3, "b": 3}, seed=number)
    url = s3.upload(bucket, tmp_path / "images", "only/")
    assert scan(f"s3://{bucket}") == moved(scan(tmp_path / "images"), url)


def test_remote_batches_equal_local_in_forked_workers(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 20, "b": 20})
    url = s3.upload(bucket, images)
    splits = [make_split(scan(root)) for root in (str(images), url)]
    for path in (cache_folder() / "remote" / "files").rglob("*"):
        if path.is_file() and path.name < "8":
            path.unlink()  # the workers fetch it again
    before = s3.fetched(".png")
    streams = [
        [
            *train_batches(split, Preprocessing(resolution=8), Augmentation(), batch=8, seed=1, epoch=0, workers=2),
            *eval_batches(split.test, split.root, Preprocessing(resolution=8), batch=8),
        ]
        for split in splits
    ]
    assert s3.fetched(".png") > before
    for one, two in zip(*streams, strict=True):
        assert all(bool((a == b).all()) for a, b in zip(one[:3], two[:3], strict=True))


def test_shards_are_downloaded_completely(
    s3: storages.Storage, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PIECE_BYTES", 10_000)
    for number, part in enumerate(("train", "test")):
        write_classes(tmp_path / "images" / part, {"a": 8, "b": 8}, seed=number)
    pack(scan(tmp_path / "images"), tmp_path / "shards", shard_bytes=20_000)
    url = s3.upload(bucket, tmp_path / "shards", "shards/")
    result = scan(url)
    assert result == moved(scan(tmp_path / "images"), url)
    before = s3.fetched(".tar")
    assert before > len(list((tmp_path / "shards").glob("*.tar"))), "larger ones come in pieces"
    split = make_split(scan(url))
    check_present(split)
    assert len(list(eval_batches(split.test, split.root, Preprocessing(resolution=8), batch=4))) == 4
    assert s3.fetched(".tar") == before


@pytest.mark.parametrize("fault", ["503", "half", *stressed("500", "short", "hang")])
def test_failure_is_retried(s3: storages.Storage, bucket: str, tmp_path: Path, fault: str) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    url = s3.upload(bucket, images)
    s3.faults["a/001.png"] = [fault, fault]
    assert scan(url) == moved(scan(images), url)
    assert s3.fetched("a/001.png") == 3


@pytest.mark.parametrize("fault", ["503", "half", "hang"])
@pytest.mark.stress
def test_permanent_failure_has_a_message_and_keeps_downloaded_files(
    s3: storages.Storage, bucket: str, tmp_path: Path, fault: str
) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    url = s3.upload(bucket, images)
    s3.faults["b/002.png"] = [fault] * 3
    with pytest.raises(DataError) as caught:
        scan(url)
    assert str(caught.value).startswith(f"{url}/b/002.png could not be downloaded in 3 attempts and ")
    assert "run the same command again" in str(caught.value)
    s3.requests.clear()
    assert scan(url) == moved(scan(images), url)
    assert s3.fetched(".png") == 1
    assert not list(cache_folder().rglob("*.part"))


def test_failed_listing_is_retried(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    url = s3.upload(bucket, images)
    s3.faults[""] = ["503"]
    assert scan(url).num_images == 6


def test_cached_dataset_needs_no_network(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    url = s3.upload(bucket, write_classes(tmp_path / "images", {"a": 5, "b": 5}))
    result = scan(url)
    s3.down = True
    with pytest.warns(UserWarning, match="using the cached list of objects instead"):
        assert scan(url) == result
    split = make_split(result)
    check_present(split)
    assert list(eval_batches(split.test, split.root, Preprocessing(resolution=8), batch=4))
    with pytest.raises(DataError, match="could not be downloaded in 3 attempts"):
        scan(f"s3://{bucket}/a")


def test_changed_object_is_downloaded_again(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    url = s3.upload(bucket, images)
    first = scan(url)
    noise(99).save(images / "a" / "001.png")
    s3.put(bucket, "a/001.png", (images / "a" / "001.png").read_bytes())
    s3.requests.clear()
    assert first != scan(url) == moved(scan(images), url)
    assert s3.fetched(".png") == 1


def test_deleted_or_forbidden_object_is_reported(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    url = s3.upload(bucket, write_classes(tmp_path / "images", {"a": 3, "b": 3}))
    split = make_split(scan(url))
    s3.delete(bucket, "a/001.png")
    assert scan(url).num_images == 5
    with pytest.raises(DataError, match="1 of 6 images of the split are no longer in s3://"):
        check_present(split)
    s3.put(bucket, "a/003.png", b"other")
    s3.faults["a/003.png"] = ["403"]
    with pytest.raises(DataError, match=r"a/003\.png was denied \(injected\); check the credentials"):
        scan(url)


def test_damaged_cache_file_is_downloaded_again(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    url = s3.upload(bucket, write_classes(tmp_path / "images", {"a": 3, "b": 3}))
    result = scan(url)
    for path in (cache_folder() / "remote" / "files").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:10])
    for path in (cache_folder() / "remote").glob("*/listing.json"):
        path.write_text("{")
    assert scan(url) == result


def test_invalid_urls_are_rejected(s3: storages.Storage, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there is nothing at s3://no-such-bucket/x"):
        scan("s3://no-such-bucket/x")
    with pytest.raises(DataError, match="is not a URL that can be read"):
        scan("nonsense://somewhere")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DataError, match="credentials"):
        scan(f"s3://{bucket}/x")


def test_message_without_fsspec_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(DataError, match=r"pip install 'triscale\[remote\]'"):
        scan("s3://bucket/x")


@pytest.mark.process
@pytest.mark.stress
def test_concurrent_fetches_give_the_same_scan(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 15, "b": 15})
    url = s3.upload(bucket, images)
    program = "import sys; from triscale.data.pipeline.scan import scan; print(scan(sys.argv[1]).digest)"
    children = [
        subprocess.Popen([sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    expected = moved(scan(images), url).digest
    for child in children:
        assert child.communicate(timeout=100)[0].strip() == expected
    assert not list(cache_folder().rglob("*.part"))


@pytest.mark.process
def test_forked_process_opens_its_own_connection(s3: storages.Storage, bucket: str, tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", {"a": 3, "b": 3})
    result = scan(s3.upload(bucket, images))
    store = open_store(result.root)
    paths = [image.path for image in result.unsplit]
    assert store.read(paths[0])

    def forget_and_read() -> None:
        for path in (cache_folder() / "remote" / "files").rglob("*"):
            if path.is_file():
                path.unlink()
        os._exit(not all(store.read(path) == (images / path).read_bytes() for path in paths))

    child = multiprocessing.get_context("fork").Process(target=forget_and_read)
    child.start()
    child.join(60)
    assert child.exitcode == 0
