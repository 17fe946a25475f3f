"""Published networks as tables: one module a family, a variant is a row."""

from __future__ import annotations

from triscale.errors import NetworkError, nearest
from triscale.families import efficientnet, mnasnet, mobilenet, resnet
from triscale.families.published import PublishedFigures
from triscale.families.small import at_resolution
from triscale.network.spec import Network

__all__ = ["FAMILIES", "Published", "get", "names", "published"]

FAMILIES: dict[str, tuple[PublishedFigures, ...]] = {
    "EfficientNet": efficientnet.MEMBERS,
    "EfficientNet-Lite": efficientnet.LITE_MEMBERS,
    "MobileNetV1": mobilenet.V1_MEMBERS,
    "MobileNetV2": mobilenet.V2_MEMBERS,
    "MnasNet": mnasnet.MEMBERS,
    "ResNet": resnet.MEMBERS,
}

MAX_RESOLUTION = 4096

_BY_NAME: dict[str, PublishedFigures] = {member.name: member for members in FAMILIES.values() for member in members}


def names() -> tuple[str, ...]:
    """Return the names of all published networks, family by family."""
    return tuple(_BY_NAME)


def published(name: str) -> PublishedFigures:
    """Return a published network with its row of the family's table.

    Raises:
        NetworkError: no such name; the message lists the nearest.
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        hint = nearest(name, _BY_NAME) or f"; the names are {', '.join(_BY_NAME)}"
        raise NetworkError(f'there is no network "{name}"{hint}') from None


def get(name: str) -> Network:
    """Return a published network by its name, or for images of another size by ``NAME@PIXELS``.

    The latter keeps its strides only where they leave a map: see :func:`triscale.families.small.at_resolution`.

    Raises:
        NetworkError: no such name, or no such size; the message lists the nearest names.
    """
    known, at, pixels = name.partition("@")
    network = published(known).network
    if not at:
        return network
    if not (pixels.isascii() and pixels.isdigit() and 1 <= int(pixels) <= MAX_RESOLUTION):
        raise NetworkError(f'"{name}" names no size; expected pixels along a side after the @, such as {known}@32')
    return at_resolution(network, int(pixels))
