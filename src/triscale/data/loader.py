"""Samples -> batches, whose content depends on seed, epoch and index alone, whatever the number of workers."""

from __future__ import annotations

import atexit
import signal
import sys
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from triscale.data.decode import BadImage, decode
from triscale.data.order import batch_slices, epoch_order, sample_seed
from triscale.data.split import Sample, Split
from triscale.data.store import open_store
from triscale.data.transforms import Augmentation, Transform, eval_transform, train_transform
from triscale.errors import DataError, JobError
from triscale.network.contract import Preprocessing

CACHE_BYTES = 256 << 20
"""How much memory decoded images may take, over all workers."""

_PATIENCE = 600.0  # seconds that a batch of a worker is waited for


class Batch(NamedTuple):
    """Some samples on the CPU.

    Attributes:
        images: uint8 ``[N, 3, resolution, resolution]``, not normalized.
        labels: int64 ``[N]``.
        indices: int64 ``[N]``, the samples' places in the part of the split that they come from.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class TrainLoader:
    """The training images of a split, epoch after epoch; its workers stay until it is closed.

    Every epoch holds every sample exactly once, in batches that differ in size by one at most. What a batch holds is a
    function of seed, epoch and step; neither the number of workers nor where an epoch is begun changes a bit of it.

    Args:
        split: gives the samples.
        preprocessing: gives the resolution and the interpolation.
        augmentation: how the images are varied.
        batch: greatest number of samples in a batch.
        seed: 0 or more; decides about order and augmentation.
        workers: processes that decode; with 0 it is done in this one.
        pin: whether batches lie in page-locked memory, from which a GPU copies faster.
        cache_bytes: how much memory decoded images may take, over all workers.
    """

    def __init__(
        self,
        split: Split,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        *,
        batch: int,
        seed: int,
        workers: int = 0,
        pin: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._size, self._batch, self._seed = len(split.train), batch, seed
        transform = train_transform(preprocessing, augmentation)
        images = _Images(split.train, split.root, transform, seed, cache_bytes // max(workers, 1))
        self._pool = _Pool(images, workers, pin)

    @property
    def num_steps(self) -> int:
        """The number of batches of an epoch."""
        return len(batch_slices(self._size, self._batch))

    def count(self, step: int) -> int:
        """Return the number of samples of a batch of any epoch."""
        return len(range(self._size)[batch_slices(self._size, self._batch)[step]])

    def indices(self, epoch: int, step: int) -> list[int]:
        """Return the places in the split of a batch's samples."""
        order = epoch_order(self._size, self._seed, epoch)
        return [int(index) for index in order[batch_slices(self._size, self._batch)[step]]]

    def epoch(self, epoch: int, first_step: int = 0, share: Callable[[int], slice] = slice) -> Iterator[Batch]:
        """Yield the batches of an epoch, counted from 0, from a step on, counted from 0.

        Beginning another epoch ends the one before.

        Args:
            epoch: counted from 0.
            first_step: counted from 0.
            share: from the number of samples of a batch to the part of it that this process is given; by default all.

        Raises:
            DataError: a file of the split can no longer be read or decoded.
            JobError: a worker was ended from outside, or did not answer in time; torch may raise the former as a
                RuntimeError of its own, wherever the main thread is.
        """
        order = epoch_order(self._size, self._seed, epoch).tolist()
        steps = batch_slices(self._size, self._batch)[first_step:]
        return self._pool.run([[(epoch, index) for index in order[step][share(len(order[step]))]] for step in steps])

    def close(self) -> None:
        """End the workers; the loader cannot be used any more."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def train_batches(
    split: Split,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    *,
    batch: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of one epoch from a step on; see :class:`TrainLoader`, which is faster for many epochs.

    Raises:
        DataError: a file of the split can no longer be read or decoded.
        JobError: a worker was ended from outside, or did not answer in time.
    """
    with TrainLoader(
        split, preprocessing, augmentation, batch=batch, seed=seed, workers=workers, pin=pin, cache_bytes=0
    ) as loader:
        yield from loader.epoch(epoch, first_step)


def eval_batches(
    samples: Sequence[Sample],
    root: str | Path,
    preprocessing: Preprocessing,
    *,
    batch: int,
    workers: int = 0,
    pin: bool = False,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[Batch]:
    """Yield all samples once, in their order, without chance.

    Args:
        samples: a part of a split; the batches' indices are places in it.
        root: the root of the split.
        preprocessing: how an image becomes input.
        batch: greatest number of samples in a batch.
        workers: processes that decode; with 0 it is done in this one.
        pin: whether batches lie in page-locked memory, from which a GPU copies faster.
        rank: number of this process, from 0.
        processes: number of processes that share the batches; each has every so manieth of them.

    Raises:
        DataError: a file can no longer be read or decoded.
        JobError: a worker was ended from outside, or did not answer in time.
    """
    pool = _Pool(_Images(samples, str(root), eval_transform(preprocessing), None, 0), workers, pin)
    try:
        yield from pool.run(
            [
                [(0, index) for index in range(len(samples))[step]]
                for step in batch_slices(len(samples), batch)[rank::processes]
            ]
        )
    finally:
        pool.close()


_Key = tuple[int, int]  # epoch and index


class _Images(Dataset[tuple[Tensor, int, int] | str]):
    """What the workers hold. A file that fails becomes a message, as exceptions lose their form between processes."""

    def __init__(
        self, samples: Sequence[Sample], root: str, transform: Transform, seed: int | None, cache_bytes: int
    ) -> None:
        self._paths = [sample.path for sample in samples]
        self._labels = [sample.label for sample in samples]
        self._store, self._transform, self._seed = open_store(root), transform, seed
        self._cache: dict[int, Image.Image] = {}
        self._room = cache_bytes

    def __getitem__(self, key: _Key) -> tuple[Tensor, int, int] | str:
        epoch, index = key
        try:
            image = self._decoded(index)
        except BadImage as error:
            path = self._store.place(self._paths[index])
            return f"{path} could be decoded before and cannot now: {error}; put it back, or scan the images anew"
        except DataError as error:  # an object that is out of reach
            return str(error)
        if self._seed is None:
            return self._transform(image), self._labels[index], index
        state = torch.get_rng_state()
        try:
            torch.default_generator.manual_seed(sample_seed(self._seed, epoch, index))
            return self._transform(image), self._labels[index], index
        finally:
            torch.set_rng_state(state)

    def _decoded(self, index: int) -> Image.Image:
        image = self._cache.get(index)
        if image is None:
            image = decode(self._store.read(self._paths[index]))
            size = 4 * image.width * image.height  # Pillow keeps RGB in 4 bytes
            if size <= self._room:
                self._room -= size
                self._cache[index] = image
        return image


_Loaded = tuple[Tensor, NDArray[np.int64], NDArray[np.int64]]


def _collate(items: Sequence[tuple[Tensor, int, int] | str]) -> _Loaded | str:
    """Stack samples; labels and indices travel as arrays, since every tensor from a worker holds a file open."""
    for item in items:
        if isinstance(item, str):
            return item
    images, labels, indices = zip(*items, strict=True)
    return torch.stack(images), np.array(labels, dtype=np.int64), np.array(indices, dtype=np.int64)


class _Given:
    """The batches of the present run, which the DataLoader asks for when an iteration begins."""

    def __init__(self) -> None:
        self.batches: list[list[_Key]] = []

    def __iter__(self) -> Iterator[list[_Key]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Pool:
    """A DataLoader whose batches are given for each run, and whose workers end when it is closed."""

    def __init__(self, images: _Images, workers: int, pin: bool) -> None:
        self._given = _Given()
        self._running: weakref.ref[Generator[Batch]] | None = None
        self._loader: DataLoader[Any] | None = DataLoader(
            images,
            batch_sampler=self._given,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin,
            timeout=_PATIENCE if workers else 0,
            worker_init_fn=_ignore_signals,
            # A forked worker begins in milliseconds; a new interpreter would import torch first, for seconds.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            persistent_workers=workers > 0,
            generator=torch.Generator(),  # or else each run would draw from the global one
        )
        _open_pools.add(self)

    def run(self, batches: list[list[_Key]]) -> Iterator[Batch]:
        self._stop()
        generator = self._iterate(batches)
        self._running = weakref.ref(generator)
        return generator

    def close(self) -> None:
        self._stop()
        loader, self._loader = self._loader, None
        iterator = loader._iterator if loader is not None else None
        # Told by name: the traceback of an exception may keep the iterator, and with it the workers, alive.
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()
            for worker in iterator._workers:
                if worker.is_alive():
                    worker.kill()

    def _stop(self) -> None:
        running = self._running() if self._running else None
        if running is not None:
            running.close()

    def _iterate(self, batches: list[list[_Key]]) -> Generator[Batch]:
        if self._loader is None:
            raise RuntimeError("this loader is closed")
        self._given.batches = batches
        iterator = _begin(self._loader)
        for _ in batches:
            try:
                loaded: _Loaded | str = next(iterator)
            except (RuntimeError, OSError, EOFError) as error:
                raise JobError(f"a data worker failed ({error}); with fewer workers, memory lasts longer") from error
            if isinstance(loaded, str):
                raise DataError(loaded)
            images, labels, indices = loaded
            yield Batch(images, torch.from_numpy(labels), torch.from_numpy(indices))


def _begin(loader: DataLoader[Any]) -> Iterator[Any]:
    """Begin an iteration; workers that this starts are born with the signals blocked that they are going to ignore."""
    if not loader.num_workers or loader._iterator is not None or not hasattr(signal, "pthread_sigmask"):
        return iter(loader)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_signals(_: int) -> None:
    """Keep a worker alive when its whole process group is told to stop: the parent still needs batches to save."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


_open_pools: weakref.WeakSet[_Pool] = weakref.WeakSet()


@atexit.register
def _close_pools() -> None:
    # At the interpreter's end, multiprocessing sends SIGTERM to workers left over and waits for them without limit.
    for pool in list(_open_pools):
        pool.close()
