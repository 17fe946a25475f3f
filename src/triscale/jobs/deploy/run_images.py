"""Images of a run as normalized arrays, for calibration, checks and evaluation of files."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.jobs.core.run import RunFolder

BATCH = 8


def evenly_spaced(samples: tuple[Sample, ...], number: int) -> tuple[Sample, ...]:
    """Return up to ``number`` samples at even intervals."""
    stride = max(1, len(samples) // number)
    return samples[::stride][:number]


def images_of(run: RunFolder, samples: tuple[Sample, ...]) -> NDArray[np.float32]:
    """Return normalized images of a run ``[N, 3, S, S]``; N may be 0."""
    none = np.zeros((0, *run.spec.preprocessing.input_shape), dtype=np.float32)
    return np.concatenate([none, *batches_of(run, samples)])


def batches_of(run: RunFolder, samples: tuple[Sample, ...]) -> Iterator[NDArray[np.float32]]:
    """Yield batches of normalized images of a run, each ``[N, 3, S, S]``."""
    spec = run.spec
    for batch in eval_batches(samples, run.split.root, spec.preprocessing, batch=BATCH):
        with torch.inference_mode():
            yield normalize(batch.images, spec.preprocessing).numpy()
