"""RegNetX and RegNetY from 200MF to 32GF (Radosavovic et al. 2020).

A network is given by a depth, three numbers and a group width; a rule makes its widths (equations 2 to 4 of the paper):
the block j has the width ``w0 + wa * j``, quantized to ``w0 * wm ** s`` for an integer s and to a multiple of 8. Blocks
of equal width are a stage. The numbers are those of the released configurations
(https://github.com/facebookresearch/pycls/tree/main/configs/dds_baselines).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

from triscale.families.published import PublishedNetwork
from triscale.network.channels import round_channels
from triscale.network.spec import ActivationKind, BatchNorm, Bottleneck, Network, Stage, Stem

PAPER = "Radosavovic et al. 2020, arXiv 2003.13678"
TORCHVISION = "torchvision 0.29, which rounds three of the networks to other widths"

QUANTUM = 8


class Generator(NamedTuple):
    """What makes a RegNet: depth, initial width, slope, quantization and group width."""

    depth: int
    w0: int
    wa: float
    wm: float
    group: int


def half_to_even(width: int, group: int) -> int:
    """Round a width to the nearest multiple of the group width, halves to an even one, as the paper's code does.

    Example:
        >>> half_to_even(56, 16), half_to_even(152, 16)
        (64, 160)
    """
    multiple = min(group, width)
    return multiple * round(width / multiple)


def quantized_widths(
    generator: Generator, to_groups: Callable[[int, int], int] = half_to_even
) -> tuple[tuple[int, int], ...]:
    """Return width and repeats of each stage.

    Args:
        generator: What makes the network.
        to_groups: Rounds a width to a multiple of the group width.

    Example:
        >>> quantized_widths(Generator(depth=13, w0=24, wa=36.44, wm=2.49, group=8))
        ((24, 1), (56, 1), (152, 4), (368, 7))
    """
    depth, w0, wa, wm, group = generator
    widths = []
    for block in range(depth):
        power = round(math.log((w0 + wa * block) / w0) / math.log(wm))  # equations 2 and 3
        widths.append(round(w0 * wm**power / QUANTUM) * QUANTUM)  # equation 4
    return tuple((to_groups(width, group), len(list(equal))) for width, equal in groupby(widths))


def regnet(
    name: str, generator: Generator, se_ratio: float, to_groups: Callable[[int, int], int] = half_to_even
) -> Network:
    """Return the network that a generator makes, with squeeze-and-excitation (RegNetY) or without (RegNetX).

    Args:
        name: The name of the network.
        generator: What makes it.
        se_ratio: Ratio of the squeezed channels to the block's input; 0 means none.
        to_groups: See :func:`quantized_widths`.

    Example:
        >>> [stage.width for stage in regnet("own", Generator(16, 48, 27.89, 2.09, 8), 0.25).stages]
        [48, 104, 208, 440]
    """
    block = Bottleneck(reduction=1, group_width=generator.group, se_ratio=se_ratio)
    return Network(
        name=name,
        stem=Stem(width=32, activation=ActivationKind.RELU),
        stages=tuple(
            Stage(block=block, width=width, repeats=repeats, stride=2)
            for width, repeats in quantized_widths(generator, to_groups)
        ),
        resolution=224,
        padding="symmetric",
        norm=BatchNorm(eps=1e-5, momentum=0.1),
    )


#       depth  w0  wa     wm  group, top-1 (the releases' mean of 5 trainings)
X: dict[str, tuple[Generator, float]] = {
    "200mf": (Generator(13, 24, 36.44, 2.49, 8), 68.9),
    "400mf": (Generator(22, 24, 24.48, 2.54, 16), 72.7),
    "600mf": (Generator(16, 48, 36.97, 2.24, 24), 74.1),
    "800mf": (Generator(16, 56, 35.73, 2.28, 16), 75.2),
    "1_6gf": (Generator(18, 80, 34.01, 2.25, 24), 77.0),
    "3_2gf": (Generator(25, 88, 26.31, 2.25, 48), 78.3),
    "4_0gf": (Generator(23, 96, 38.65, 2.43, 40), 78.6),
    "6_4gf": (Generator(17, 184, 60.83, 2.07, 56), 79.2),
    "8_0gf": (Generator(23, 80, 49.56, 2.88, 120), 79.3),
    "12gf": (Generator(19, 168, 73.36, 2.37, 112), 79.7),
    "16gf": (Generator(22, 216, 55.59, 2.1, 128), 80.0),
    "32gf": (Generator(23, 320, 69.86, 2.0, 168), 80.5),
}
Y: dict[str, tuple[Generator, float]] = {
    "200mf": (Generator(13, 24, 36.44, 2.49, 8), 70.4),
    "400mf": (Generator(16, 48, 27.89, 2.09, 8), 74.1),
    "600mf": (Generator(15, 48, 32.54, 2.32, 16), 75.5),
    "800mf": (Generator(14, 56, 38.84, 2.4, 16), 76.3),
    "1_6gf": (Generator(27, 48, 20.71, 2.65, 24), 78.0),
    "3_2gf": (Generator(21, 80, 42.63, 2.66, 24), 79.0),
    "4_0gf": (Generator(22, 96, 31.41, 2.24, 64), 79.4),
    "6_4gf": (Generator(25, 112, 33.22, 2.27, 72), 79.9),
    "8_0gf": (Generator(17, 192, 76.82, 2.19, 56), 79.9),
    "12gf": (Generator(19, 168, 73.36, 2.37, 112), 80.3),
    "16gf": (Generator(18, 200, 106.23, 2.48, 112), 80.4),
    "32gf": (Generator(20, 232, 115.89, 2.53, 232), 81.0),
}
SE_RATIO = 0.25
"""Of RegNetY, relative to the block's input."""


def _members(letter: str, rows: dict[str, tuple[Generator, float]], se_ratio: float) -> tuple[PublishedNetwork, ...]:
    return tuple(
        PublishedNetwork(
            name=f"regnet{letter}_{size}",
            network=regnet(f"regnet{letter}_{size}", generator, se_ratio),
            resolution=224,
            top1=top1,
            source=PAPER,
        )
        for size, (generator, top1) in rows.items()
    )


def _of_torchvision(name: str, generator: Generator, se_ratio: float) -> PublishedNetwork:
    network = regnet(name, generator, se_ratio, round_channels)
    return PublishedNetwork(name=name, network=network, resolution=224, source=TORCHVISION)


MEMBERS: tuple[PublishedNetwork, ...] = (
    *_members("x", X, 0.0),
    *_members("y", Y, SE_RATIO),
    _of_torchvision("regnetx_400mf_torchvision", X["400mf"][0], 0.0),
    _of_torchvision("regnety_800mf_torchvision", Y["800mf"][0], SE_RATIO),
    _of_torchvision("regnety_8_0gf_torchvision", Y["8_0gf"][0], SE_RATIO),
)
