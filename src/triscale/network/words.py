"""Networks in the few words that tables have room for."""

from __future__ import annotations

from typing import assert_never

from triscale.network.spec import Basic, Block, Bottleneck, Conv, MBConv, Separable


def block_in_words(block: Block) -> str:
    """Return a block as the field writes it: ``MBConv6 k5 SE 0.25 silu``."""
    match block:
        case MBConv():
            gate = f" SE {block.se_ratio:g}" if block.se_ratio else ""
            return f"MBConv{block.expansion} k{block.kernel}{gate} {block.activation}"
        case Separable():
            return f"separable k{block.kernel} {block.activation}"
        case Bottleneck():
            return f"bottleneck k{block.kernel} {block.activation}"
        case Basic():
            return f"basic k{block.kernel} {block.activation}"
        case Conv():
            return f"conv k{block.kernel} {block.activation}"
        case _:
            assert_never(block)
