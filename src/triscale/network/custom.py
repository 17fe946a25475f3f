"""A custom model: a function of depth, width and classes that returns a torch module."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, PositiveFloat, PositiveInt

from triscale.network.input_size import SQUARE, AspectRatio, ImageShape, SizedRecord
from triscale.network.spec import RGB, Network
from triscale.record import digest


class CustomNetwork(SizedRecord):
    """A custom model, built by ``function``, given as ``package.module:function``.

    The function is called as ``build(depth, width, classes)`` with the multipliers of depth and width, also with
    ``in_channels`` and ``image_size`` (height and width) if it has parameters of these names; ``timm:NAME`` and
    ``torchvision:NAME`` are models of these libraries. It returns a torch module from ``[N, in_channels, height,
    width]`` to ``[N, classes]``. ``total_stride`` is the side of the input divided by that of the last feature map;
    resolutions are rounded to multiples of half of it.

    Example:
        >>> CustomNetwork(name="mine", function="my_package.models:build").resolution
        224
    """

    kind_name: ClassVar[str] = "custom_network"
    sparse: ClassVar[tuple[str, ...]] = ("aspect_ratio", "in_channels")

    name: str = Field(min_length=1)
    function: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    depth: PositiveFloat = 1.0
    width: PositiveFloat = 1.0
    resolution: PositiveInt = 224
    aspect_ratio: AspectRatio = SQUARE
    in_channels: PositiveInt = RGB
    classes: PositiveInt = 1000
    total_stride: PositiveInt = 32

    @property
    def input_shape(self) -> ImageShape:
        """Channels, height and width of the input image."""
        return self.size.shape(self.in_channels)

    @property
    def structure(self) -> str:
        """Digest of everything but the name."""
        return digest(self.model_dump(mode="json", exclude={"name"}))


AnyNetwork = Network | CustomNetwork
