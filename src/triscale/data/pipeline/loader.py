"""Load samples in batches whose content depends only on seed, epoch and index, not on the number of workers."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triscale.data.images.bands import AnyImage, Bands
from triscale.data.images.color import BadImage
from triscale.data.images.decode import NO_LIMITS, LazyImage, open_image
from triscale.data.images.transforms import (
    Augmentation,
    DecodeJpeg,
    TrainTransform,
    Transform,
    eval_transform,
    train_transform,
)
from triscale.data.pipeline.order import batch_slice, drawn_order, epoch_order, is_replayed, num_batches, sample_seed
from triscale.data.pipeline.shared_arrays import StringArray
from triscale.data.pipeline.split import Sample, Split
from triscale.data.pipeline.workers import BATCH_TIMEOUT_SECONDS, DecodeTask, Workers
from triscale.data.sources.store import open_store
from triscale.errors import DataError
from triscale.network.contract import Preprocessing
from triscale.network.input_size import ImageShape

CACHE_BYTES = 256 << 20
"""Maximum memory for decoded images, over all workers."""


class Batch(NamedTuple):
    """A batch of N samples on the CPU.

    Attributes:
        images: uint8 ``[N, channels, height, width]``, not normalized.
        labels: int64 ``[N]``; ``[N, K]``, padded with -1, if images have any number of labels.
        indices: int64 ``[N]``, the positions of the samples in their split.
        again: The same batch, read and decoded a second time, for a step that is replayed; None for others.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    again: Batch | None = None


class TrainLoader:
    """Load the training images of a split, epoch after epoch; the workers stay until the loader is closed.

    Every epoch contains every sample exactly once, unless weights are given, in batches whose sizes differ by at most
    one. The content of a batch is a function of seed, epoch and step: neither the number of workers nor the first step
    of an epoch changes a bit.

    Args:
        split: Gives the samples.
        preprocessing: Gives the resolution and the interpolation.
        augmentation: How the images are augmented.
        batch: Maximum number of samples in a batch.
        seed: 0 or more; determines order and augmentation.
        workers: Number of worker processes; with 0, this process decodes.
        pin: Whether to return batches in page-locked memory, from which a GPU copies faster.
        cache_bytes: Maximum memory for decoded images, over all workers.
        timeout: Seconds to wait for a batch before its worker is killed and restarted.
        on_restart: Called with a message for every restarted worker; by default it is a warning.
        weights: How often each sample is drawn, relative to others, see
            :func:`triscale.data.pipeline.order.drawn_order`; by default every sample once per epoch.
        decode_jpeg: Decodes training images instead of Pillow, such as
            :func:`triscale.data.images.transforms.torchcodec_decoder`; some pixels then differ by one level.
        replay_every: Batches of steps that are replayed are loaded twice, see
            :func:`triscale.data.pipeline.order.is_replayed`; by default none are.

    Example:
        >>> import tempfile
        >>> from triscale.data.checks.duplicates import Duplicates
        >>> from triscale.data.pipeline.scan import scan
        >>> from triscale.data.pipeline.split import make_split
        >>> from triscale.data.sources.digits import write_digits
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     split = make_split(scan(write_digits(Path(folder) / "digits")), duplicates=Duplicates())
        ...     with TrainLoader(split, Preprocessing(resolution=32), Augmentation(), batch=64, seed=0) as loader:
        ...         batch = next(loader.epoch(0))
        >>> tuple(batch.images.shape), loader.num_steps
        ((61, 3, 32, 32), 21)
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
        timeout: float = BATCH_TIMEOUT_SECONDS,
        on_restart: Callable[[str], None] | None = None,
        decode_jpeg: DecodeJpeg | None = None,
        weights: NDArray[np.float64] | None = None,
        replay_every: int = 0,
    ) -> None:
        self._size, self._batch, self._seed, self._weights = len(split.train), batch, seed, weights
        self._replay_every = replay_every
        transform = train_transform(preprocessing, augmentation, decode_jpeg)
        images = _Images(split.train, split.root, transform, seed, cache_bytes // max(workers, 1), preprocessing)
        self._pool = _Pool(images, workers, pin, preprocessing.input_shape, batch, timeout, on_restart)

    @property
    def num_steps(self) -> int:
        """The number of batches in an epoch."""
        return num_batches(self._size, self._batch)

    def count(self, step: int) -> int:
        """Return the number of samples in a batch, the same in every epoch."""
        return len(range(self._size)[batch_slice(self._size, self._batch, range(self.num_steps)[step])])

    def indices(self, epoch: int, step: int) -> list[int]:
        """Return the positions of a batch's samples in the split."""
        order = self._order(epoch) % self._size
        indices: list[int] = order[batch_slice(self._size, self._batch, range(self.num_steps)[step])].tolist()
        return indices

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if self._weights is None:
            return epoch_order(self._size, self._seed, epoch)
        return drawn_order(self._weights, self._seed, epoch)

    def epoch(self, epoch: int, first_step: int = 0, share: Callable[[int], slice] = slice) -> Iterator[Batch]:
        """Yield the batches of an epoch; starting another epoch ends the previous one.

        Args:
            epoch: Counted from 0.
            first_step: First batch to yield, counted from 0.
            share: From the size of a batch to the slice of it that this process loads; by default all.

        Raises:
            DataError: A file of the split can no longer be read or decoded.
            JobError: Workers were killed or hung more than
                :data:`triscale.data.pipeline.workers.MAX_RESTARTS` times.
        """
        steps: Sequence[int] = range(self.num_steps)[first_step:]
        if self._replay_every:
            before = epoch * self.num_steps
            steps = [s for s in steps for _ in range(1 + is_replayed(before + s, self._replay_every))]
        return self._pool.run(_Tasks(self._order(epoch), self._batch, epoch, steps, share))

    def close(self) -> None:
        """Stop the workers; the loader cannot be used afterwards."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


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
    """Yield all samples once, in order, without augmentation.

    Args:
        samples: The samples of one split; the indices of the batches refer to them.
        root: The root of the split.
        preprocessing: How an image becomes network input.
        batch: Maximum number of samples in a batch.
        workers: Number of worker processes; with 0, this process decodes.
        pin: Whether to return batches in page-locked memory, from which a GPU copies faster.
        rank: Rank of this process, from 0.
        processes: Number of processes that share the batches. With N processes, each receives every N-th batch.

    Raises:
        DataError: A file can no longer be read or decoded.
        JobError: Workers were killed or hung too often.
    """
    images = _Images(samples, str(root), eval_transform(preprocessing), None, 0, preprocessing)
    pool = _Pool(images, workers, pin, preprocessing.input_shape, batch)
    try:
        steps = range(num_batches(len(samples), batch))[rank::processes]
        yield from pool.run(_Tasks(np.arange(len(samples), dtype=np.int64), batch, 0, steps, slice))
    finally:
        pool.close()


class _Tasks(Sequence[DecodeTask]):
    """The batches of an epoch, created on demand: a list of all indices would take 40 bytes per sample.

    Of a step that is named twice in a row, the first batch is fresh.
    """

    def __init__(
        self, order: NDArray[np.int64], batch: int, epoch: int, steps: Sequence[int], share: Callable[[int], slice]
    ) -> None:
        self._order, self._batch, self._epoch, self._steps, self._share = order, batch, epoch, steps, share

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, number: int) -> DecodeTask: ...
    @overload
    def __getitem__(self, number: slice) -> _Tasks: ...
    def __getitem__(self, number: int | slice) -> DecodeTask | _Tasks:
        if isinstance(number, slice):
            return _Tasks(self._order, self._batch, self._epoch, self._steps[number], self._share)
        indices = self._order[batch_slice(len(self._order), self._batch, self._steps[number])].tolist()
        fresh = 0 <= number < len(self) - 1 and self._steps[number] == self._steps[number + 1]
        return DecodeTask(self._epoch, indices[self._share(len(indices))], fresh)


class _Images:
    """Loads images in any process; a failure becomes a message, which can be sent between processes."""

    def __init__(
        self,
        samples: Sequence[Sample],
        root: str,
        transform: TrainTransform | Transform,
        seed: int | None,
        cache_bytes: int,
        preprocessing: Preprocessing,
    ) -> None:
        self._bit_depth, self._channels = preprocessing.bit_depth, preprocessing.channels
        self._paths = StringArray(sample.path for sample in samples)
        self.labels = torch.from_numpy(label_array(samples))
        self._store, self._transform, self._seed = open_store(root), transform, seed
        self._cache: dict[int, AnyImage] = {}
        self._room = cache_bytes

    def __call__(self, epoch: int, number: int, *, fresh: bool = False) -> Tensor | str:
        index = number % len(self._paths)  # a sample that is drawn several times has several numbers
        state = None if self._seed is None else torch.get_rng_state()
        try:
            file = self._read(index) if fresh else self._open(index)
            if self._seed is None or not isinstance(self._transform, TrainTransform):
                return self._transform(file.load())
            torch.default_generator.manual_seed(sample_seed(self._seed, epoch, number))
            return self._transform(file)
        except BadImage as error:
            path = self._store.location(self._paths[index])
            return f"{path} can no longer be decoded: {error}; put it back, or scan the images again"
        except DataError as error:  # a remote object that cannot be reached
            return str(error)
        finally:
            if state is not None:
                torch.set_rng_state(state)

    def _open(self, index: int) -> LazyImage:
        """Return an image, and cache it decoded unless some crops decode it at a reduced size.

        The content of the cache depends on the number of workers; the pixels of an image must not.
        """
        cached = self._cache.get(index)
        if cached is not None:
            return LazyImage(cached)
        file = self._read(index)
        pixel_bytes = 4 if self._channels == 3 else self._channels  # Pillow keeps RGB in 4 bytes
        size = pixel_bytes * file.size[0] * file.size[1]
        if size > self._room or (isinstance(self._transform, TrainTransform) and self._transform.needs_file(file)):
            return file
        self._room -= size
        image = file.load()
        if not isinstance(image, Bands):
            image = image.copy()  # without the encoded file
        self._cache[index] = image
        return LazyImage(image)

    def _read(self, index: int) -> LazyImage:
        return open_image(self._store.read(self._paths[index], NO_LIMITS), NO_LIMITS, self._bit_depth, self._channels)


def label_array(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Return the classes of samples ``[N]``, or their labels ``[N, K]``, padded with -1, if they have any number.

    Example:
        >>> label_array([Sample("1.png", 2), Sample("2.png", 0)]).tolist()
        [2, 0]
        >>> label_array([Sample("1.png", (0, 2)), Sample("2.png", ())]).tolist()
        [[0, 2], [-1, -1]]
    """
    if not samples or isinstance(samples[0].label, int):
        return np.array([sample.label for sample in samples], dtype=np.int64)
    width = max(1, *(len(sample.labels) for sample in samples))
    rows = np.full((len(samples), width), -1, dtype=np.int64)
    for row, sample in zip(rows, samples, strict=True):
        row[: len(sample.labels)] = sample.labels
    return rows


class _Pool:
    """Makes batches in this process or in workers, which stop when it is closed."""

    def __init__(
        self,
        images: _Images,
        workers: int,
        pin: bool,
        input_shape: ImageShape,
        batch: int,
        timeout: float = BATCH_TIMEOUT_SECONDS,
        on_restart: Callable[[str], None] | None = None,
    ) -> None:
        self._images, self._pin, self._shape, self._closed = images, pin, input_shape, False
        self._running: weakref.ref[Generator[Batch]] | None = None
        self._workers: Workers | None = None
        if workers:
            self._workers = Workers(images, workers, self._shape, batch, timeout=timeout, on_restart=on_restart)
        _open_pools.add(self)

    def run(self, tasks: Sequence[DecodeTask]) -> Iterator[Batch]:
        self._stop()
        generator = self._iterate(tasks)
        self._running = weakref.ref(generator)
        return generator

    def close(self) -> None:
        self._stop()
        self._closed = True
        if self._workers is not None:
            self._workers.close()

    def __del__(self) -> None:
        self.close()

    def _stop(self) -> None:
        running = self._running() if self._running else None
        if running is not None:
            running.close()

    def _iterate(self, tasks: Sequence[DecodeTask]) -> Generator[Batch]:
        if self._closed:
            raise RuntimeError("this loader is closed")
        stacks = self._workers.run(tasks, pin=self._pin) if self._workers else self._decode_here(tasks)
        again: Batch | None = None
        for task, stack in zip(tasks, stacks, strict=True):
            indices = torch.as_tensor(task.indices, dtype=torch.int64) % len(self._images.labels)
            batch = Batch(stack, self._images.labels[indices], indices, again)
            if task.fresh:
                again = batch
                continue
            again = None
            yield batch

    def _decode_here(self, tasks: Sequence[DecodeTask]) -> Generator[Tensor]:
        for task in tasks:
            stack = torch.empty((len(task.indices), *self._shape), dtype=torch.uint8, pin_memory=self._pin)
            for position, index in enumerate(task.indices):
                image = self._images(task.epoch, index, fresh=task.fresh)
                if isinstance(image, str):
                    raise DataError(image)
                stack[position] = image
            yield stack


_open_pools: weakref.WeakSet[_Pool] = weakref.WeakSet()


@atexit.register
def _close_pools() -> None:
    # At exit, multiprocessing sends SIGTERM to the remaining workers, which ignore it, and waits without a limit.
    for pool in list(_open_pools):
        pool.close()
