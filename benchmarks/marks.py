"""Marks of models on the same test images, and their paired differences.

Marks are a string with a 1 for each image that is classified correctly, else a 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches
from triscale.jobs.core.run import RunFolder

BATCH = 64


@torch.inference_mode()
def marks_of(folder: RunFolder, model: torch.nn.Module) -> str:
    """Return the marks of a model on a run's test images, by the run's own preprocessing."""
    model.eval().to(memory_format=torch.channels_last)
    split, preprocessing = folder.split, folder.spec.preprocessing
    marks: list[str] = []
    for batch in eval_batches(split.test, split.root, preprocessing, batch=BATCH):
        images = normalize(batch.images, preprocessing).contiguous(memory_format=torch.channels_last)
        marks += ["1" if right else "0" for right in (model(images).argmax(1) == batch.labels).tolist()]
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
