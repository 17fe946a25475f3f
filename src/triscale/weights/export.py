"""Convert weights to the state dict of another project."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor

from triscale.network.spec import Network
from triscale.weights.contract import WeightsContract, check_fits
from triscale.weights.rules import from_triscale
from triscale.weights.sources import get_architecture, get_source


def export_state(state: Mapping[str, Tensor], network: Network, source: str, name: str) -> OrderedDict[str, Tensor]:
    """Return a state dict for the other project's ``load_state_dict(strict=True)``; no tensor is copied.

    Args:
        state: The result of ``build(network).state_dict()``.
        network: The Network of the state; it must compute the same function as the other project's module.
        source: ``torchvision``, ``timm`` or ``lukemelas``.
        name: The source's name of the network, such as ``tf_efficientnet_b0``.

    Raises:
        WeightsError: Source or name is unknown, or the Network differs; the message lists each field.
        NetworkError: The other project's network lacks a parameter.

    Example:
        >>> from triscale.weights.rules import expected_state
        >>> from triscale.weights.sources import network_of
        >>> network = network_of("torchvision", "resnet18")
        >>> next(iter(export_state(expected_state(network), network, "torchvision", "resnet18")))
        'conv1.weight'
    """
    source_name, tables = get_source(source)
    architecture = get_architecture(source, name)
    theirs = architecture.network.replace(classes=network.classes)
    check_fits(WeightsContract(source=source_name, name=name, architecture=architecture.name, network=theirs), network)
    rules, versions = tables.rules[architecture.family], tables.versions.get(architecture.family)
    return from_triscale(state, network, rules, versions, groups=architecture.groups)
