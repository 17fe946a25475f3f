"""What travels with weights: the Network they need, the images they expect, and where they come from. No torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from triscale.errors import WeightsError
from triscale.network.contract import Preprocessing
from triscale.network.spec import Network
from triscale.record import Record
from triscale.weights.architecture import SourceName

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8,64}$")]
"""SHA-256 in hexadecimal, or its first digits where no more is published."""

NOT_COMPUTED = frozenset({"name", "resolution", "dropout", "drop_path", "momentum", "width_rule", "depth_rule"})
"""Fields of a Network that say nothing about what its weights compute."""


class Accuracy(Record):
    """Published shares of right answers in percent, with how they were taken."""

    top1: float = Field(ge=0, le=100)
    top5: float | None = Field(default=None, ge=0, le=100)
    protocol: str


class WeightsContract(Record):
    """The contract of weights; None stands for what is not known.

    Attributes:
        source: whose names the original file uses.
        name: which of the source's weights they are.
        architecture: what the source calls the network.
        network: the Network that they need, with padding, batch norm, activation and number of classes.
        preprocessing: how an image becomes the input.
        classes: the names of the outputs, in their order.
        license: as an SPDX name in lower case.
        accuracy: as published.
        sha256: of the original file.
        address: where the original file is.
        hub: its repository on the Hugging Face hub.
    """

    kind_name: ClassVar[str] = "weights"

    source: SourceName
    name: str
    architecture: str
    network: Network
    preprocessing: Preprocessing | None = None
    classes: tuple[str, ...] | None = None
    license: str | None = None
    accuracy: Accuracy | None = None
    sha256: Digest | None = None
    address: str | None = None
    hub: str | None = None

    @property
    def title(self) -> str:
        """Source and name, as the catalog lists them."""
        return f"{self.source}/{self.name}"

    def replace(self, **changes: Any) -> WeightsContract:
        """Return a copy with some fields changed, validated again.

        Raises:
            RecordError: a field that does not exist or a value that does not fit.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return WeightsContract.parse(fields | changes, f"the changed {self.title}")


def check_fits(weights: WeightsContract, network: Network, *, drop_head: bool = False) -> None:
    """Make sure that a Network computes what the weights were trained in.

    Name, resolution, drop rates and the rules of scaling may differ; with ``drop_head`` the number of classes too.

    Raises:
        WeightsError: it does not; the message names each field, with what was given and what is expected.
    """
    differing = differences(network, weights.network, drop_head=drop_head)
    if differing:
        raise WeightsError(
            f"{weights.title} does not fit {network.name}: {', '.join(differing)}; "
            f"build the network that the weights carry, or take weights of this one"
        )


def differences(given: Network, expected: Network, *, drop_head: bool = False) -> list[str]:
    """Return in words the fields in which a Network computes something else than another, with both values."""
    ignored = NOT_COMPUTED | ({"classes"} if drop_head else set())
    return list(_differences(given.model_dump(mode="json"), expected.model_dump(mode="json"), ignored))


def _differences(given: Any, expected: Any, ignored: frozenset[str] | set[str], place: str = "") -> list[str]:
    if isinstance(given, dict) and isinstance(expected, dict):
        if given.get("kind") != expected.get("kind"):
            return [f"{place} is {given.get('kind')}, expected {expected.get('kind')}"]
        found = []
        for key in expected:
            if key not in ignored:
                found += _differences(given.get(key), expected[key], ignored, f"{place}.{key}" if place else key)
        return found
    if isinstance(given, list) and isinstance(expected, list):
        if len(given) != len(expected):
            return [f"{place} are {len(given)}, expected {len(expected)}"]
        found = []
        for number, (one, other) in enumerate(zip(given, expected, strict=True)):
            found += _differences(one, other, ignored, f"{place}.{number}")
        return found
    return [] if given == expected else [f"{place} is {given}, expected {expected}"]
