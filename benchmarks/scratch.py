"""Trainings from random weights, timed, and the accuracy of several seeds on the same images."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

import triscale as ts
from triscale.training.metrics import wilson


def train_timed(
    images: Path, baseline: str, budget: ts.Budget | str, *, epochs: int, settings: Sequence[str], seed: int, out: Path
) -> tuple[ts.Run, float]:
    """Train a scaled baseline with one thread, and return the run and the seconds of processor time.

    Args:
        images: A folder of images.
        baseline: Name of the baseline.
        budget: What it is scaled to.
        epochs: Number of epochs.
        settings: Other settings of the recipe, as KEY=VALUE.
        seed: Seed of everything.
        out: Folder of the run, which is removed first.
    """
    torch.set_num_threads(1)
    shutil.rmtree(out, ignore_errors=True)
    began = time.process_time()
    run = ts.train(
        images,
        baseline,
        budget=budget,
        from_scratch=True,
        epochs=epochs,
        settings=dict(setting.split("=", 1) for setting in settings),
        seed=seed,
        threads=1,
        workers=0,
        allow_leak=True,
        out=out,
        progress=False,
    )
    return run, time.process_time() - began


def accuracy(rights: Sequence[Sequence[int]]) -> str:
    """Return the accuracy in percent with its interval; an image counts once, with its mean over the seeds.

    Args:
        rights: For each seed a 1 for each image that was classified correctly, else a 0.
    """
    count = len(rights[0])
    correct = statistics.fmean(map(sum, rights))
    low, high = wilson(correct, count)
    return f"{100 * correct / count:5.1f}% ({100 * low:.1f}-{100 * high:.1f}) of {count}"
