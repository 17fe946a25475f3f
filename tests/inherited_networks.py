"""Small networks with batch norms like those of trained ones, and networks that inherit their weights, for tests."""

from __future__ import annotations

import torch

from sizes import stressed
from triscale.families.find import find_network
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.scaling.apply import scale
from triscale.scaling.law import Scale
from triscale.weights.inherit import inherit
from triscale.weights.inheritance_plan import plan_inheritance

FAMILIES = ("efficientnet_b0@32", "mobilenet_v1@32", "mobilenet_v2@32", "mnasnet_a1@32", "resnet18@32", "resnet50@32")
MODERN = ("efficientnetv2_b0@32", "mobilenet_v3_small@32", "mobilenet_v4_conv_small@32")
"""Families with fused, universal and hard blocks, and with wide layers after the pool."""
MEASURED = (
    *("mobilenet_v1@32", "resnet18@32"),
    *stressed("efficientnet_b0@32", "mobilenet_v2@32", "mnasnet_a1@32", "resnet50@32", *MODERN),
)
"""For tests of weights that are fitted to images, which takes seconds per family."""


def trained_like(network: Network, seed: int = 0) -> torch.nn.Module:
    """Return a module whose batch norms are those of no fresh one."""
    torch.manual_seed(seed)
    model = build(network)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.1)
    return model.eval()


def inherited(source: Network, model: torch.nn.Module, target: Network, noise: float = 0.0) -> torch.nn.Module:
    grown = build(target)
    weights = inherit(plan_inheritance(source, target), model.state_dict(), grown.state_dict(), noise=noise)
    grown.load_state_dict(weights, strict=True)
    return grown.eval()


def small(name: str) -> Network:
    return scale(find_network(name), Scale(depth=0.5, width=0.25, resolution=1)).replace(classes=7)


@torch.no_grad()
def error_of(heir: torch.nn.Module, model: torch.nn.Module, images: torch.Tensor) -> float:
    """Return the error of the logits as a share of their variance."""
    wanted = model.eval()(images)
    return float((heir.eval()(images) - wanted).square().mean() / wanted.var(0).mean())


def smooth_images(number: int, seed: int) -> torch.Tensor:
    """Return random images ``[number, 3, 32, 32]`` whose neighboring pixels are alike, as in photographs."""
    noise = torch.randn(number, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=32, mode="bilinear")
