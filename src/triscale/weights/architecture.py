"""The architectures of other projects: their names, and how their modules differ from ours."""

from __future__ import annotations

from typing import Any, Literal

from triscale.families import get
from triscale.network.spec import BatchNorm, Network, Padding
from triscale.record import Record
from triscale.scaling.apply import scale_to

SourceName = Literal["torchvision", "timm", "lukemelas", "google", "triscale"]
Rules = tuple[tuple[str, str], ...]
"""Pairs of a pattern for our names and a template for theirs, see :mod:`triscale.weights.rules`."""


class Architecture(Record):
    """A network of another project.

    Attributes:
        name: The project's name for it.
        family: The key of its rules in the source's table.
        base: The network in :mod:`triscale.families` that it equals or is scaled from.
        padding: Padding of all convolutions and of the pooling in the stem.
        norm: Batch norm parameters of its modules.
        depth: Multiplier of the repeats.
        width: Multiplier of the widths.
        fixed_ends: Whether stem and head keep their widths, and the first and last stage their repeats.
        head: Width of a final 1x1 convolution that the base does not have.
        groups: How many of our stages each of its stages has; empty if one each.

    Example:
        >>> norm = BatchNorm(eps=1e-5, momentum=0.1)
        >>> row = Architecture(
        ...     name="mobilenetv2_050",
        ...     family="inverted",
        ...     base="mobilenet_v2",
        ...     padding="symmetric",
        ...     norm=norm,
        ...     width=0.5,
        ... )
        >>> row.network.stem.width
        16
    """

    name: str
    family: str
    base: str
    padding: Padding
    norm: BatchNorm
    depth: float = 1.0
    width: float = 1.0
    fixed_ends: bool = False
    head: int | None = None
    groups: tuple[int, ...] = ()

    @property
    def is_base(self) -> bool:
        """Whether it is the network ``base`` itself, not a scaled one."""
        return (self.depth, self.width, self.head) == (1.0, 1.0, None)

    @property
    def network(self) -> Network:
        """The Network that computes the same function as the project's module."""
        network = get(self.base)
        if (self.depth, self.width) != (1.0, 1.0):
            network = scale_to(
                _with_fixed_ends(network) if self.fixed_ends else network,
                depth=self.depth,
                width=self.width,
                resolution=network.resolution,
            )
        changes: dict[str, Any] = {"padding": self.padding, "norm": self.norm}
        if self.head is not None:
            changes["head"] = network.head.replace(width=self.head, activation=network.stem.activation)
        if not self.is_base:
            changes["name"] = self.name
        return network.replace(**changes)


def _with_fixed_ends(network: Network) -> Network:
    last = len(network.stages) - 1
    return network.replace(
        stem=network.stem.replace(width_rule="fixed"),
        head=network.head.replace(width_rule="fixed"),
        stages=tuple(
            stage.replace(depth_rule="fixed") if number in (0, last) else stage
            for number, stage in enumerate(network.stages)
        ),
    )
