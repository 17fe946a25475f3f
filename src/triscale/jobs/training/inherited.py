"""Initialize a network with the weights of one of another size; a smaller one is corrected on the training images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.order import epoch_order
from triscale.data.pipeline.split import Sample, Split
from triscale.errors import Interrupted
from triscale.network.contract import Preprocessing
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.nn.classifier import Classifier
from triscale.weights.inherit import SourceChannels, inherit
from triscale.weights.inheritance_plan import plan_inheritance
from triscale.weights.prune import block_importances, input_statistics
from triscale.weights.reconstruct import refit
from triscale.weights.rules import HEAD

STATISTICS_IMAGES = 512
"""Maximum number of training images on which the inputs of layers are measured."""
IMPORTANCE_IMAGES = 128
"""The same for the importance of blocks, which takes one evaluation for each block."""
MIN_REFIT_IMAGES, REFIT_PIXELS = 128, 16_000_000
"""Minimum number of images to which a network is refitted, and pixels of all together beyond it."""
_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class CalibrationImages:
    """Images without augmentation on which a smaller network is corrected; their labels are not used.

    They are decoded once, when they are first used, and kept.

    Attributes:
        samples: The images, at random.
        root: Their folder.
        preprocessing: How they become inputs.
        device: The device of the models.
        should_stop: Polled for each batch.
    """

    samples: Sequence[Sample]
    root: str
    preprocessing: Preprocessing
    device: torch.device
    should_stop: Callable[[], bool] = lambda: False

    @cached_property
    def decoded(self) -> Tensor:
        """The images, uint8 ``[N, in_channels, H, W]``."""
        parts = []
        for batch in eval_batches(self.samples, self.root, self.preprocessing, batch=_BATCH):
            self._stop_if_requested()
            parts.append(batch.images)
        return torch.cat(parts)

    def normalized(self, number: int) -> Iterator[Tensor]:
        """Yield up to a number of images as inputs of a network ``[N, in_channels, H, W]``.

        Raises:
            Interrupted: ``should_stop`` returned true.
        """
        for start in range(0, min(number, len(self.decoded)), _BATCH):
            self._stop_if_requested()
            images = self.decoded[start : min(start + _BATCH, number)]
            inputs: Tensor = normalize(images.to(self.device), self.preprocessing)
            yield inputs.contiguous(memory_format=torch.channels_last)

    def _stop_if_requested(self) -> None:
        if self.should_stop():
            raise Interrupted("stopped before the first step; run the same command again to start")


def calibration_images(
    split: Split,
    preprocessing: Preprocessing,
    seed: int,
    device: torch.device,
    should_stop: Callable[[], bool] = lambda: False,
) -> CalibrationImages:
    """Return the first training images of the first epoch."""
    order = epoch_order(len(split.train), seed, 0)[:STATISTICS_IMAGES].tolist()
    samples = [split.train[index] for index in order]
    return CalibrationImages(
        samples=samples, root=split.root, preprocessing=preprocessing, device=device, should_stop=should_stop
    )


def load_inherited(
    model: Classifier,
    source: Network,
    tensors: Mapping[str, Tensor],
    images: CalibrationImages,
    *,
    keep_head: bool,
    seed: int = 0,
    pruned: bool = False,
    by_scale: bool | None = None,
) -> str:
    """Load the weights of another network into a model, and return a description of what was loaded.

    Args:
        model: The model; it is moved to the device of the images, and put into evaluation mode.
        source: The network of the weights.
        tensors: The weights, with or without a classifier.
        images: The images on which the weights of a smaller network are corrected.
        keep_head: Whether the classifier is inherited too.
        seed: Seed of the noise on repeated channels.
        pruned: Whether the model's network was pruned from ``source`` (:mod:`triscale.weights.slimming`).
        by_scale: Whether it keeps the channels with the largest scales of batch norm instead of those whose loss the
            others make up least; by default if it was pruned.

    Raises:
        NetworkError: The networks are not of the same family.
    """
    # Channels are chosen for the source's own classes; a classifier for these is dropped at the end.
    target = model.network.replace(classes=source.classes)
    has_head = any(name.startswith(HEAD) for name in tensors)
    plan, is_shallower = (
        plan_inheritance(source, target, keep_head=has_head, pruned=pruned),
        _is_shallower(target, source),
    )
    smaller, summary = build(target), plan.summary
    if plan.readers or is_shallower:
        original = build(source)
        original.load_state_dict(dict(tensors), strict=has_head)
        original.eval().to(images.device).to(memory_format=torch.channels_last)
        if is_shallower:
            importances = block_importances(original, list(images.normalized(IMPORTANCE_IMAGES)))
            plan = plan_inheritance(source, target, keep_head=has_head, importances=importances)
        names = [layer.source for layer in plan.readers]
        statistics = input_statistics(original, names, images.normalized(STATISTICS_IMAGES)) if names else {}
        channels = SourceChannels(plan, tensors, statistics, by_scale=pruned if by_scale is None else by_scale)
        smaller.load_state_dict(inherit(plan, tensors, smaller.state_dict(), channels=channels, seed=seed))
        smaller.to(images.device).to(memory_format=torch.channels_last)
        refit(original, smaller, plan, channels, list(images.normalized(num_refit_images(target))))
        summary = f"{plan.summary}, corrected on {min(STATISTICS_IMAGES, len(images.samples))} training images"
    else:
        smaller.load_state_dict(inherit(plan, tensors, smaller.state_dict(), seed=seed))
    kept = {name: value for name, value in smaller.state_dict().items() if keep_head or not name.startswith(HEAD)}
    model.load_state_dict({**model.state_dict(), **kept})
    model.to(images.device).eval()
    return summary


def _is_shallower(target: Network, source: Network) -> bool:
    return any(ours.repeats < theirs.repeats for ours, theirs in zip(target.stages, source.stages, strict=False))


def num_refit_images(network: Network) -> int:
    """Return the number of images whose feature maps of a block fit into memory together, from 128 to 512."""
    _, height, width = network.input_shape
    fitting = REFIT_PIXELS // (height * width)
    return max(MIN_REFIT_IMAGES, min(STATISTICS_IMAGES, fitting))
