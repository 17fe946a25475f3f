"""Our weights back to another project's state dict."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from torch import Tensor

from triscale.network.spec import Network
from triscale.weights.contract import WeightsContract, check_fits
from triscale.weights.rules import to_theirs
from triscale.weights.sources import architecture_named, source_named


def export_state(state: Mapping[str, Tensor], network: Network, source: str, name: str) -> OrderedDict[str, Tensor]:
    """Return a state dict that the other project's own ``load_state_dict(strict=True)`` takes; nothing is copied.

    Args:
        state: what ``build(network).state_dict()`` holds.
        network: what the state is of; it must compute what the other project's module computes.
        source: ``torchvision`` or ``timm``, or ``lukemelas``.
        name: what the source calls the network, such as ``tf_efficientnet_b0``.

    Raises:
        WeightsError: source or name is not known, or the Network computes something else; the message names each field.
        NetworkError: a parameter that their network does not have.
    """
    known, found = source_named(source)
    architecture = architecture_named(source, name)
    theirs = architecture.network.replace(classes=network.classes)
    check_fits(WeightsContract(source=known, name=name, architecture=architecture.name, network=theirs), network)
    return to_theirs(state, network, found.rules[architecture.family], found.versions.get(architecture.family))
