"""The preprocessing of a training: that of its initial weights, the usual one, or one measured on its images."""

from __future__ import annotations

from triscale.data.images.channels import PICTURE_CHANNELS
from triscale.data.pipeline.moments import MAX_IMAGES, channel_moments
from triscale.data.pipeline.split import Split
from triscale.jobs.core.run import InitialWeights
from triscale.network.contract import BitDepth, Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.training.recipe import Recipe


def choose_preprocessing(
    start: InitialWeights | None, recipe: Recipe, network: AnyNetwork, split: Split, *, workers: int = 0
) -> tuple[Preprocessing, str | None]:
    """Return the preprocessing of a training, and a note if mean and standard deviation were measured for it.

    Channels other than gray and RGB have no usual ones; they are measured, unless the initial weights bring their own.

    Args:
        start: The initial weights.
        recipe: Gives the crop.
        network: The network.
        split: The images.
        workers: Number of processes that decode.

    Raises:
        DataError: A file can no longer be read or decoded.
    """
    preprocessing = preprocessing_of(start, recipe, network, split.bit_depth)
    channels = preprocessing.channels
    before = start.preprocessing if start is not None else None
    if channels in PICTURE_CHANNELS or (before is not None and before.channels == channels):
        return preprocessing, None
    mean, std = channel_moments(split.train, split.root, preprocessing, workers=workers)
    note = (
        f"{channels} channels; mean and standard deviation of each are measured on "
        f"{min(MAX_IMAGES, len(split.train))} training images"
    )
    return preprocessing.replace(mean=mean, std=std), note


def preprocessing_of(
    start: InitialWeights | None, recipe: Recipe, network: AnyNetwork, bit_depth: BitDepth = 16
) -> Preprocessing:
    """Return the preprocessing: that of the initial weights if there are any, for this network and bit depth."""
    fresh = Preprocessing.usual(network.input_shape, recipe.crop_at(network.size.shorter), bit_depth)
    if start is None or start.preprocessing is None:
        return fresh
    before = start.preprocessing
    if before.channels != fresh.channels:
        gray = fresh.channels == 1  # their average, as the weights are summed over the channels
        moments = {"mean": (_mean(before.mean),), "std": (_mean(before.std),)} if gray else {}
        return fresh.replace(interpolation=before.interpolation, **moments)
    return fresh.replace(mean=before.mean, std=before.std, interpolation=before.interpolation)


def _mean(values: tuple[float, ...]) -> float:
    return round(sum(values) / len(values), 4)
