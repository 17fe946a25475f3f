"""The layouts in which the authors of named sets give them out: lists of files, labels and parts."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from PIL import Image

from triscale.data.sources.source import FoundFile, Layout, Role, find_images
from triscale.errors import DataError
from triscale.places import cache_folder

_Files = dict[Role, list[FoundFile]]
T = TypeVar("T")


def imagenet(folder: Path) -> Layout:
    """Folders ``train`` and ``val`` that hold one for each class (WordNet number); the latter is the test."""
    root = _below(folder, "train")
    layout = find_images(root)
    if "val" not in layout.files or "test" in layout.files:
        return layout
    renamed: dict[Role, Role] = {"train": "train", "val": "test"}
    return Layout(
        root=layout.root,
        classes={renamed[role]: names for role, names in layout.classes.items()},
        files={renamed[role]: found for role, found in layout.files.items()},
        stray=layout.stray,
        unusable=layout.unusable,
    )


def food(folder: Path) -> Layout:
    """``images/CLASS/NUMBER.jpg``, ``meta/train.txt`` and ``meta/test.txt``."""
    root = _below(folder, "meta/train.txt")
    return _layout(
        root,
        {
            role: [
                FoundFile(f"images/{line}.jpg", line.partition("/")[0])
                for line in _lines(root / "meta" / f"{role}.txt")
            ]
            for role in ("train", "test")
        },
    )


def pets(folder: Path) -> Layout:
    """``images/NAME_NUMBER.jpg``, ``annotations/trainval.txt`` and ``annotations/test.txt``."""
    root = _below(folder, "annotations/trainval.txt")

    def read(name: str) -> list[FoundFile]:
        stems = [line.split()[0] for line in _lines(root / "annotations" / name) if not line.startswith("#")]
        return [FoundFile(f"images/{stem}.jpg", stem.rpartition("_")[0]) for stem in stems]

    return _layout(root, {"train": read("trainval.txt"), "test": read("test.txt")})


def aircraft(folder: Path) -> Layout:
    """``data/images/NUMBER.jpg``, ``data/images_variant_trainval.txt`` and ``data/images_variant_test.txt``."""
    root = _below(folder, "data/images_variant_trainval.txt")

    def read(part: str) -> list[FoundFile]:
        lines = _lines(root / "data" / f"images_variant_{part}.txt")
        pairs = [line.partition(" ") for line in lines]
        return [FoundFile(f"data/images/{number}.jpg", variant.replace("/", "-")) for number, _, variant in pairs]

    return _layout(root, {"train": read("trainval"), "test": read("test")})


def flowers(folder: Path) -> Layout:
    """``jpg/image_NUMBER.jpg``, ``imagelabels.mat`` and ``setid.mat``; training is its training and validation part."""
    root = _below(folder, "setid.mat")
    labels = _matlab(root / "imagelabels.mat")["labels"].ravel()
    parts = _matlab(root / "setid.mat")

    def read(*names: str) -> list[FoundFile]:
        numbers = sorted(int(number) for name in names for number in parts[name].ravel())
        return [FoundFile(f"jpg/image_{number:05d}.jpg", f"{int(labels[number - 1]):03d}") for number in numbers]

    return _layout(root, {"train": read("trnid", "valid"), "test": read("tstid")})


def stanford_cars(folder: Path) -> Layout:
    """``cars_train``, ``cars_test``, ``devkit/cars_train_annos.mat`` and ``cars_test_annos_withlabels.mat``."""
    root = _below(folder, "devkit/cars_train_annos.mat")
    names = [str(name.item()) for name in _matlab(root / "devkit" / "cars_meta.mat")["class_names"].ravel()]

    def read(part: str, annotations: Path) -> list[FoundFile]:
        rows = _matlab(annotations)["annotations"].ravel()
        return [
            FoundFile(f"cars_{part}/{row['fname'].item()}", names[int(row["class"].item()) - 1].replace("/", "-"))
            for row in rows
        ]

    test = root / "cars_test_annos_withlabels.mat"
    if not test.is_file():
        test = root / "devkit" / test.name
    return _layout(root, {"train": read("train", root / "devkit" / "cars_train_annos.mat"), "test": read("test", test)})


def birdsnap(folder: Path) -> Layout:
    """``images.txt``, ``test_images.txt``, ``images/SPECIES/``; files gone from the web are left out."""
    root = _below(folder, "images.txt")
    species = {row["id"]: row["dir"] for row in _table(root / "species.txt")}
    held_out = {row["path"] for row in _table(root / "test_images.txt")}
    files: _Files = {"train": [], "test": []}
    for row in _table(root / "images.txt"):
        if (root / "images" / row["path"]).is_file():
            role: Role = "test" if row["path"] in held_out else "train"
            files[role].append(FoundFile(f"images/{row['path']}", species[row["species_id"]]))
    return _layout(root, files)


def cifar(folder: Path, meta: str, names_key: bytes, labels_key: bytes) -> Layout:
    """The "python version": pickles of arrays; the images are written as PNG into the cache folder, once.

    The pickles are read by an interpreter that knows arrays and nothing else: none of their content can run code.
    """
    root = _below(folder, meta)
    train = sorted(root.glob("data_batch_*")) or [root / "train"]
    test = [path for path in (root / "test_batch", root / "test") if path.is_file()]
    if not test or not train[0].is_file():
        raise DataError(f"{root} holds {meta} but not the batches for training and test; expected the python version")
    total = hashlib.sha256()
    for path in [root / meta, *train, *test]:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    place = cache_folder() / "sets" / f"{root.name}-{total.hexdigest()[:16]}"
    if not place.is_dir():
        names = [name.decode() for name in _unpickle(root / meta)[names_key]]
        _write_pictures(place, names, {"train": train, "test": test}, labels_key)
    return find_images(place)


def _write_pictures(place: Path, names: list[str], parts: dict[str, list[Path]], labels_key: bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}."))
    try:
        for part, batches in parts.items():
            for name in names:
                (aside / part / name).mkdir(parents=True)
            number = 0
            for path in batches:
                batch = _unpickle(path)
                pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                for values, label in zip(pixels, batch[labels_key], strict=True):
                    Image.fromarray(values).save(aside / part / names[label] / f"{number:05d}.png")
                    number += 1
        aside.chmod(0o755)
        aside.replace(place)
    except OSError as error:
        if not place.is_dir():  # or else another process was faster
            raise DataError(f"the images cannot be written to {place} ({error.strerror}); make room there") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class _Arrays(pickle.Unpickler):
    """Reads arrays, numbers, texts and containers."""

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def _unpickle(path: Path) -> dict[bytes, Any]:
    try:
        found = _Arrays(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError, IndexError) as error:
        raise DataError(f"{path} is no batch of CIFAR that can be read ({error}); get it anew") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} holds no batch of CIFAR; get it anew")
    return found


def _below(folder: Path, marker: str) -> Path:
    """Return the folder that holds a file of the layout: the one given, or one up to two levels below it."""
    places = [folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))]
    for place in places:
        if (place / marker).exists():
            return place
    raise DataError(f"{folder} holds no {marker}; expected the layout in which the authors give the set out")


def _layout(root: Path, files: _Files) -> Layout:
    """Return the layout of listed files.

    Raises:
        DataError: files that the lists name are missing.
    """
    missing = [found.path for role in files for found in files[role] if not os.path.isfile(root / found.path)]  # noqa: PTH113
    if missing:
        total = sum(map(len, files.values()))
        raise DataError(
            f"{len(missing)} of {total} images that the lists in {root} name are missing ({', '.join(missing[:3])}); "
            "get the set anew"
        )
    return Layout(
        root=str(root),
        classes={role: tuple(sorted({found.class_name for found in files[role]})) for role in files},
        files={role: tuple(sorted(found)) for role, found in files.items()},
        stray=(),
    )


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _read(path, lambda: path.read_text(encoding="utf-8")).splitlines() if line.strip()]


def _table(path: Path) -> Iterable[dict[str, str]]:
    text = _read(path, lambda: path.read_text(encoding="utf-8"))
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def _matlab(path: Path) -> dict[str, Any]:
    matlab: Any = importlib.import_module("scipy.io")
    found: dict[str, Any] = _read(path, lambda: matlab.loadmat(path))
    return found


def _read(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); get the set anew") from error
