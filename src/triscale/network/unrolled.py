"""Write a network with one stage per block, so that each block can have its own inner channels."""

from __future__ import annotations

from collections.abc import Iterator

from triscale.network.spec import Network


def unrolled(network: Network) -> Network:
    """Return a network that computes the same, with a stage for each block; further blocks of a stage have stride 1.

    Example:
        >>> from triscale.families import get
        >>> network = get("efficientnet_b0")
        >>> len(network.stages), len(unrolled(network).stages), network.num_blocks
        (7, 16, 16)
    """
    stages = tuple(
        stage.replace(repeats=1, stride=stage.stride if repeat == 0 else 1)
        for stage in network.stages
        for repeat in range(stage.repeats)
    )
    return network.replace(stages=stages)


def unrolled_prefixes(network: Network) -> Iterator[tuple[str, str]]:
    """Yield the name of each block, with a dot, in the network and in its unrolled form.

    Example:
        >>> from triscale.families import get
        >>> list(unrolled_prefixes(get("efficientnet_b0")))[2]
        ('stages.1.blocks.1.', 'stages.2.blocks.0.')
    """
    total = 0
    for number, stage in enumerate(network.stages):
        for repeat in range(stage.repeats):
            yield f"stages.{number}.blocks.{repeat}.", f"stages.{total}.blocks.0."
            total += 1
