"""The metadata of weights: the network they need, the preprocessing they expect, and their origin. No torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from triscale.errors import WeightsError
from triscale.network.contract import Preprocessing, WeightsOrigin
from triscale.network.spec import Network
from triscale.record import Record
from triscale.weights.architecture import SourceName

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
"""SHA-256 in hexadecimal, or its first digits if only those are published."""

IRRELEVANT_FIELDS = frozenset(
    {"name", "resolution", "aspect_ratio", "dropout", "drop_path", "momentum", "width_rule", "depth_rule"}
)
"""Fields of a Network that do not affect the function that its weights compute."""


class Accuracy(Record):
    """Published accuracies in percent, with the evaluation protocol."""

    top1: float = Field(ge=0, le=100)
    top5: float | None = Field(default=None, ge=0, le=100)
    protocol: str


class WeightsContract(Record):
    """The metadata of weights; None means unknown.

    Attributes:
        source: The project whose parameter names the original file uses.
        name: The source's name of the weights.
        architecture: The source's name of the network.
        network: The Network that they need, with padding, batch norm, activation and number of classes.
        preprocessing: How an image becomes network input.
        classes: The class names, in the order of the outputs.
        license: SPDX identifier or expression in lower case.
        accuracy: The published accuracy.
        sha256: SHA-256 of the original file.
        url: URL of the original file.
        hub: Its repository on the Hugging Face Hub.
    """

    kind_name: ClassVar[str] = "weights"
    schema_number: ClassVar[int] = 2

    source: SourceName
    name: str
    architecture: str
    network: Network
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    license: str | None = None
    accuracy: Accuracy | None = None
    sha256: Digest | None = None
    url: str | None = None
    hub: str | None = None

    @property
    def title(self) -> str:
        """Source and name, as the catalog lists them."""
        return f"{self.source}/{self.name}"

    @property
    def origin(self) -> WeightsOrigin:
        """What a network that is trained from the weights says about them."""
        return WeightsOrigin(weights=self.title, license=self.license, sha256=self.sha256, url=self.url, hub=self.hub)


def check_fits(weights: WeightsContract, network: Network, *, drop_head: bool = False) -> None:
    """Check that a Network computes the same function as the network that the weights were trained in.

    Name, resolution, drop rates and scaling rules may differ.

    Args:
        weights: The metadata of the weights.
        network: The Network to load them into.
        drop_head: Whether the number of classes may differ too.

    Raises:
        WeightsError: The network differs; the message lists each field with the given and the expected value.
    """
    differing = differences(network, weights.network, drop_head=drop_head)
    if differing:
        raise WeightsError(
            f"{weights.title} does not fit {network.name}: {', '.join(differing)}; "
            f"build the network of the weights, or use weights of this one"
        )


def differences(given: Network, expected: Network, *, drop_head: bool = False, any_channels: bool = False) -> list[str]:
    """Describe the fields that make one Network compute a different function than another.

    Args:
        given: The Network that is given.
        expected: The Network to compare it with.
        drop_head: Whether to ignore the number of classes.
        any_channels: Whether to ignore the channels of the input, to which the first convolution can be adapted.

    Example:
        >>> from triscale.families import get
        >>> network = get("resnet18")
        >>> differences(network.replace(classes=10), network)
        ['classes is 10, expected 1000']
    """
    ignored = IRRELEVANT_FIELDS | ({"classes"} if drop_head else set()) | ({"in_channels"} if any_channels else set())
    one, other = ({"in_channels": side.in_channels, **side.model_dump(mode="json")} for side in (given, expected))
    return list(_differences(one, other, ignored))


def _differences(given: Any, expected: Any, ignored: frozenset[str] | set[str], path: str = "") -> list[str]:
    if isinstance(given, dict) and isinstance(expected, dict):
        if given.get("kind") != expected.get("kind"):
            return [f"{path} is {given.get('kind')}, expected {expected.get('kind')}"]
        fields = []
        for key in expected | given:  # a sparse record leaves out fields at their defaults
            if key not in ignored:
                fields += _differences(given.get(key), expected.get(key), ignored, f"{path}.{key}" if path else key)
        return fields
    if isinstance(given, list) and isinstance(expected, list):
        if len(given) != len(expected):
            return [f"{path} are {len(given)}, expected {len(expected)}"]
        fields = []
        for number, (one, other) in enumerate(zip(given, expected, strict=True)):
            fields += _differences(one, other, ignored, f"{path}.{number}")
        return fields
    return [] if given == expected else [f"{path} is {given}, expected {expected}"]
