"""Class activation maps (Zhou et al. 2016) and their pictures."""

from __future__ import annotations

import io

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from triscale.errors import JobError
from triscale.nn.build import Classifier

STRENGTH = 0.55


@torch.inference_mode()
def class_activation_maps(model: Classifier, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Return maps ``[N, h, w]`` of normalized ``images`` ``[N, 3, H, W]`` for ``classes`` ``[N]``, and logits.

    The map is the classifier's weights for the class times the last feature map. Since the head is a mean and a linear
    layer, its mean over the map plus the class's bias *is* the logit: the map is exact, not an approximation.
    """
    features: list[Tensor] = []
    logits: Tensor = model.eval()(images, features)
    classifier = model.head.get_submodule("classifier")
    assert isinstance(classifier, nn.Linear)
    maps = torch.einsum("nc,nchw->nhw", classifier.weight[classes], features[-1])
    return maps, logits


def gradient_maps(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return Grad-CAM maps ``[N, h, w]`` (Selvaraju et al. 2017) of normalized ``images`` for ``classes`` ``[N]``.

    For modules of unknown structure: the last feature map with more than one pixel is weighted by the mean gradient
    of the class's logit.

    Raises:
        JobError: the module has no feature map.
    """
    maps: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: object) -> None:
        del module, inputs
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            maps.append(output)

    leaves = [module for module in model.eval().modules() if not list(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    try:
        logits = model(images.requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    if not maps:
        raise JobError("the network has no feature map of more than one pixel, so there is nothing to explain")
    last = maps[-1]
    (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), last)
    return (gradient.mean((2, 3), keepdim=True) * last).sum(1).detach()


def overlay(image: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """Lay a map ``[h, w]`` over an image: what speaks for the class is bright, what does not stays dark.

    Values below zero speak against the class and count as zero; the largest value is the brightest color.
    """
    positive = np.maximum(heat, 0)
    peak = float(positive.max())
    share = positive / peak if peak > 0 else positive
    grid = Image.fromarray((share * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    level = np.asarray(grid, dtype=np.float32)[..., None] / 255
    color = (colormaps["inferno"](level[..., 0])[..., :3] * 255).astype(np.float32)
    gray = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    mixed = gray * (1 - STRENGTH) + color * STRENGTH
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def to_png(image: Image.Image) -> bytes:
    """Return an image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
