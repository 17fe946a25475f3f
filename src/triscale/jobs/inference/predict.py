"""What a trained network says of images that it has never seen."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from triscale.data.images.color import BadImage
from triscale.data.images.decode import decode
from triscale.data.images.transforms import eval_transform, normalize
from triscale.deploy.contract import read_contract
from triscale.deploy.engines import open_file
from triscale.errors import DataError, RunError
from triscale.jobs.core.run import Run
from triscale.record import Record


class ClassProbability(Record):
    """A class and its probability."""

    name: str
    probability: float


class Prediction(Record):
    """The likeliest classes of one image, best first, or why it could not be read."""

    kind_name: ClassVar[str] = "prediction"
    schema_number: ClassVar[int] = 2

    file: str
    classes: tuple[ClassProbability, ...] = ()
    error: str | None = None


def predict(source: Path, images: tuple[Path, ...], *, top: int = 5) -> Iterator[Prediction]:
    """Yield a prediction for each image, in the order given, folders walked by name.

    ``source`` is a run or a file exported for any engine; both carry their preprocessing and class names.

    Raises:
        RunError: there is no such source.
        UserError: the source is a file for no engine, or the engine is not installed.
        RecordError: the engine cannot read it.
        DataError: an image or folder that does not exist, or no image at all.
    """
    files = files_of(images)
    if source.is_dir() and source.suffix != ".mlpackage":
        run = Run.open(source)
        spec, model = run.spec, run.model()
        preprocessing, class_names = spec.preprocessing, spec.classes

        def logits_of(batch: torch.Tensor) -> np.ndarray:
            with torch.inference_mode():
                return np.asarray(model(batch).float().numpy())
    elif source.exists():
        exported = open_file(source)
        contract = read_contract(exported.contract_text, source)
        preprocessing, class_names = contract.preprocessing, contract.classes

        def logits_of(batch: torch.Tensor) -> np.ndarray:
            return exported(batch.numpy())
    else:
        raise RunError(f"there is no {source}; give a run's folder or an exported file")
    transform = eval_transform(preprocessing)
    for file in files:
        try:
            image = transform(decode(file))
        except BadImage as error:
            yield Prediction(file=str(file), error=str(error))
            continue
        logits = torch.from_numpy(logits_of(normalize(image[None], preprocessing))[0]).double()
        probabilities = logits.softmax(0)
        best = probabilities.argsort(descending=True)[:top]
        classes = tuple(ClassProbability(name=class_names[int(i)], probability=float(probabilities[i])) for i in best)
        yield Prediction(file=str(file), classes=classes)


def files_of(images: Sequence[Path]) -> list[Path]:
    """Return image files in the order given, folders walked by name.

    Raises:
        DataError: one that does not exist, or none at all.
    """
    files = list(_files(images))
    if not files:
        raise DataError(f"no files in {', '.join(map(str, images))}; give images or folders of images")
    return files


def _files(images: Sequence[Path]) -> Iterator[Path]:
    for path in images:
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))
        elif path.exists():
            yield path
        else:
            raise DataError(f"there is no {path}; give images or folders of images")
