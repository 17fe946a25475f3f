"""Published networks as tables: one module per family, one row per variant."""

from __future__ import annotations

from triscale.errors import NetworkError, UserError, nearest
from triscale.families import (
    edgetpu,
    efficientnet,
    efficientnet_v2,
    mcunet,
    mnasnet,
    mobilenet,
    mobilenet_v3,
    mobilenet_v4,
    regnet,
    resnet,
    resnet_rs,
    tinynet,
)
from triscale.families.published import PublishedNetwork
from triscale.families.small import at_resolution
from triscale.network.input_size import parse_size
from triscale.network.spec import Network

__all__ = ["FAMILIES", "PublishedNetwork", "get", "names", "published"]

FAMILIES: dict[str, tuple[PublishedNetwork, ...]] = {
    "EfficientNet": efficientnet.MEMBERS,
    "EfficientNet-Lite": efficientnet.LITE_MEMBERS,
    "MobileNetV1": mobilenet.V1_MEMBERS,
    "MobileNetV2": mobilenet.V2_MEMBERS,
    "MnasNet": mnasnet.MEMBERS,
    "ResNet": resnet.MEMBERS,
    "EfficientNetV2": efficientnet_v2.MEMBERS,
    "EfficientNet-EdgeTPU": edgetpu.MEMBERS,
    "TinyNet": tinynet.MEMBERS,
    "MobileNetV3": mobilenet_v3.MEMBERS,
    "MobileNetV4": mobilenet_v4.MEMBERS,
    "ResNeXt": resnet.RESNEXT_MEMBERS,
    "Wide ResNet": resnet.WIDE_MEMBERS,
    "RegNet": regnet.MEMBERS,
    "ResNet-RS": resnet_rs.MEMBERS,
    "MCUNet": mcunet.MEMBERS,
}

_BY_NAME: dict[str, PublishedNetwork] = {member.name: member for members in FAMILIES.values() for member in members}


def names() -> tuple[str, ...]:
    """List all published networks.

    Returns:
        Their names, ordered by family.

    Example:
        >>> names()[:2]
        ('efficientnet_b0', 'efficientnet_b1')
    """
    return tuple(_BY_NAME)


def published(name: str) -> PublishedNetwork:
    """Return a published network with the authors' figures.

    Args:
        name: Name of the network, one of :func:`names`.

    Returns:
        The network, and where its figures were published.

    Raises:
        NetworkError: The name is unknown; the message suggests the nearest.

    Example:
        >>> published("efficientnet_b7").top1
        84.3
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        hint = nearest(name, _BY_NAME) or f"; the names are {', '.join(_BY_NAME)}"
        raise NetworkError(f'there is no network "{name}"{hint}') from None


def get(name: str) -> Network:
    """Return a published network by its name, or adapted to another image size by ``NAME@SIZE``.

    The adapted network may have fewer strides, see :func:`triscale.families.small.at_resolution`.

    Args:
        name: One of :func:`names`, optionally followed by ``@`` and the side of the image in pixels, or its width and
            height as in ``@720x184``.

    Returns:
        The network for 1,000 classes.

    Raises:
        NetworkError: The name or the size is unknown; the message suggests the nearest names.

    Example:
        >>> get("efficientnet_b0").resolution, get("efficientnet_b0@32").total_stride
        (224, 8)
        >>> get("efficientnet_b0@720x184").input_shape
        (3, 184, 720)
    """
    known, at, pixels = name.partition("@")
    network = published(known).network
    if not at:
        return network
    try:
        return at_resolution(network, parse_size(pixels))
    except UserError as error:
        raise NetworkError(f"{name}: {error}; write {known}@32 or {known}@720x184") from None
