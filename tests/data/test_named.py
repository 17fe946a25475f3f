"""Named datasets are read from tiny copies in the original layouts; torchvision is the reference."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image
from torchvision import datasets

from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.data.sources.named import NAMED, find_named, is_named, named_dataset
from triscale.data.sources.source import Layout
from triscale.errors import DataError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRISCALE_CACHE", str(tmp_path / "cache"))


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(values).resize((32, 24)).save(path)


def pets(folder: Path) -> None:
    for part, offset in (("trainval", 0), ("test", 100)):
        lines = []
        for label, name in enumerate(("Abyssinian", "saint_bernard"), start=1):
            for number in range(5):
                picture(folder / "images" / f"{name}_{offset + number}.jpg", 10 * label + offset + number)
                lines.append(f"{name}_{offset + number} {label} 1 1")
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{part}.txt").write_text("\n".join(lines) + "\n")


def aircraft(folder: Path) -> None:
    data = folder / "data"
    number = 1000000
    for part in ("train", "val", "trainval", "test"):
        lines = []
        for variant in ("707-320", "F/A-18"):
            for _ in range(4):
                number += 1
                picture(data / "images" / f"{number}.jpg", number)
                lines.append(f"{number} {variant}")
        (data / f"images_variant_{part}.txt").write_text("\n".join(lines) + "\n")
    (data / "variants.txt").write_text("707-320\nF/A-18\n")


def food(folder: Path) -> None:
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for part, offset in (("train", 0), ("test", 50)):
        for label, name in enumerate(("apple_pie", "waffles")):
            for number in range(offset, offset + 4):
                picture(folder / "images" / name / f"{number}.jpg", 1000 * label + number)
                lists[part].setdefault(name, []).append(f"{name}/{number}")
    (folder / "meta").mkdir()
    for part, by_class in lists.items():
        (folder / "meta" / f"{part}.json").write_text(json.dumps(by_class))
        (folder / "meta" / f"{part}.txt").write_text("\n".join(line for lines in by_class.values() for line in lines))


def flowers(folder: Path) -> None:
    for number in range(1, 31):
        picture(folder / "jpg" / f"image_{number:05d}.jpg", number)
    labels = np.array([[1 + number % 3 for number in range(30)]])
    scipy.io.savemat(folder / "imagelabels.mat", {"labels": labels})
    parts = {"trnid": np.arange(1, 7), "valid": np.arange(7, 13), "tstid": np.arange(13, 31)}
    scipy.io.savemat(folder / "setid.mat", {name: numbers[None] for name, numbers in parts.items()})


def stanford_cars(folder: Path) -> None:
    names = np.array([["Acura TL Sedan 2012"], ["Ram C/V Cargo Van 2012"]], dtype=object)
    (folder / "devkit").mkdir(parents=True)
    scipy.io.savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names.T})
    for part, place in (("train", folder / "devkit" / "cars_train_annos.mat"),
                        ("test", folder / "cars_test_annos_withlabels.mat")):  # fmt: skip
        rows = []
        for number in range(8):
            picture(folder / f"cars_{part}" / f"{number:05d}.jpg", number + 50 * (part == "test"))
            rows.append((1, 2, 3, 4, 1 + number % 2, f"{number:05d}.jpg"))
        kinds = [(name, object) for name in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")]
        scipy.io.savemat(place, {"annotations": np.array(rows, dtype=kinds)[None]})


def birdsnap(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    species = ["id\tcommon\tscientific\tdir"]
    images = ["url\tmd5\tpath\tspecies_id\tbb_x1"]
    held_out = ["path"]
    for label, name in enumerate(("Blue_Jay", "Ovenbird"), start=1):
        species.append(f"{label}\t{name}\tx\t{name}")
        for number in range(8):
            path = f"{name}/{number}.jpg"
            images.append(f"http://\t0\t{path}\t{label}\t1")
            if number != 7:  # gone from the web
                picture(folder / "images" / path, 100 * label + number)
            if number % 2:
                held_out.append(path)
    for name, lines in (("species", species), ("images", images), ("test_images", held_out)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def imagenet(folder: Path) -> None:
    for part in ("train", "val"):
        for label, name in enumerate(("n01440764", "n01443537")):
            for number in range(4):
                picture(
                    folder / part / name / f"{name}_{part}_{number}.JPEG", 10 * label + number + 100 * (part == "val")
                )


def cifar(folder: Path, names_key: str, labels_key: str, meta: str, batches: dict[str, str]) -> None:
    names = {"apple": 0, "bear": 1}
    folder.mkdir(parents=True)
    (folder / meta).write_bytes(pickle.dumps({names_key.encode(): [name.encode() for name in names]}))
    for number, name in enumerate(batches):
        rng = np.random.default_rng(number)
        data = rng.integers(0, 256, (6, 3, 4, 4), dtype=np.uint8).repeat(8, 2).repeat(8, 3).reshape(6, 3072)
        (folder / name).write_bytes(pickle.dumps({b"data": data, labels_key.encode(): [0, 1] * 3}, protocol=2))


CIFAR10_BATCHES = {"data_batch_1": "train", "data_batch_2": "train", "test_batch": "test"}
MADE: dict[str, tuple[Callable[[Path], None], int, int, int]] = {
    "oxford_iiit_pet": (pets, 10, 10, 2),
    "fgvc_aircraft": (aircraft, 8, 8, 2),
    "food101": (food, 8, 8, 2),
    "flowers102": (flowers, 12, 18, 3),
    "stanford_cars": (stanford_cars, 8, 8, 2),
    "birdsnap": (birdsnap, 8, 6, 2),
    "imagenet": (imagenet, 8, 8, 2),
    "cifar10": (
        lambda folder: cifar(folder / "cifar-10-batches-py", "label_names", "labels", "batches.meta", CIFAR10_BATCHES),
        12, 6, 2,
    ),
    "cifar100": (
        lambda folder: cifar(
            folder / "cifar-100-python", "fine_label_names", "fine_labels", "meta", {"train": "train", "test": "test"}
        ),
        6, 6, 2,
    ),
}  # fmt: skip


def test_every_named_dataset_is_tested() -> None:
    assert MADE.keys() == NAMED.keys()


@pytest.mark.parametrize("name", MADE)
def test_local_copy_is_read_with_official_splits(tmp_path: Path, name: str) -> None:
    make, train, test, classes = MADE[name]
    make(tmp_path / "copy")
    result = scan(f"{name}:{tmp_path / 'copy'}")
    assert (len(result.train), len(result.test), len(result.classes)) == (train, test, classes)
    assert result.bad == ()
    assert not result.val
    split = make_split(result, val_share=0.25)
    assert len(split.test) == test
    assert split.val


def test_sizes_match_paper_table() -> None:
    """Table 4 of Tan & Le 2019, except for the test split of Pets, which its authors give as 3669."""
    sizes = {name: (result.train, result.test, result.classes) for name, result in NAMED.items()}
    assert sizes["food101"] == (75750, 25250, 101)
    assert sizes["fgvc_aircraft"] == (6667, 3333, 100)
    assert sizes["flowers102"] == (2040, 6149, 102)
    assert {name for name, result in NAMED.items() if result.metric == "mean_class_accuracy"} == {
        "oxford_iiit_pet",
        "fgvc_aircraft",
        "flowers102",
    }


def by_class(layout: Layout, role: str) -> list[tuple[str, str]]:
    return sorted(
        (Path(result.path).name, result.class_name.lower().replace("_", " ")) for result in layout.files[role]
    )


def test_pets_aircraft_and_food_match_torchvision(tmp_path: Path) -> None:
    pets(tmp_path / "oxford-iiit-pet")
    aircraft(tmp_path / "fgvc-aircraft-2013b")
    food(tmp_path / "food-101")
    readers = {
        "oxford_iiit_pet": lambda part: datasets.OxfordIIITPet(tmp_path, split={"train": "trainval"}.get(part, part)),
        "fgvc_aircraft": lambda part: datasets.FGVCAircraft(tmp_path, split={"train": "trainval"}.get(part, part)),
        "food101": lambda part: datasets.Food101(tmp_path, split=part),
    }
    folders = {"oxford_iiit_pet": "oxford-iiit-pet", "fgvc_aircraft": "fgvc-aircraft-2013b", "food101": "food-101"}
    for name, read in readers.items():
        layout = find_named(f"{name}:{tmp_path / folders[name]}")
        for part in ("train", "test"):
            theirs = read(part)
            files = getattr(theirs, "_images", None) or getattr(theirs, "_image_files", None)
            named = [theirs.classes[label].lower().replace("_", " ").replace("/", "-") for label in theirs._labels]
            expected = sorted((Path(file).name, label) for file, label in zip(files, named, strict=True))
            assert by_class(layout, part) == expected, name


def test_cifar_pixels_are_exact_and_written_once(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    MADE["cifar10"][0](copy)
    layout = find_named(f"cifar10:{copy}")
    batch = pickle.loads((copy / "cifar-10-batches-py" / "test_batch").read_bytes())
    for number in range(6):
        name = ("apple", "bear")[number % 2]
        image = np.asarray(Image.open(Path(layout.root) / "test" / name / f"{number:05d}.png"))
        assert np.array_equal(image.transpose(2, 0, 1).ravel(), batch[b"data"][number])
    before = sorted((path, path.stat().st_mtime_ns) for path in Path(layout.root).rglob("*.png"))
    assert find_named(f"cifar10:{copy}") == layout
    assert sorted((path, path.stat().st_mtime_ns) for path in Path(layout.root).rglob("*.png")) == before
    assert sorted(path.name for path in copy.rglob("*")) == sorted(
        ["cifar-10-batches-py", "batches.meta", *CIFAR10_BATCHES]
    )


class Trap:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return Path.write_text, (Path("trapped"), "code ran")  # type: ignore[return-value]


@pytest.mark.parametrize("content", [pickle.dumps({b"data": Trap()}), b"", b"no pickle", pickle.dumps([1])])
def test_hostile_batch_is_rejected_and_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    MADE["cifar10"][0](tmp_path / "copy")
    (tmp_path / "copy" / "cifar-10-batches-py" / "data_batch_1").write_bytes(content)
    with pytest.raises(DataError, match="data_batch_1"):
        find_named(f"cifar10:{tmp_path / 'copy'}")
    assert not (tmp_path / "trapped").exists()
    assert not list((tmp_path / "cache").rglob("*.png"))


@pytest.mark.parametrize("name", NAMED)
def test_folder_with_other_files_is_rejected(tmp_path: Path, name: str) -> None:
    (tmp_path / "else").mkdir()
    with pytest.raises(DataError, match=r"holds no"):
        find_named(f"{name}:{tmp_path / 'else'}")
    with pytest.raises(DataError, match="there is no folder"):
        find_named(f"{name}:{tmp_path / 'nothing'}")


def test_missing_listed_images_are_reported(tmp_path: Path) -> None:
    food(tmp_path / "copy")
    (tmp_path / "copy" / "images" / "waffles" / "51.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 16 images .*waffles/51.jpg"):
        find_named(f"food101:{tmp_path / 'copy'}")


@pytest.mark.parametrize("name", NAMED)
def test_offline_message_says_where_to_put_a_copy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TRISCALE_OFFLINE", "1")
    with pytest.raises(DataError, match=rf"{name}:FOLDER"):
        find_named(name)


def test_folder_with_the_name_of_a_dataset_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_named("cifar10")
    result = named_dataset("flowers102:somewhere")
    assert result is not None
    assert result.classes == 102
    (tmp_path / "cifar10").mkdir()
    assert not is_named("cifar10")
    assert named_dataset("photos") is None
