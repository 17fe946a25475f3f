"""Models for PyTorch, with published weights where asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from torch import Tensor, nn

from triscale.errors import NetworkError, WeightsError
from triscale.families.find import as_network
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import RGB, Network
from triscale.nn import backbone as backbones
from triscale.nn.backbone import REDUCTIONS, Backbone
from triscale.nn.build import build as build_network
from triscale.nn.classifier import Classifier
from triscale.weights.catalog import best_for
from triscale.weights.channels import with_channels
from triscale.weights.contract import check_fits
from triscale.weights.load import LoadedWeights, find_weights, read_state

HEAD = "head.classifier."


def create_model(
    network: str | Path | AnyNetwork,
    pretrained: bool | str = False,
    *,
    num_classes: int | None = None,
    in_channels: int = RGB,
    drop_rate: float | None = None,
    drop_path_rate: float | None = None,
    checkpoint: str | Path | None = None,
    offline: bool = False,
) -> nn.Module:
    """Create a model, as ``timm.create_model`` does.

    With ``pretrained`` the padding and the batch norm parameters are those of the source, so that the model computes
    what the source's own module computes. A classifier for another number of classes starts with random weights. The
    first convolution is adapted to other than three channels: for one channel its weights are summed over the colors;
    for more they are repeated and multiplied by ``3 / in_channels``, which keeps the size of its outputs.

    Args:
        network: A name such as ``efficientnet_b0`` or ``efficientnet_b0@128``, a .json file, a :class:`Network`, or
            ``package.module:function`` for a custom model.
        pretrained: True for the default published weights of the name, or which weights: a published name
            (``triscale weights list``), a file, or a run's directory.
        num_classes: Number of outputs; 0 for none, so that the model returns ``[N, num_features]``. By default those of
            the network.
        in_channels: Channels of the input.
        drop_rate: Rate of dropout before the classifier. By default that of the network.
        drop_path_rate: Rate of stochastic depth of the last block. By default that of the network.
        checkpoint: A run's directory or a file of weights for exactly this model, loaded last; also a state dict that
            another training loop saved.
        offline: Whether to use only the cache for published weights.

    Returns:
        The module in training mode: normalized ``[N, in_channels, H, W]`` to logits ``[N, num_classes]``. For a
        network as data it is a :class:`Classifier`; its ``preprocessing`` says what pretrained weights expect.

    Raises:
        NetworkError: The network is unknown, or an option does not apply to it.
        WeightsError: The weights are unknown, cannot be downloaded, or belong to another network.

    Example:
        >>> import torch
        >>> model = create_model("efficientnet_b0", num_classes=10, in_channels=1).eval()
        >>> tuple(model(torch.zeros(2, 1, 64, 64)).shape)
        (2, 10)
    """
    requested = as_network(network)
    if isinstance(requested, CustomNetwork):
        return _custom(requested, num_classes, pretrained, in_channels, (drop_rate, drop_path_rate, checkpoint))
    loaded = None
    if pretrained:
        reference = best_for(_published_name(network)).title if pretrained is True else str(pretrained)
        loaded = find_weights(reference, offline=offline)
        requested = _of_weights(requested, loaded, explicit=isinstance(network, Network))
    changes: dict[str, object] = {"in_channels": in_channels}
    given = {"classes": num_classes or None, "dropout": drop_rate, "drop_path": drop_path_rate}
    changes |= {name: value for name, value in given.items() if value is not None}
    model = build_network(requested.replace(**changes))
    if loaded is not None:
        state = _state_for(loaded, model.network)
        model.load_state_dict(state, strict=False)
        model.preprocessing = loaded.weights.preprocessing
    if num_classes == 0:
        model.reset_classifier(0)
    if checkpoint is not None:
        _load_checkpoint(model, checkpoint)
    return model


@overload
def build(network: Network) -> Classifier: ...
@overload
def build(network: CustomNetwork | str | Path) -> nn.Module: ...
def build(network: str | Path | AnyNetwork) -> nn.Module:
    """Build the torch module of a network with random weights; :func:`create_model` has more options.

    Args:
        network: A network, its name, its .json file, or ``package.module:function``.

    Returns:
        The module in training mode: ``[N, in_channels, H, W]`` to logits ``[N, classes]``.

    Raises:
        NetworkError: The network is unknown, or the function of a custom model cannot be found or called.

    Example:
        >>> import torch
        >>> tuple(build("efficientnet_b0@32").eval()(torch.zeros(1, 3, 32, 32)).shape)
        (1, 1000)
    """
    return build_network(as_network(network))


def backbone(network: str | Path | Network | Classifier, reductions: Sequence[int] = REDUCTIONS) -> Backbone:
    """Return a network without its head, as a feature extractor for detection or segmentation.

    Args:
        network: A network to build with random weights, given as an object, a name or a file, or a built one, whose
            modules and weights are shared.
        reductions: Input side divided by the side of each map; one or more of those that the network has.

    Returns:
        A module from ``[N, 3, H, W]`` to the feature maps by the names "0", "1", ..., the finest first.

    Raises:
        NetworkError: The network is unknown or a custom model, or has no map at a reduction.

    Example:
        >>> import torch
        >>> maps = backbone("resnet18", (8, 16)).eval()(torch.zeros(1, 3, 64, 64))
        >>> {name: tuple(features.shape) for name, features in maps.items()}
        {'0': (1, 128, 8, 8), '1': (1, 256, 4, 4)}
    """
    if isinstance(network, Classifier):
        return backbones.backbone(network, reductions)
    found = as_network(network)
    if isinstance(found, CustomNetwork):
        raise NetworkError(f"{found.name} is a custom model, whose feature maps are not known; give a network as data")
    return backbones.backbone(found, reductions)


def _published_name(network: object) -> str:
    name = network.name if isinstance(network, Network) else str(network)
    return name.partition("@")[0]


def _of_weights(requested: Network, loaded: LoadedWeights, *, explicit: bool) -> Network:
    """Return the network of weights, with the requested name, resolution, classes and drop rates."""
    theirs = loaded.weights.network
    if explicit:
        check_fits(loaded.weights, requested, drop_head=True)
    else:
        # The source's padding and batch norm are adopted; everything else must be equal.
        adopted = requested.replace(padding=theirs.padding, norm=theirs.norm)
        check_fits(loaded.weights, adopted, drop_head=True)
    return theirs.replace(name=requested.name, dropout=requested.dropout, drop_path=requested.drop_path)


def _state_for(loaded: LoadedWeights, network: Network) -> dict[str, Tensor]:
    drop_head = network.classes != loaded.weights.network.classes
    state = {name: tensor for name, tensor in loaded.state.items() if not (drop_head and name.startswith(HEAD))}
    return with_channels(state, network.in_channels)


def _load_checkpoint(model: nn.Module, checkpoint: str | Path) -> None:
    state = read_state(str(checkpoint))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reasons = " ".join(str(error).split())
        raise WeightsError(f"{checkpoint} does not hold the weights of this model: {reasons[:300]}") from error


def _custom(
    network: CustomNetwork,
    num_classes: int | None,
    pretrained: bool | str,
    in_channels: int,
    others: tuple[object, ...],
) -> nn.Module:
    if pretrained or in_channels != RGB or num_classes == 0 or any(value is not None for value in others):
        raise NetworkError(
            f"{network.name} is a custom model, which is what its function returns; only num_classes applies to it"
        )
    return build_network(network if num_classes is None else network.replace(classes=num_classes))
