"""Marks of models on the same test images, and their paired differences.

Marks are a string with a 1 for each image that is classified correctly, else a 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches
from triscale.deploy.engines import Engine
from triscale.jobs.core.run import RunFolder

BATCH = 64


@torch.inference_mode()
def marks_of(folder: RunFolder, model: torch.nn.Module) -> str:
    """Return the marks of a model on a run's test images, by the run's own preprocessing."""
    model.eval().to(memory_format=torch.channels_last)
    return _marks(folder, lambda images: model(images.contiguous(memory_format=torch.channels_last)))


def marks_of_file(folder: RunFolder, engine: Engine, file: Path) -> str:
    """Return the marks of an exported file on a run's test images."""
    session = engine.open(file, 1)
    return _marks(folder, lambda images: torch.from_numpy(session(images.numpy())))


def _marks(folder: RunFolder, logits: Callable[[torch.Tensor], torch.Tensor]) -> str:
    split, preprocessing = folder.split, folder.spec.preprocessing
    marks: list[str] = []
    for batch in eval_batches(split.test, split.root, preprocessing, batch=BATCH):
        found = logits(normalize(batch.images, preprocessing)).argmax(1)
        marks += ["1" if right else "0" for right in (found == batch.labels).tolist()]
    return "".join(marks)


def share(marks: str) -> float:
    """Return the accuracy."""
    return marks.count("1") / len(marks)


def paired(pairs: Sequence[tuple[str, str]]) -> tuple[float, float]:
    """Return the mean of first minus second in points over the images of all pairs, and half of its 95% interval."""
    differences = np.array([int(a) - int(b) for one, other in pairs for a, b in zip(one, other, strict=True)])
    if not len(differences):
        return float("nan"), float("nan")
    return 100 * float(differences.mean()), 196 * float(differences.std()) / len(differences) ** 0.5
