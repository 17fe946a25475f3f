"""Read the original layouts of public datasets: the authors' lists of files, labels and splits."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import os
import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from PIL import Image

from triscale.data.sources.source import FoundFile, Layout, find_images
from triscale.data.sources.split_folders import Role
from triscale.errors import DataError
from triscale.places import cache_folder
from triscale.record import atomic_directory

_Files = dict[Role, list[FoundFile]]
T = TypeVar("T")


def imagenet(folder: Path) -> Layout:
    """Read ImageNet: folders ``train`` and ``val`` with one folder per class (WordNet ID); ``val`` is the test set.

    Args:
        folder: The folder, or one up to two levels above it, as for all functions here.

    Raises:
        DataError: The files of the layout are missing, as for all functions here.
    """
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
        is_walked=layout.is_walked,
    )


def food(folder: Path) -> Layout:
    """Read Food-101: ``images/CLASS/NUMBER.jpg``, ``meta/train.txt`` and ``meta/test.txt``."""
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
    """Read Oxford-IIIT Pets: ``images/NAME_NUMBER.jpg``, ``annotations/trainval.txt`` and ``annotations/test.txt``."""
    root = _below(folder, "annotations/trainval.txt")

    def read(name: str) -> list[FoundFile]:
        stems = [line.split()[0] for line in _lines(root / "annotations" / name) if not line.startswith("#")]
        return [FoundFile(f"images/{stem}.jpg", stem.rpartition("_")[0]) for stem in stems]

    return _layout(root, {"train": read("trainval.txt"), "test": read("test.txt")})


def aircraft(folder: Path) -> Layout:
    """Read FGVC Aircraft: ``data/images/NUMBER.jpg`` and ``data/images_variant_{trainval,test}.txt``."""
    root = _below(folder, "data/images_variant_trainval.txt")

    def read(split: str) -> list[FoundFile]:
        lines = _lines(root / "data" / f"images_variant_{split}.txt")
        pairs = [line.partition(" ") for line in lines]
        return [FoundFile(f"data/images/{number}.jpg", variant.replace("/", "-")) for number, _, variant in pairs]

    return _layout(root, {"train": read("trainval"), "test": read("test")})


def flowers(folder: Path) -> Layout:
    """Read Oxford Flowers: ``jpg/image_NUMBER.jpg``, ``imagelabels.mat``, ``setid.mat``; train is train + valid."""
    root = _below(folder, "setid.mat")
    labels = _matlab(root / "imagelabels.mat")["labels"].ravel()
    splits = _matlab(root / "setid.mat")

    def read(*names: str) -> list[FoundFile]:
        numbers = sorted(int(number) for name in names for number in splits[name].ravel())
        return [FoundFile(f"jpg/image_{number:05d}.jpg", f"{int(labels[number - 1]):03d}") for number in numbers]

    return _layout(root, {"train": read("trnid", "valid"), "test": read("tstid")})


def stanford_cars(folder: Path) -> Layout:
    """Read Stanford Cars: ``cars_{train,test}``, ``devkit/cars_train_annos.mat``, ``cars_test_annos_withlabels``."""
    root = _below(folder, "devkit/cars_train_annos.mat")
    names = [str(name.item()) for name in _matlab(root / "devkit" / "cars_meta.mat")["class_names"].ravel()]

    def read(split: str, annotations: Path) -> list[FoundFile]:
        rows = _matlab(annotations)["annotations"].ravel()
        return [
            FoundFile(f"cars_{split}/{row['fname'].item()}", names[int(row["class"].item()) - 1].replace("/", "-"))
            for row in rows
        ]

    test = root / "cars_test_annos_withlabels.mat"
    if not test.is_file():
        test = root / "devkit" / test.name
    return _layout(root, {"train": read("train", root / "devkit" / "cars_train_annos.mat"), "test": read("test", test)})


def birdsnap(folder: Path) -> Layout:
    """Read Birdsnap: ``images.txt``, ``test_images.txt``, ``images/SPECIES/``; missing files are skipped."""
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
    """Read the "python version" of CIFAR, pickled arrays, and write its images as PNG into the cache folder, once.

    A restricted unpickler reads the arrays, so that no content of the files can run code.

    Args:
        folder: The folder, or one up to two levels above it.
        meta: Name of the file with the class names.
        names_key: Key of the class names in it.
        labels_key: Key of the labels in the batches.

    Raises:
        DataError: The files are missing or damaged, or the cache folder cannot be written.
    """
    root = _below(folder, meta)
    train = sorted(root.glob("data_batch_*")) or [root / "train"]
    test = [path for path in (root / "test_batch", root / "test") if path.is_file()]
    if not test or not train[0].is_file():
        raise DataError(
            f"{root} holds {meta} but not the batches for training and test; expected the python version of CIFAR"
        )
    total = hashlib.sha256()
    for path in [root / meta, *train, *test]:
        total.update(hashlib.sha256(path.read_bytes()).digest())
    target = cache_folder() / "sets" / f"{root.name}-{total.hexdigest()[:16]}"
    if not target.is_dir():
        names = [name.decode() for name in _unpickle(root / meta)[names_key]]
        _write_pictures(target, names, {"train": train, "test": test}, labels_key)
    return find_images(target)


def _write_pictures(target: Path, names: list[str], splits: dict[str, list[Path]], labels_key: bytes) -> None:
    try:
        with atomic_directory(target) as temporary:
            for split, batches in splits.items():
                for name in names:
                    (temporary / split / name).mkdir(parents=True)
                number = 0
                for path in batches:
                    batch = _unpickle(path)
                    pixels = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
                    for values, label in zip(pixels, batch[labels_key], strict=True):
                        Image.fromarray(values).save(temporary / split / names[label] / f"{number:05d}.png")
                        number += 1
    except OSError as error:
        if not target.is_dir():  # otherwise another process was faster
            raise DataError(f"cannot write the images to {target} ({error.strerror}); free some space there") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Reads NumPy arrays, numbers, strings and containers, and refuses everything else."""

    _ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which is not allowed")
        return super().find_class(module, name)


def _unpickle(path: Path) -> dict[bytes, Any]:
    try:
        batch = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError, IndexError) as error:
        raise DataError(f"{path} is not a readable CIFAR batch ({error}); download it again") from error
    if not isinstance(batch, dict):
        raise DataError(f"{path} is not a CIFAR batch; download it again")
    return batch


def _below(folder: Path, marker: str) -> Path:
    """Return the folder that holds a file of the layout: the given one, or one up to two levels below it."""
    candidates = [folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))]
    for candidate in candidates:
        if (candidate / marker).exists():
            return candidate
    raise DataError(f"{folder} holds no {marker}; expected the original layout of the dataset")


def _layout(root: Path, files: _Files) -> Layout:
    """Return the layout of listed files, and refuse missing ones."""
    missing = [file.path for role in files for file in files[role] if not os.path.isfile(root / file.path)]  # noqa: PTH113
    if missing:
        total = sum(map(len, files.values()))
        raise DataError(
            f"{len(missing)} of {total} images listed in {root} are missing ({', '.join(missing[:3])}); "
            "download the dataset again"
        )
    return Layout(
        root=str(root),
        classes={role: tuple(sorted({name for file in files[role] for name in file.class_names})) for role in files},
        files={role: tuple(sorted(in_role)) for role, in_role in files.items()},
        stray=(),
    )


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in _read(path, lambda: path.read_text(encoding="utf-8")).splitlines() if line.strip()]


def _table(path: Path) -> Iterable[dict[str, str]]:
    text = _read(path, lambda: path.read_text(encoding="utf-8"))
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def _matlab(path: Path) -> dict[str, Any]:
    matlab: Any = importlib.import_module("scipy.io")
    variables: dict[str, Any] = _read(path, lambda: matlab.loadmat(path))
    return variables


def _read(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}); download the dataset again") from error
