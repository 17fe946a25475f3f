"""The modules of other projects with random weights, and the names of the modules whose feature maps are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from triscale.network.spec import Network
from triscale.weights.architecture import Architecture
from triscale.weights.sources import SOURCES


def their_module(source: str, name: str, resolution: int) -> nn.Module:
    """Build another project's own module, with the weights that it draws itself."""
    if source == "torchvision":
        return torchvision.models.get_model(name)
    if source == "timm":
        return pytest.importorskip("timm").create_model(name)
    # The port's own weights were converted from Google's checkpoints: its module stands for TensorFlow's.
    package = pytest.importorskip("efficientnet_pytorch")
    return package.EfficientNet.from_name(name, image_size=resolution, drop_connect_rate=0.0)


@torch.no_grad()
def with_random_weights(model: nn.Module, images: Tensor) -> nn.Module:
    """Draw all values of batch norm, its statistics near those of the images, and return the module to evaluate."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.weight.uniform_(0.8, 1.2)
        module.bias.normal_(0, 0.1)
        module.momentum = 1.0
    model.train()(images)
    for module, momentum in zip(norms, momenta, strict=True):
        module.running_mean.add_(torch.randn_like(module.running_mean) * 0.1 * module.running_var.sqrt())
        module.running_var.mul_(torch.empty_like(module.running_var).uniform_(0.8, 1.2))
        module.momentum = momentum
    return model.eval()


def their_maps(model: nn.Module, names: list[str], images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return logits, and what the named modules put out, the last time that each was called."""
    caught: dict[str, Tensor] = {}

    def catch(name: str):
        return lambda module, inputs, output: caught.update({name: output})

    handles = [model.get_submodule(name).register_forward_hook(catch(name)) for name in names]
    logits = model(images)
    for handle in handles:
        handle.remove()
    return logits, [caught[name] for name in names]


def names_of_maps(source: str, architecture: Architecture, network: Network) -> list[str]:
    """Return their modules that put out the last map of each reduction, and the map that is pooled."""
    strides = [stage.stride for stage in network.stages[1:]] + [2]
    ends = [number for number, stride in enumerate(strides) if stride > 1]
    blocks = np.cumsum([stage.repeats for stage in network.stages])
    last = len(network.stages) - 1
    stem = network.stages[0].stride > 1
    if architecture.family == "resnet":
        return [f"layer{number + 1}" for number in ends] + [f"layer{last + 1}"]
    if architecture.family == "resnetrs":
        return ["act1", *(f"layer{number - 2}" for number in ends[1:]), f"layer{last - 2}"]
    if architecture.family == "regnet":
        prefix = "s" if source == "timm" else "trunk_output.block"
        return ["stem", *(f"{prefix}{number + 1}" for number in ends), f"{prefix}{last + 1}"]
    if network.head.wide and source == "timm":
        group = [group for group, size in enumerate(architecture.groups) for _ in range(size)]
        maps = [f"blocks.{group[number]}" for number in ends]
        return ["bn1"] * stem + maps + [f"blocks.{len(architecture.groups)}"]
    if network.head.wide:
        names = [f"features.{blocks[number]}" for number in ends]
        return ["features.0"] * stem + names + [f"features.{blocks[-1] + 1}"]
    if architecture.groups:
        ends, last = [number - architecture.groups[0] + 1 for number in ends], len(architecture.groups) - 1
    match source, architecture.family:
        case "torchvision", "efficientnet":
            return [f"features.{number + 1}" for number in ends] + [f"features.{last + 2}"]
        case "torchvision", "mobilenet_v2":
            return [f"features.{blocks[number]}" for number in ends] + [f"features.{blocks[-1] + 1}"]
        case "torchvision", _:
            return [f"layers.{number + 7}" for number in ends] + [f"layers.{last + 10}"]
        case "timm", _:
            return [f"blocks.{number}" for number in ends] + ["bn2" if network.head.width else f"blocks.{last}"]
        case _:
            return [f"_blocks.{blocks[number] - 1}" for number in ends] + ["_swish"]


def tensorflow_variables(state: dict[str, Tensor], scope: str, network: Network) -> dict[str, np.ndarray]:
    """Return the state of the PyTorch port as the variables of the TensorFlow model that it was converted from.

    The names are those of the port's own conversion script, ``tf_to_pytorch/convert_tf_to_pt/load_tf_weights.py``.
    """
    first = network.stages[0].repeats
    variables = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        module, _, value = name.rpartition(".")
        place, _, layer = module.rpartition(".")
        if place:
            block = int(place.split(".")[1])
            expanded = int(block >= first)
            norm = "tpu_batch_normalization"
            path = (
                f"blocks_{block}/"
                + {
                    "_expand_conv": "conv2d",
                    "_bn0": norm,
                    "_depthwise_conv": "depthwise_conv2d",
                    "_bn1": f"{norm}_1" if expanded else norm,
                    "_se_reduce": "se/conv2d",
                    "_se_expand": "se/conv2d_1",
                    "_project_conv": "conv2d_1" if expanded else "conv2d",
                    "_bn2": f"{norm}_2" if expanded else f"{norm}_1",
                }[layer]
            )
        else:
            path = {
                "_conv_stem": "stem/conv2d",
                "_bn0": "stem/tpu_batch_normalization",
                "_conv_head": "head/conv2d",
                "_bn1": "head/tpu_batch_normalization",
                "_fc": "head/dense",
            }[layer]
        values = tensor.numpy()
        if "_bn" in layer:
            value = {
                "weight": "gamma",
                "bias": "beta",
                "running_mean": "moving_mean",
                "running_var": "moving_variance",
            }[value]
        elif layer == "_depthwise_conv":
            value, values = "depthwise_kernel", values.transpose(2, 3, 0, 1)
        elif value == "weight":
            value, values = "kernel", values.transpose(2, 3, 1, 0) if values.ndim == 4 else values.T
        variables[f"{scope}/{path}/{value}"] = np.ascontiguousarray(values)
    return variables


def all_architectures() -> list[tuple[str, str]]:
    """Return source and name of every network in the tables."""
    return [(source, name) for source, tables in SOURCES.items() for name in tables.architectures]
