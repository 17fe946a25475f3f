"""The training data are one ordered sequence, for any number of processes and workers and any interruption."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import COLORS, write_classes
from triscale.data.images.transforms import Augmentation
from triscale.data.pipeline.loader import TrainLoader, eval_batches
from triscale.data.pipeline.split import Sample, Split
from triscale.network.contract import Preprocessing
from triscale.training.distributed.micro_batches import share_of

MOST = 23
CONTRACT = Preprocessing(resolution=8)
AUGMENTATION = Augmentation(policy="randaugment", color_jitter=0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_classes(tmp_path_factory.mktemp("ordered") / "images", MOST)


def split(folder: Path, size: int) -> Split:
    names = sorted(COLORS)
    samples = tuple(
        Sample(f"{name}/{number:03d}.png", label) for label, name in enumerate(names) for number in range(MOST)
    )[:size]
    return Split(root=str(folder), classes=tuple(names), train=samples, val=samples, test=samples, seed=0, how="")


def loader(folder: Path, size: int, batch: int, workers: int) -> TrainLoader:
    return TrainLoader(split(folder, size), CONTRACT, AUGMENTATION, batch=batch, seed=5, workers=workers)


@cache
def expected(folder: Path, size: int, batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two epochs as loaded by one process without workers."""
    with loader(folder, size, batch, 0) as loading:
        batches = [found for epoch in range(2) for found in loading.epoch(epoch)]
    return torch.cat([found.images for found in batches]), torch.cat([found.indices for found in batches])


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.stress
def test_pixels_do_not_depend_on_processes_workers_or_resume(folder: Path, data: st.DataObject) -> None:
    size = data.draw(st.integers(9, 2 * MOST), label="images")
    processes = data.draw(st.sampled_from([1, 2, 4]), label="processes")
    shards = processes * data.draw(st.sampled_from([1, 2]), label="shards each")
    batch = data.draw(st.integers(2 * shards, 24), label="batch")
    workers = data.draw(st.integers(0, 4), label="workers")
    pixels, indices = expected(folder, size, batch)
    with loader(folder, size, batch, 0) as loading:
        steps = loading.num_steps
    cut = data.draw(st.integers(0, 2 * steps), label="cut")
    parts = []
    for rank in range(processes):
        result = []
        for first, last in ((0, cut), (cut, 2 * steps)):
            # After the interruption another loader continues, with another number of workers.
            with loader(folder, size, batch, workers if first == 0 else 4 - workers) as loading:
                at = first
                while at < last:
                    epoch, step = divmod(at, steps)
                    share = loading.epoch(
                        epoch, step, lambda count, rank=rank: share_of(rank, processes, shards, count)
                    )
                    for found in share:
                        result.append(found)
                        at += 1
                        if at == last:
                            break
        parts.append(result)
    together = [found for step in zip(*parts, strict=True) for found in step]
    assert torch.equal(torch.cat([found.indices for found in together]), indices)
    assert torch.equal(torch.cat([found.images for found in together]), pixels)
    assert sorted(indices[:size].tolist()) == list(range(size))


@given(st.integers(1, 2 * MOST), st.integers(1, 9), st.integers(1, 5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_distributed_evaluation_counts_each_image_once(folder, size, batch, processes) -> None:
    samples = split(folder, size).test
    dealt = [
        list(eval_batches(samples, folder, CONTRACT, batch=batch, rank=rank, processes=processes))
        for rank in range(processes)
    ]
    assert sorted(index for batches in dealt for found in batches for index in found.indices.tolist()) == list(
        range(size)
    )
