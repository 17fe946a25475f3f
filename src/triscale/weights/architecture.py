"""What another project calls a network, and what its modules do otherwise than ours: rows of a source's table."""

from __future__ import annotations

from typing import Any, Literal

from triscale.families import get
from triscale.network.spec import BatchNorm, Network, Padding
from triscale.record import Record
from triscale.scaling.apply import scale_to

SourceName = Literal["torchvision", "timm", "lukemelas", "google", "triscale"]
Rules = tuple[tuple[str, str], ...]
"""Pairs of our form and theirs; :mod:`triscale.weights.rules` says how they are written."""


class Architecture(Record):
    """A network of another project.

    Attributes:
        name: what the project calls it.
        family: the key of its rules in the source's table.
        base: the published network of ours that it is, or is scaled from.
        padding: of all convolutions and of the stem's pool.
        norm: batch norm of its modules as they are built.
        depth: multiplier of the repeats.
        width: multiplier of the widths.
        fixed_ends: stem and head keep their widths, first and last stage their repeats.
        head: width of a last 1x1 convolution that the base does not have.
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

    @property
    def network(self) -> Network:
        """The Network that computes what the project's module computes."""
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
            changes["head"] = network.head.model_copy(
                update={"width": self.head, "activation": network.stem.activation}
            )
        if (self.depth, self.width, self.head) != (1.0, 1.0, None):
            changes["name"] = self.name
        return network.replace(**changes)


def _with_fixed_ends(network: Network) -> Network:
    last = len(network.stages) - 1
    return network.replace(
        stem=network.stem.model_copy(update={"width_rule": "fixed"}),
        head=network.head.model_copy(update={"width_rule": "fixed"}),
        stages=tuple(
            stage.model_copy(update={"depth_rule": "fixed"}) if number in (0, last) else stage
            for number, stage in enumerate(network.stages)
        ),
    )
