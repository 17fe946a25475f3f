"""Embeddings of images by a trained network, for other uses: search for similar images, clusters, linear models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from triscale.data.checks.examine import CHUNK, examine
from triscale.data.images.decode import DEFAULT_LIMITS
from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.data.sources.scan_cache import ScanCache
from triscale.data.sources.scanned import ScannedImage
from triscale.data.sources.shards import is_shards
from triscale.data.sources.source import FoundFile, entries
from triscale.data.sources.store import open_store
from triscale.data.sources.tables import is_tables
from triscale.errors import DataError, Interrupted, NetworkError
from triscale.jobs.core.run import Run
from triscale.jobs.data.scanning import scan_with_progress
from triscale.network.contract import Preprocessing
from triscale.nn.backbone import backbone
from triscale.nn.classifier import Classifier
from triscale.results.data_summary import BadFile
from triscale.training.context import DEFAULT_CONTEXT, ExecutionContext
from triscale.training.transfer import classifier_name

BATCH = 64
STOPPED = "stopped; nothing was written, the same command begins again"


@dataclass(frozen=True, slots=True)
class Features:
    """Some images and their embeddings.

    Attributes:
        files: paths relative to the set's root.
        labels: names of their classes, None where the set does not say.
        parts: train, val or test, None where the set has no parts.
        vectors: float32 ``[N, C]``.
    """

    files: tuple[str, ...]
    labels: tuple[str | None, ...]
    parts: tuple[str | None, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FeatureStream:
    """The embeddings of a set, computed while they are iterated over, once.

    Attributes:
        images: number of rows in all batches.
        bad: files that cannot be read as images, which have no row.
        batches: some rows at a time, in the order of part and path.
    """

    images: int
    bad: tuple[BadFile, ...]
    batches: Iterator[Features]

    def __iter__(self) -> Iterator[Features]:
        return self.batches


@dataclass(frozen=True, slots=True)
class _Listed:
    """The images of a set in the order of the rows."""

    root: str
    samples: tuple[Sample, ...]
    classes: tuple[str | None, ...]
    parts: tuple[str | None, ...]
    bad: tuple[BadFile, ...]


def features_of(
    run: Run,
    images: str | Path,
    context: ExecutionContext = DEFAULT_CONTEXT,
    *,
    reduction: int | None = None,
    batch: int = BATCH,
) -> FeatureStream:
    """Return the embeddings of all images of a set, a batch at a time.

    An image is prepared as for the network's evaluation. Its embedding is what the classifier reads: for a Network the
    mean over the last map; for a custom model what goes into their last linear layer. With ``reduction`` it is the mean
    over the last map at that reduction, as :func:`triscale.nn.backbone.backbone` gives it.

    Args:
        run: a run whose training has finished.
        images: whatever :func:`triscale.data.pipeline.scan.scan` takes, or a folder of image files without classes.
        reduction: of the map, or None for what the classifier reads.
        context: Device, processes that decode, progress and stop flag.
        batch: images at a time.

    Raises:
        RunError: the training has not finished.
        NetworkError: no map at the reduction, or no linear layer in a custom model.
        DataError: no images, or none that can be read.
        Interrupted: ``context.should_stop`` returned true.
    """
    embed = _embedding(run.model().to(context.device).to(memory_format=torch.channels_last), reduction)
    listed = _list(str(images), context)
    batches = _batches(listed, embed, run.spec.preprocessing, batch, context)
    return FeatureStream(len(listed.samples), listed.bad, batches)


def _embedding(model: nn.Module, reduction: int | None) -> Callable[[Tensor], Tensor]:
    """Return a function from normalized images ``[N, 3, H, W]`` to embeddings ``[N, C]``."""
    if reduction is not None:
        if not isinstance(model, Classifier):
            raise NetworkError("the maps of a custom model are not known by reduction; leave out --reduction")
        body = backbone(model, (reduction,))
        return lambda images: body(images)["0"].mean((2, 3))
    last = classifier_name(model)
    if not last:
        raise NetworkError("the network has no linear layer, so that it is not known what its classifier reads")
    read: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        del module
        read.append(inputs[0])

    model.get_submodule(last).register_forward_pre_hook(note)

    def embed(images: Tensor) -> Tensor:
        read.clear()
        model(images)
        return read[-1].flatten(1)

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
            labels=tuple(listed.classes[sample.label] for sample in listed.samples[rows]),
            parts=listed.parts[rows],
            vectors=vectors,
        )
        done += len(vectors)
        context.progress.advance(done)


def _list(images: str, context: ExecutionContext) -> _Listed:
    folder = Path(images)
    if folder.is_dir() and not entries(folder)[0] and not is_shards(folder) and not is_tables(folder):
        return _list_unlabeled(folder.absolute(), context)
    found = scan_with_progress(images, context, STOPPED)
    rows = [
        (Sample(image.path, image.label), None if role == "unsplit" else role)
        for role, of_role in found.by_role.items()
        for image in of_role
    ]
    return _Listed(
        root=found.root,
        samples=tuple(sample for sample, _ in rows),
        classes=found.classes,
        parts=tuple(part for _, part in rows),
        bad=found.bad,
    )


def _list_unlabeled(folder: Path, context: ExecutionContext) -> _Listed:
    """List the image files right in a folder, which has no class folders."""
    files = [FoundFile(name, "") for name in entries(folder)[1]]
    good: list[ScannedImage] = []
    bad: list[BadFile] = []
    cache = ScanCache(str(folder), DEFAULT_LIMITS)
    context.progress.begin("scan", len(files))
    try:
        with closing(examine(open_store(str(folder)), files, {"": 0}, DEFAULT_LIMITS, cache)) as results:
            for done, result in enumerate(results, start=1):
                if isinstance(result, ScannedImage):
                    good.append(result)
                else:
                    bad.append(result)
                if done % CHUNK == 0 and context.should_stop():
                    raise Interrupted(STOPPED)
                context.progress.advance(done)
    finally:
        cache.save(file.path for file in files)
    if not good:
        shown = f": {bad[0].path}: {bad[0].reason}" if bad else ""
        raise DataError(f"{folder} holds no images that can be read{shown}; give images, or a folder of class folders")
    samples = tuple(Sample(image.path, 0) for image in good)
    return _Listed(root=str(folder), samples=samples, classes=(None,), parts=(None,) * len(good), bad=tuple(bad))
