"""Compute embeddings of images with a trained network, for similarity search, clustering or linear models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from triscale.data.checks.class_checks import ignored_files
from triscale.data.checks.examine import CHUNK, OtherFile, examine
from triscale.data.images.transforms import normalize
from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.data.sources.labels import shown_label
from triscale.data.sources.manifest import is_manifest
from triscale.data.sources.scan_cache import ScanCache
from triscale.data.sources.scanned import ScannedImage
from triscale.data.sources.shards import is_shards
from triscale.data.sources.source import FoundFile, entries
from triscale.data.sources.store import open_store
from triscale.data.sources.tables import is_tables
from triscale.errors import DataError, Interrupted, NetworkError, RunError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.inference.predict import files_of
from triscale.network.contract import Preprocessing
from triscale.nn.backbone import backbone
from triscale.nn.classifier import Classifier
from triscale.results.data_summary import BadFile
from triscale.training.context import DEFAULT_CONTEXT, ExecutionContext
from triscale.training.transfer import classifier_name

BATCH = 64
STOPPED = "stopped; nothing was written; run the same command again to restart"


@dataclass(frozen=True, slots=True)
class Features:
    """A batch of images and their embeddings.

    Attributes:
        files: Paths relative to the root of the data set.
        labels: Class names; None for an unlabeled data set.
        splits: train, val or test; None for a data set without splits.
        vectors: Embeddings, float32 ``[N, C]``.
    """

    files: tuple[str, ...]
    labels: tuple[str | None, ...]
    splits: tuple[str | None, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureStream:
    """The embeddings of a data set, computed during iteration; it can be iterated over once.

    Attributes:
        images: Number of rows in all batches.
        bad: Files that cannot be read as images and have no row.
        batches: Batches of rows, ordered by split and path.
    """

    images: int
    bad: tuple[BadFile, ...]
    batches: Iterator[Features]

    def __iter__(self) -> Iterator[Features]:
        return self.batches


@dataclass(frozen=True, slots=True)
class _Listed:
    """The images of a data set in the order of the rows; without classes, ``classes`` is empty."""

    root: str
    samples: tuple[Sample, ...]
    classes: tuple[str, ...]
    splits: tuple[str | None, ...]
    bad: tuple[BadFile, ...]


def features_of(
    run: RunFolder,
    images: str | Path | Sequence[str | Path],
    context: ExecutionContext = DEFAULT_CONTEXT,
    *,
    reduction: int | None = None,
    batch: int = BATCH,
    data: DataOptions = DEFAULT_DATA,
) -> FeatureStream:
    """Return the embeddings of all images of a data set, a batch at a time.

    Images are preprocessed as in evaluation. The embedding of an image is the input of the classifier: for a Network,
    the global average of the last feature map; for a custom model, the input of its last linear layer. With
    ``reduction``, it is the global average of the last feature map with that reduction, as returned by
    :func:`triscale.nn.backbone.backbone`.

    Args:
        run: A trained run.
        images: A data set as for :func:`triscale.data.pipeline.scan.scan`, a folder of image files without classes, an
            image file, or several files and folders of images without classes.
        context: Device, decoding workers, progress and stop flag.
        reduction: Ratio of input resolution to feature map resolution; None for the input of the classifier.
        batch: Batch size.
        data: How the images are read, and what is tolerated.

    Returns:
        The embeddings, computed during iteration.

    Raises:
        RunError: The training has not finished, or was on images of another number of channels.
        NetworkError: The network has no feature map with the reduction, or a custom model has no linear layer.
        DataError: There are no images, or none can be read.
        Interrupted: ``context.should_stop`` returned true.
    """
    embed = _embedding(run.model().to(context.device).to(memory_format=torch.channels_last), reduction)
    preprocessing = run.spec.preprocessing
    if data.channels not in (None, preprocessing.channels):
        raise RunError(
            f"the run was trained on images of {preprocessing.channels} channels; expected the same for its features; "
            f"leave --channels {data.channels} out"
        )
    options = data.replace(bit_depth=data.bit_depth or preprocessing.bit_depth, channels=preprocessing.channels)
    listed = _list(images, context, options)
    batches = _batches(listed, embed, preprocessing, batch, context)
    return FeatureStream(len(listed.samples), listed.bad, batches)


def _embedding(model: nn.Module, reduction: int | None) -> Callable[[Tensor], Tensor]:
    """Return a function from normalized images ``[N, channels, H, W]`` to embeddings ``[N, C]``."""
    if reduction is not None:
        if not isinstance(model, Classifier):
            raise NetworkError("--reduction does not support custom models; leave it out")
        body = backbone(model, (reduction,))
        return lambda images: body(images)["0"].mean((2, 3))
    last = classifier_name(model)
    if not last:
        raise NetworkError("the network has no linear layer whose input could serve as embedding")
    captured: list[Tensor] = []

    def capture(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        captured.append(inputs[0])

    model.get_submodule(last).register_forward_pre_hook(capture)

    def embed(images: Tensor) -> Tensor:
        captured.clear()
        model(images)
        return captured[-1].flatten(1)

    return embed


def _batches(
    listed: _Listed,
    embed: Callable[[Tensor], Tensor],
    preprocessing: Preprocessing,
    batch: int,
    context: ExecutionContext,
) -> Iterator[Features]:
    context.progress.begin("features", len(listed.samples))
    done = 0
    for loaded in eval_batches(listed.samples, listed.root, preprocessing, batch=batch, workers=context.workers):
        if context.should_stop():
            raise Interrupted(STOPPED)
        inputs = normalize(loaded.images.to(context.device), preprocessing).contiguous(
            memory_format=torch.channels_last
        )
        with torch.inference_mode():
            vectors = embed(inputs).float().cpu().numpy()
        rows = slice(done, done + len(vectors))
        yield Features(
            files=tuple(sample.path for sample in listed.samples[rows]),
            labels=tuple(
                shown_label(sample.label, listed.classes) if listed.classes else None for sample in listed.samples[rows]
            ),
            splits=listed.splits[rows],
            vectors=vectors,
        )
        done += len(vectors)
        context.progress.advance(done)


def _list(given: str | Path | Sequence[str | Path], context: ExecutionContext, options: DataOptions) -> _Listed:
    if not isinstance(given, str | Path):
        return _list_files([Path(path) for path in given], context, options)
    images, folder = str(given), Path(given)
    if folder.is_file() and not is_manifest(folder):
        return _list_files([folder], context, options)
    if folder.is_dir() and not entries(folder)[0] and not is_shards(folder) and not is_tables(folder):
        return _list_unlabeled(folder.absolute(), entries(folder)[1], context, options)
    scanned = scan_with_progress(images, context, STOPPED, options)
    rows = [
        (Sample(image.path, image.label), None if role == "unsplit" else role)
        for role, of_role in scanned.by_role.items()
        for image in of_role
    ]
    return _Listed(
        root=scanned.root,
        samples=tuple(sample for sample, _ in rows),
        classes=scanned.classes,
        splits=tuple(split for _, split in rows),
        bad=scanned.bad,
    )


def _list_files(paths: Sequence[Path], context: ExecutionContext, options: DataOptions) -> _Listed:
    """List image files and those in folders, in the given order; their paths are relative to what they share."""
    files = [Path(os.path.abspath(file)) for file in files_of(paths)]  # noqa: PTH100 - links are not followed
    root = Path(os.path.commonpath([file.parent for file in files]))
    names = list(dict.fromkeys(file.relative_to(root).as_posix() for file in files))
    return _list_unlabeled(root, names, context, options)


def _list_unlabeled(folder: Path, names: Sequence[str], context: ExecutionContext, options: DataOptions) -> _Listed:
    """List image files below a folder, without classes."""
    files = [FoundFile(name, "") for name in names]
    good: list[ScannedImage] = []
    bad: list[BadFile] = []
    others: list[OtherFile] = []
    channels = options.channels or 3
    cache = ScanCache(f"{folder}/*", options.limits, channels)
    context.progress.begin("scan", len(files))
    try:
        store = open_store(str(folder))
        with closing(examine(store, files, {"": 0}, options.limits, cache, channels=channels)) as results:
            for done, result in enumerate(results, start=1):
                if isinstance(result, ScannedImage):
                    good.append(result)
                elif isinstance(result, OtherFile):
                    others.append(result)
                else:
                    bad.append(result)
                if done % CHUNK == 0 and context.should_stop():
                    raise Interrupted(STOPPED)
                context.progress.advance(done)
    finally:
        cache.save(file.path for file in files)
    for note in ignored_files(others):
        context.progress.note(note)
    if not good:
        shown = f": {bad[0].path}: {bad[0].reason}" if bad else ""
        raise DataError(f"{folder} holds no readable images{shown}; give a folder of images or of class folders")
    samples = tuple(Sample(image.path, 0) for image in good)
    return _Listed(root=str(folder), samples=samples, classes=(), splits=(None,) * len(good), bad=tuple(bad))
