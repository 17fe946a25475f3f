"""The content of a batch depends only on seed, epoch and step."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from triscale.data.images.transforms import Augmentation, eval_transform
from triscale.data.pipeline.loader import Batch, TrainLoader, eval_batches
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import Split, make_split
from triscale.errors import DataError, JobError
from triscale.network.contract import Preprocessing

from .batches import train_batches
from .pictures import write_classes

PREPROCESSING = Preprocessing(resolution=8)
AUGMENTATION = Augmentation(policy="randaugment", color_jitter=0.3, erase=0.3)


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Split:
    return make_split(scan(write_classes(tmp_path_factory.mktemp("images"), {"a": 30, "b": 25})))


def digests(batches: Iterable[Batch]) -> list[str]:
    return [hashlib.sha256(b"".join(part.numpy().tobytes() for part in batch[:3])).hexdigest() for batch in batches]


def one_epoch(split: Split, epoch: int = 1, **options: int) -> list[str]:
    return digests(train_batches(split, PREPROCESSING, AUGMENTATION, batch=9, seed=5, epoch=epoch, **options))


def test_batches_do_not_depend_on_number_of_workers(split: Split) -> None:
    expected = one_epoch(split)
    assert len(expected) == 5
    for workers in (1, 2):
        assert one_epoch(split, workers=workers) == expected


def test_batches_do_not_depend_on_first_step(split: Split) -> None:
    expected = one_epoch(split)
    for first_step in range(6):
        assert one_epoch(split, first_step=first_step) == expected[first_step:]
    assert one_epoch(split, first_step=2, workers=2) == expected[2:]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache_bytes", [0, 5000, 1 << 20])
def test_persistent_workers_and_cache_do_not_change_batches(split: Split, workers: int, cache_bytes: int) -> None:
    with TrainLoader(
        split, PREPROCESSING, AUGMENTATION, batch=9, seed=5, workers=workers, cache_bytes=cache_bytes
    ) as loader:
        assert loader.num_steps == 5
        assert digests(loader.epoch(0)) == one_epoch(split, 0)
        next(loader.epoch(3))  # left after its first batch
        assert digests(loader.epoch(1, 2)) == one_epoch(split, 1)[2:]
        assert digests(loader.epoch(1)) == one_epoch(split, 1)


def test_order_differs_between_epochs_and_seeds(split: Split) -> None:
    result = [digest for epoch in range(3) for digest in one_epoch(split, epoch)]
    assert len(set(result)) == len(result)


@pytest.mark.parametrize("batch", [1, 7, 40, 1000])
def test_every_sample_is_seen_once_per_epoch_with_its_label(split: Split, batch: int) -> None:
    batches = list(train_batches(split, PREPROCESSING, Augmentation(), batch=batch, seed=0, epoch=0))
    indices = torch.cat([part.indices for part in batches]).tolist()
    assert sorted(indices) == list(range(len(split.train)))
    assert indices != sorted(indices)
    assert torch.cat([part.labels for part in batches]).tolist() == [split.train[index].label for index in indices]
    for part in batches:
        assert part.images.dtype == torch.uint8
        assert part.images.shape == (len(part.labels), 3, 8, 8)
        assert part.labels.dtype == part.indices.dtype == torch.int64


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_evaluation_yields_every_sample_once_in_order(split: Split, workers: int) -> None:
    batches = list(eval_batches(split.test, Path(split.root), PREPROCESSING, batch=4, workers=workers))
    assert torch.cat([part.indices for part in batches]).tolist() == list(range(len(split.test)))
    assert torch.cat([part.labels for part in batches]).tolist() == [sample.label for sample in split.test]
    transform = eval_transform(PREPROCESSING)
    with Image.open(Path(split.root) / split.test[3].path) as image:
        assert torch.equal(torch.cat([part.images for part in batches])[3], transform(image.convert("RGB")))


def test_evaluation_of_empty_split_is_empty(split: Split) -> None:
    assert list(eval_batches((), Path(split.root), PREPROCESSING, batch=4)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_global_random_state_is_unchanged(split: Split, workers: int) -> None:
    before = torch.get_rng_state()
    one_epoch(split, workers=workers)
    list(eval_batches(split.val, Path(split.root), PREPROCESSING, batch=4, workers=workers))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("workers", [0, 2])
def test_file_damaged_after_scan_is_reported(tmp_path: Path, workers: int) -> None:
    split = make_split(scan(write_classes(tmp_path, {"a": 6, "b": 6})))
    (tmp_path / split.train[4].path).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        one_epoch(split, workers=workers)
    assert str(caught.value).startswith(f"{tmp_path / split.train[4].path} can no longer be decoded: empty")
    (tmp_path / split.test[0].path).unlink()
    with pytest.raises(DataError, match="No such file"):
        list(eval_batches(split.test, tmp_path, PREPROCESSING, batch=4, workers=workers))


def test_workers_can_fork_after_torch_used_threads(split: Split) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        for _ in range(2):
            images = torch.randn(16, 8, 32, 32, requires_grad=True)
            torch.nn.functional.conv2d(images, torch.randn(8, 8, 3, 3)).sum().backward()
            torch.randn(400, 400) @ torch.randn(400, 400)
            assert one_epoch(split, workers=2) == one_epoch(split)
    finally:
        torch.set_num_threads(before)


def workers_now() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


@pytest.mark.process
def test_workers_ignore_stop_signals(split: Split) -> None:
    before = workers_now()
    with TrainLoader(split, PREPROCESSING, AUGMENTATION, batch=2, seed=5, workers=2) as loader:
        batches = loader.epoch(0)
        result = [next(batches)]
        for pid in workers_now() - before:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        result += list(batches)
        assert len(result) == loader.num_steps
        assert len(workers_now() - before) == 2
    assert workers_now() == before


@pytest.mark.process
def test_garbage_collected_loader_stops_its_workers(split: Split) -> None:
    before = workers_now()
    loader = TrainLoader(split, PREPROCESSING, AUGMENTATION, batch=2, seed=5, workers=2)
    next(loader.epoch(0))
    assert len(workers_now() - before) == 2
    del loader
    gc.collect()
    assert workers_now() == before


def interrupted(split: Split, signal_number: int, *, workers: int = 2, every: int = 7, **options: Any) -> list[str]:
    """Return the digests of an epoch's batches while workers receive signals."""
    before = workers_now()
    with TrainLoader(split, PREPROCESSING, AUGMENTATION, batch=2, seed=5, workers=workers, **options) as loader:
        result = []
        for number, batch in enumerate(loader.epoch(1)):
            result += digests([batch])
            if number % every == 0 and number // every < 2:
                os.kill(sorted(workers_now() - before)[number % workers], signal_number)
    assert workers_now() == before
    return result


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("workers", [1, 3])
def test_killed_or_hung_worker_is_restarted_with_same_batches(split: Split, number: int, workers: int) -> None:
    messages: list[str] = []
    with TrainLoader(split, PREPROCESSING, AUGMENTATION, batch=2, seed=5) as loader:
        expected = digests(loader.epoch(1))
    assert interrupted(split, number, workers=workers, timeout=1.5, on_restart=messages.append) == expected
    why = "was killed by signal 9" if number == signal.SIGKILL else "did not answer for 1.5 s"
    assert messages
    assert all(why in text and "restarted" in text for text in messages)


@pytest.mark.process
def test_worker_killed_between_epochs_is_restarted(split: Split) -> None:
    before = workers_now()
    with TrainLoader(split, PREPROCESSING, AUGMENTATION, batch=9, seed=5, workers=2) as loader:
        assert digests(loader.epoch(0)) == one_epoch(split, 0)
        for worker in workers_now() - before:
            os.kill(worker, signal.SIGKILL)
        with pytest.warns(UserWarning, match="was killed by signal 9 and was restarted; the batches do not change"):
            assert digests(loader.epoch(1)) == one_epoch(split, 1)


@pytest.mark.process
@pytest.mark.parametrize(("number", "why"), [(signal.SIGKILL, "was killed by signal 9"), (signal.SIGSTOP, "0.2 s")])
def test_too_many_worker_restarts_are_an_error(split: Split, number: int, why: str) -> None:
    before = workers_now()

    def attack(loader: TrainLoader) -> None:
        for _ in loader.epoch(0):
            for worker in workers_now() - before:
                os.kill(worker, number)

    timeout = 0.2 if number == signal.SIGSTOP else 60.0
    options = {"batch": 1, "seed": 5, "workers": 1, "timeout": timeout, "on_restart": lambda text: None}
    with TrainLoader(split, PREPROCESSING, AUGMENTATION, **options) as loader:
        with pytest.raises(JobError) as caught:
            attack(loader)
        assert f"{why}, after 3 restarts; use fewer workers if the memory is too small" in str(caught.value)
    assert workers_now() == before


ABANDONED = """
import multiprocessing, pathlib, sys, time
from triscale.data.pipeline.loader import TrainLoader
from triscale.data.pipeline.split import Split
from triscale.data.images.transforms import Augmentation
from triscale.network.contract import Preprocessing

split = Split.load(pathlib.Path(sys.argv[1]))
loaders = [TrainLoader(split, Preprocessing(resolution=8), Augmentation(), batch=1, seed=0, workers=3) for _ in "ab"]
runs = [loader.epoch(0) for loader in loaders]
for run in runs:
    next(run)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(100)
"""


@pytest.mark.process
@pytest.mark.stress
def test_workers_exit_when_parent_is_killed(split: Split, tmp_path: Path) -> None:
    split.save(tmp_path / "split.json")
    command = [sys.executable, "-c", ABANDONED, str(tmp_path / "split.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        pids = child.stdout.readline().split()
        assert len(pids) == 6
        child.kill()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker outlives its program"
        time.sleep(0.05)


PROGRAM = """
import multiprocessing, pathlib, sys
from triscale.data.pipeline.loader import TrainLoader
from triscale.data.pipeline.split import Split
from triscale.data.images.transforms import Augmentation
from triscale.network.contract import Preprocessing

split = Split.load(pathlib.Path(sys.argv[1]))
loader = TrainLoader(split, Preprocessing(resolution=8), Augmentation(), batch=1, seed=0, workers=2)
batches = loader.epoch(0)
next(batches)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
raise SystemExit(3)
"""


@pytest.mark.process
def test_workers_exit_when_program_stops_within_epoch(split: Split, tmp_path: Path) -> None:
    split.save(tmp_path / "split.json")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "split.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    pids = done.stdout.split()
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
