"""Class activation maps (CAM, Grad-CAM) and overlays."""

from __future__ import annotations

import io

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from triscale.errors import JobError
from triscale.nn.classifier import Classifier

OVERLAY_ALPHA = 0.55
"""Opacity of a map over its image."""


@torch.inference_mode()
def class_activation_maps(model: Classifier, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the class activation maps of images (CAM, Zhou et al. 2016, https://arxiv.org/abs/1512.04150).

    A map is the weighted sum of the last feature maps, with the classifier's weights for the class. Since the head is
    global average pooling and a linear layer, the mean of the map plus the class's bias *is* the logit: the map is
    exact, not an approximation::

        logit_k = b_k + mean over x, y of (sum over c of w_kc * f_c(x, y))
                                          \___________ map ___________/

    With a wide layer between the pool and the classifier, the weights are the gradients of the logit with respect to
    the pooled features (Grad-CAM at the last map), and the map is exact only to first order.

    Args:
        model: A network built by :func:`triscale.nn.build.build`.
        images: Normalized ``[N, 3, H, W]``.
        classes: int64 ``[N]``, the class of each map.

    Returns:
        The maps ``[N, h, w]`` and the logits ``[N, classes]``.

    Example:
        >>> from triscale.families import get
        >>> from triscale.nn.build import build
        >>> model = build(get("efficientnet_b0@32").replace(classes=10))
        >>> maps, logits = class_activation_maps(model, torch.zeros(1, 3, 32, 32), torch.tensor([7]))
        >>> tuple(maps.shape), tuple(logits.shape)
        ((1, 4, 4), (1, 10))
        >>> bool(torch.allclose(maps.mean() + model.head.classifier.bias[7], logits[0, 7], atol=1e-5))
        True
    """
    features = model.eval().forward_features(images)
    classifier = model.get_classifier()
    assert isinstance(classifier, nn.Linear)
    is_linear = model.head.vector_layers == (classifier,)
    weights = classifier.weight[classes] if is_linear else _pooled_gradients(model, features, classes)
    maps = torch.einsum("nc,nchw->nhw", weights, features)
    return maps, model.forward_head(features)


@torch.inference_mode(False)
@torch.enable_grad()
def _pooled_gradients(model: Classifier, features: Tensor, classes: Tensor) -> Tensor:
    """Return the gradients ``[N, C]`` of the logits of some classes with respect to the pooled features."""
    # The pool of a map of one pixel is that pixel.
    pooled = features.mean((2, 3), keepdim=True).clone().requires_grad_()
    logits = model.forward_head(pooled).gather(1, classes.clone()[:, None])
    return torch.autograd.grad(logits.sum(), pooled)[0].flatten(1)


def gradient_maps(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Return Grad-CAM maps of images (Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391).

    They work for modules of unknown structure: the channels of the last feature map with more than one pixel are
    weighted by the mean gradient of the class's logit.

    Args:
        model: Any module from ``[N, 3, H, W]`` to logits.
        images: Normalized ``[N, 3, H, W]``.
        classes: int64 ``[N]``, the class of each map.

    Returns:
        The maps ``[N, h, w]``.

    Raises:
        JobError: The module has no feature map.
    """
    maps: list[Tensor] = []

    def record(module: nn.Module, inputs: object, output: object) -> None:
        del module, inputs
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
            maps.append(output)

    leaves = [module for module in model.eval().modules() if not list(module.children())]
    handles = [module.register_forward_hook(record) for module in leaves]
    try:
        logits = model(images.requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    if not maps:
        raise JobError("the network has no feature map of more than one pixel, so it cannot be explained")
    last = maps[-1]
    (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), last)
    return (gradient.mean((2, 3), keepdim=True) * last).sum(1).detach()


def overlay(image: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """Overlay a map on an image: pixels that support the class are bright, the others dark.

    Negative values are evidence against the class and count as zero; the maximum has the brightest color.

    Args:
        image: An RGB image.
        heat: The map ``[h, w]``, resized to the image.

    Example:
        >>> overlay(Image.new("RGB", (8, 8)), np.eye(2, dtype=np.float32)).size
        (8, 8)
    """
    positive = np.maximum(heat, 0)
    peak = float(positive.max())
    share = positive / peak if peak > 0 else positive
    grid = Image.fromarray((share * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    level = np.asarray(grid, dtype=np.float32)[..., None] / 255
    color = (colormaps["inferno"](level[..., 0])[..., :3] * 255).astype(np.float32)
    gray = np.asarray(image.convert("L").convert("RGB"), dtype=np.float32)
    mixed = gray * (1 - OVERLAY_ALPHA) + color * OVERLAY_ALPHA
    return Image.fromarray(mixed.clip(0, 255).astype(np.uint8))


def to_png(image: Image.Image) -> bytes:
    """Encode an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
