"""A network without its head, for what needs feature maps: detection, segmentation, embeddings."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate

from torch import Tensor, nn

from triscale.errors import NetworkError
from triscale.network.spec import Network
from triscale.nn.build import Classifier, build

REDUCTIONS = (4, 8, 16, 32)


class Backbone(nn.ModuleDict):
    """The stem and the stages of a network, cut where maps are taken.

    The input is ``[N, 3, H, W]``, normalized as for the network itself; the output holds a map
    ``[N, C, H / reduction, W / reduction]`` (rounded up) for each reduction, the finest first, under the names "0",
    "1", ..., as detectors of torchvision expect. The children are called ``reduction_4`` and so on, each what leads
    from the map before to its own: ``torchvision.models.detection.backbone_utils.BackboneWithFPN`` takes them.

    Attributes:
        reductions: Of the maps, in ascending order.
        channels: Of each map.
        out_channels: The same as a list, or a whole number where there is one map, as torchvision asks for.
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
    """Return a network as a backbone; what lies behind the last map is left out.

    Args:
        network: What to build with first weights, or a built network (such as ``Run.model()``), whose modules and
            weights are then shared, in the mode that it is in.
        reductions: Sides of the input over those of the maps; several of those that the network has.

    Raises:
        NetworkError: None, or one that the network does not have.
    """
    model = network if isinstance(network, Classifier) else build(network)
    there = map_places(model.network)
    wanted = sorted(set(reductions))
    missing = [reduction for reduction in wanted if reduction not in there]
    if missing or not wanted:
        given = f"map at reduction {', '.join(map(str, missing))}" if missing else "reduction given; give some of them"
        raise NetworkError(f"{model.network.name} has no {given}: it has maps at {', '.join(map(str, there))}")
    modules = [model.stem, *model.stages]
    widths = [model.network.stem.width, *(stage.width for stage in model.network.stages)]
    parts, begin = {}, 0
    for reduction in wanted:
        end = there[reduction] + 1
        parts[reduction] = nn.Sequential(*modules[begin:end])
        begin = end
    return Backbone(parts, {reduction: widths[there[reduction]] for reduction in wanted})


def map_places(network: Network) -> dict[int, int]:
    """Return the last place with a map at each reduction, the finest first; 0 is the stem, 1 the first stage."""
    first = network.stem.stride * (2 if network.stem.max_pool else 1)
    reached = accumulate((stage.stride for stage in network.stages), operator.mul, initial=first)
    return {reduction: place for place, reduction in enumerate(reached)}
