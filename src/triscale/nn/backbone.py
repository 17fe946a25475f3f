"""Feature extractors: a network without its head, for detection, segmentation and embeddings."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from triscale.errors import NetworkError
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.nn.classifier import Classifier, module_indices

REDUCTIONS = (4, 8, 16, 32)


class Backbone(nn.ModuleDict):
    """The stem and the stages of a network, split at the returned feature maps.

    The input is ``[N, 3, H, W]``, normalized as for the network itself. The output holds a map
    ``[N, C, H / reduction, W / reduction]`` (rounded up) for each reduction, the finest first, under the names "0",
    "1", ..., as torchvision's detectors expect. The children ``reduction_4`` and so on lead from the previous map to
    their own, which ``torchvision.models.detection.backbone_utils.BackboneWithFPN`` accepts.

    Attributes:
        reductions: Reductions of the maps, in ascending order.
        channels: Channels of each map.
        out_channels: The same as a list, or as an integer for a single map, as torchvision expects.
    """

    def __init__(self, parts: dict[int, nn.Sequential], channels: dict[int, int]) -> None:
        super().__init__({f"reduction_{reduction}": part for reduction, part in parts.items()})
        self.reductions = tuple(parts)
        self.channels = tuple(channels[reduction] for reduction in parts)
        self.out_channels: int | list[int] = self.channels[0] if len(parts) == 1 else list(self.channels)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the maps by the names "0", "1", ..., the finest first."""
        maps = OrderedDict[str, Tensor]()
        for number, part in enumerate(self.values()):
            images = part(images)
            maps[str(number)] = images
        return maps


def backbone(network: Network | Classifier, reductions: Sequence[int] = REDUCTIONS) -> Backbone:
    """Return a network as a backbone, without the layers after the last map.

    Args:
        network: A network to build with random weights, or a built one (such as ``Run.model()``), whose modules and
            weights are shared; its training or evaluation mode is kept.
        reductions: Input side divided by the side of each map; one or more of those that the network has.

    Returns:
        A module that maps ``[N, 3, H, W]`` to the feature maps, in the mode of the given module.

    Raises:
        NetworkError: No reduction is given, or one that the network does not have.

    Example:
        >>> import torch
        >>> from triscale.families import get
        >>> maps = backbone(get("efficientnet_b0@64"), (8, 16)).eval()(torch.zeros(1, 3, 64, 64))
        >>> {name: tuple(features.shape) for name, features in maps.items()}
        {'0': (1, 112, 8, 8), '1': (1, 320, 4, 4)}
    """
    model = network if isinstance(network, Classifier) else build(network)
    available = module_indices(model.network)
    requested = sorted(set(reductions))
    missing = [reduction for reduction in requested if reduction not in available]
    if missing or not requested:
        given = f"map at reduction {', '.join(map(str, missing))}" if missing else "reduction given; give some of them"
        raise NetworkError(f"{model.network.name} has no {given}: it has maps at {', '.join(map(str, available))}")
    modules = [model.stem, *model.stages]
    widths = [model.network.stem.width, *(stage.width for stage in model.network.stages)]
    parts, begin = {}, 0
    for reduction in requested:
        end = available[reduction] + 1
        parts[reduction] = nn.Sequential(*modules[begin:end])
        begin = end
    return Backbone(parts, {reduction: widths[available[reduction]] for reduction in requested})
