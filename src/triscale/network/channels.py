"""Numbers of inner channels of blocks: expansions, groups and squeeze-and-excitation."""

from __future__ import annotations

from triscale.network.blocks import Bottleneck, SqueezeRule

MULTIPLE = 8
MIN_RATIO = 0.9


def round_channels(channels: float, multiple: int = MULTIPLE, min_ratio: float = MIN_RATIO) -> int:
    """Round to the nearest multiple, at least one, or up if that would leave less than ``min_ratio``.

    This is the rule of the released MobileNet code (``make_divisible``) for fractional expansions and for
    squeeze-and-excitation.

    Example:
        >>> [round_channels(channels) for channels in (88.08, 11, 184.0)]
        [88, 16, 184]
    """
    rounded = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < min_ratio * channels else rounded


def expanded(channels: int, expansion: float) -> int:
    """Return the inner channels of an inverted bottleneck: exact for a whole expansion, else a multiple of 8.

    Example:
        >>> expanded(80, 2.3), expanded(20, 3)
        (184, 60)
    """
    return channels * expansion if isinstance(expansion, int) else round_channels(channels * expansion)


def squeezed(input_channels: int, map_channels: int, ratio: float, rule: SqueezeRule) -> int:
    """Return the squeezed channels of squeeze-and-excitation.

    Args:
        input_channels: Channels of the block's input.
        map_channels: Channels of the map that is scaled.
        ratio: Ratio to one of them.
        rule: Which of them, and the rounding.

    Example:
        >>> squeezed(40, 120, 0.25, SqueezeRule()), squeezed(40, 120, 0.25, SqueezeRule(of="map", multiple=8))
        (10, 32)
    """
    exact = ratio * (input_channels if rule.of == "input" else map_channels)
    return max(1, int(exact)) if rule.multiple == 1 else round_channels(exact, rule.multiple)


def bottleneck_middle(width: int, block: Bottleneck) -> tuple[int, int]:
    """Return the channels and the groups of a bottleneck's middle convolution.

    The channels are rounded to a multiple of the groups or of their width, without a limit on what that loses.

    Example:
        >>> bottleneck_middle(256, Bottleneck(reduction=2, groups=32)), bottleneck_middle(56, Bottleneck(reduction=1))
        ((128, 32), (56, 1))
        >>> bottleneck_middle(440, Bottleneck(reduction=1, group_width=48))
        (432, 9)
    """
    reduction = block.reduction
    inner = max(1, width // reduction) if isinstance(reduction, int) else max(1, round(width / reduction))
    multiple = min(block.group_width, inner) if block.group_width else block.groups
    if multiple > 1:
        inner = max(multiple, int(inner / multiple + 0.5) * multiple)
    return inner, inner // multiple if block.group_width else block.groups
