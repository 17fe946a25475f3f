"""Models of timm and torchvision by name, with multipliers of depth and width where their constructors have them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

from triscale.errors import NetworkError, nearest
from triscale.network.spec import RGB

DIVISOR = 8
"""Scaled widths are multiples of it."""


def library_function(library: str, name: str) -> Callable[..., nn.Module]:
    """Return the function that builds a model of a library from depth, width, classes, channels and image size.

    Args:
        library: A key of :data:`LIBRARIES`.
        name: The name of the model in the library.

    Raises:
        NetworkError: The library is not installed, or has no such model.
    """
    try:
        module = import_module(library)
    except ImportError as error:
        raise NetworkError(
            f"{library}:{name} needs the package {library}; install it: pip install {library}"
        ) from error
    names, build = LIBRARIES[library]
    known = names(module)
    if name not in known:
        hint = nearest(name, known) or f"; {library} lists its models"
        raise NetworkError(f'{library} has no model "{name}"{hint}')
    return partial(build, module, name)


def _timm(
    timm: ModuleType,
    name: str,
    *,
    depth: float,
    width: float,
    classes: int,
    in_channels: int,
    image_size: tuple[int, int],
) -> nn.Module:
    with torch.device("meta"):
        plain = timm.create_model(name)
    parameters = inspect.signature(type(plain).__init__).parameters
    options: dict[str, Any] = {"num_classes": classes, "in_chans": in_channels}
    if "img_size" in parameters:
        options["img_size"] = image_size
    if (depth, width) != (1, 1):
        options |= _scaled_arguments(plain, set(parameters), depth, width)
    built: nn.Module = timm.create_model(name, **options)
    return built


def _scaled_arguments(plain: Any, parameters: set[str], depth: float, width: float) -> dict[str, Any]:
    """Return the arguments of a class of timm that scale it; a dimension for which it has none is left out."""
    if {"depth", "embed_dim", "num_heads"} <= parameters and _has_heads(plain):  # vision transformers
        heads = plain.blocks[0].attn.num_heads
        scaled_heads = max(1, round(heads * width))
        options = {"depth": _repeats(len(plain.blocks), depth)}
        return options | {"embed_dim": plain.embed_dim // heads * scaled_heads, "num_heads": scaled_heads}
    if {"depths", "embed_dim", "num_heads"} <= parameters:  # Swin
        heads = [stage.blocks[0].attn.num_heads for stage in plain.layers]
        first = max(1, round(heads[0] * width))
        return {
            "depths": _all_repeats([len(stage.blocks) for stage in plain.layers], depth),
            "embed_dim": plain.embed_dim // heads[0] * first,
            "num_heads": [first * number // heads[0] for number in heads],
        }
    if type(plain).__name__ == "ConvNeXt":
        return {
            "depths": _all_repeats([len(stage.blocks) for stage in plain.stages], depth),
            "dims": [_channels(info["num_chs"], width) for info in plain.feature_info],
        }
    if {"layers", "channels"} <= parameters and hasattr(plain, "layer1"):  # ResNet
        default = inspect.signature(type(plain).__init__).parameters["channels"].default
        stages = [getattr(plain, f"layer{number}") for number in range(1, len(default) + 1)]
        return {
            "layers": _all_repeats([len(stage) for stage in stages], depth),
            "channels": [_channels(number, width) for number in default],
        }
    return {}


def _has_heads(plain: Any) -> bool:
    return hasattr(getattr(plain.blocks[0], "attn", None), "num_heads") if hasattr(plain, "blocks") else False


def _torchvision(
    torchvision: ModuleType,
    name: str,
    *,
    depth: float,
    width: float,
    classes: int,
    in_channels: int,
    image_size: tuple[int, int],
) -> nn.Module:
    del depth  # no constructor has a multiplier of it
    if in_channels != RGB:
        raise NetworkError(f"torchvision:{name} takes 3 channels, not {in_channels}; choose a model of timm instead")
    builder = torchvision.models.get_model_builder(name)
    options: dict[str, Any] = {"num_classes": classes}
    if width != 1 and name.startswith("mobilenet_v2"):
        options["width_mult"] = width
    if name.startswith("vit_"):
        options["image_size"] = image_size[0]
    if name in ("inception_v3", "googlenet"):
        options |= {"aux_logits": False, "init_weights": False}
    built: nn.Module = builder(**options)
    return built


def _repeats(number: int, depth: float) -> int:
    return max(1, round(number * depth))


def _all_repeats(numbers: Sequence[int], depth: float) -> list[int]:
    return [_repeats(number, depth) for number in numbers]


def _channels(number: int, width: float) -> int:
    return max(DIVISOR, round(number * width / DIVISOR) * DIVISOR)


LIBRARIES: dict[str, tuple[Callable[[ModuleType], Sequence[str]], Callable[..., nn.Module]]] = {
    "timm": (lambda timm: timm.list_models(), _timm),
    "torchvision": (lambda torchvision: torchvision.models.list_models(torchvision.models), _torchvision),
}
"""Names and builder of each library."""
