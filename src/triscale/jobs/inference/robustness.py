"""Measure the accuracy of a run on corrupted test images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from triscale.data.images.color import BadImage
from triscale.data.images.corruptions import CORRUPTIONS, MEANINGS, MIN_SIDE, STRENGTHS, corrupt, reduced
from triscale.data.images.decode import NO_LIMITS, decode
from triscale.data.images.transforms import eval_transform, normalize
from triscale.data.pipeline.split import Sample, check_present
from triscale.data.sources.store import open_store
from triscale.errors import DataError, Interrupted, RunError, UserError
from triscale.jobs.core.run import RunFolder, how_to_add_images, named_in_messages
from triscale.results.robustness import ClassRobustness, CorruptedAccuracy, Robustness, ShareInterval
from triscale.training.context import ExecutionContext
from triscale.training.metrics import wilson

LIMIT = 200
"""Default number of test images; each is classified 26 times."""
NUM_STRENGTHS = 5


def measure_robustness(run: RunFolder, context: ExecutionContext, *, limit: int = LIMIT, seed: int = 0) -> Robustness:
    """Classify test images as they are and with each corruption at each strength; save the record in the run.

    Args:
        run: A trained run.
        context: Device, progress and stop flag.
        limit: Maximum number of test images; if there are more, a random sample is taken.
        seed: Seed of the sample and of everything random in the corruptions.

    Raises:
        UserError: ``limit`` is not a number of images, or ``seed`` is negative.
        RunError: The training has not finished, there are no test images, or images have any number of labels.
        DataError: Images are no longer there.
        Interrupted: ``context.should_stop`` returned true; nothing was written.
    """
    if limit < 1:
        raise UserError(f"limit {limit} is not a number of images; give 1 or more")
    if seed < 0:
        raise UserError(f"seed {seed} is negative; give 0 or more")
    spec, split = run.spec, run.split
    if run.decision.link == "sigmoid":
        raise RunError(
            f"the images of {named_in_messages(run)} have any number of labels; robustness is measured for images with "
            "one class"
        )
    if not split.test:
        raise RunError(
            f"{named_in_messages(run)} has no test images to measure its robustness on{how_to_add_images(spec)}"
        )
    samples = _sample(split.test, limit, seed)
    check_present(split, samples)
    right = _classify(run, samples, context, seed)
    labels = np.array([sample.label for sample in samples])
    result = Robustness(
        images=len(samples),
        available=len(split.test),
        seed=seed,
        side=_side(run),
        kinds=CORRUPTIONS,
        meanings=tuple(MEANINGS[kind] for kind in CORRUPTIONS),
        all_classes=_row("", right),
        classes=tuple(_row(name, right[labels == index]) for index, name in enumerate(spec.classes)),
        strengths=tuple(
            CorruptedAccuracy(
                corruption=kind,
                strength=strength + 1,
                amount=STRENGTHS[kind][strength],
                top1=_share(right[:, 1 + NUM_STRENGTHS * number + strength]),
            )
            for number, kind in enumerate(CORRUPTIONS)
            for strength in range(NUM_STRENGTHS)
        ),
    )
    result.save(run.robustness_file)
    return result


def _sample(samples: tuple[Sample, ...], limit: int, seed: int) -> tuple[Sample, ...]:
    """Return at most ``limit`` samples in their order, chosen at random."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(samples))[:limit])
    return tuple(samples[index] for index in chosen)


def _side(run: RunFolder) -> int:
    return max(MIN_SIDE, *run.spec.preprocessing.input_shape[1:])


def _classify(run: RunFolder, samples: tuple[Sample, ...], context: ExecutionContext, seed: int) -> NDArray[np.bool_]:
    """Return whether each image is classified correctly as it is, and then in each corrupted form ``[N, 26]``.

    An image and its corrupted forms are one batch, so that it is decoded once.
    """
    preprocessing, side, store = run.spec.preprocessing, _side(run), open_store(run.split.root)
    transform = eval_transform(preprocessing)
    model = run.model().to(context.device).to(memory_format=torch.channels_last)
    context.progress.begin("classify corrupted images", len(samples))
    right = []
    for number, sample in enumerate(samples, 1):
        if context.should_stop():
            raise Interrupted("stopped while corrupted images were classified; run the same command again")
        try:
            content = store.read(sample.path, NO_LIMITS)
            image = decode(content, NO_LIMITS, preprocessing.bit_depth, preprocessing.channels)
        except BadImage as error:
            raise DataError(f"{store.location(sample.path)} can no longer be decoded: {error}; put it back") from error
        small, key = reduced(image, side), f"{seed} {sample.path}"
        forms = [
            transform(image),
            *(
                transform(corrupt(small, kind, strength, key))
                for kind in CORRUPTIONS
                for strength in range(1, NUM_STRENGTHS + 1)
            ),
        ]
        with torch.inference_mode():
            inputs = normalize(torch.stack(forms).to(context.device), preprocessing)
            predicted = model(inputs.contiguous(memory_format=torch.channels_last)).argmax(1).cpu().numpy()
        right.append(predicted == sample.label)
        context.progress.advance(number)
    return np.stack(right)


def _row(name: str, right: NDArray[np.bool_]) -> ClassRobustness:
    if not len(right):
        return ClassRobustness(name=name, count=0, clean=None, corrupted=())
    means = right[:, 1:].reshape(len(right), len(CORRUPTIONS), NUM_STRENGTHS).mean(2)
    return ClassRobustness(
        name=name,
        count=len(right),
        clean=_share(right[:, 0]),
        corrupted=tuple(_share(means[:, number]) for number in range(len(CORRUPTIONS))),
    )


def _share(values: NDArray[np.bool_] | NDArray[np.float64]) -> ShareInterval:
    """Return the mean of values from 0 to 1 with the Wilson interval of a share of as many images."""
    low, high = wilson(float(values.sum()), len(values))
    return ShareInterval(value=float(values.mean()), low=low, high=high)
