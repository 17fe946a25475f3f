"""The sources of weights: look up their rules and architectures by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triscale.errors import WeightsError, nearest
from triscale.network.spec import Network
from triscale.weights import google, lukemelas, timm, torchvision
from triscale.weights.architecture import Architecture, Rules, SourceName


@dataclass(frozen=True, slots=True)
class WeightSource:
    """The tables of another project.

    Attributes:
        title: The name of the project, for messages.
        rules: From family to name rules.
        architectures: Its networks by name.
        versions: From family to the module versions that its ``load_state_dict`` checks.
    """

    title: str
    rules: dict[str, Rules]
    architectures: dict[str, Architecture]
    versions: dict[str, dict[str, Any]]


def _source(
    title: str,
    rules: dict[str, Rules],
    rows: tuple[Architecture, ...],
    versions: dict[str, dict[str, Any]] | None = None,
) -> WeightSource:
    return WeightSource(title, rules, {row.name: row for row in rows}, versions or {})


SOURCES: dict[SourceName, WeightSource] = {
    "torchvision": _source("torchvision", torchvision.RULES, torchvision.ARCHITECTURES, torchvision.VERSIONS),
    "timm": _source("timm", timm.RULES, timm.ARCHITECTURES),
    "lukemelas": _source("EfficientNet-PyTorch by lukemelas", lukemelas.RULES, lukemelas.ARCHITECTURES),
    "google": _source("Google's TensorFlow checkpoints", google.RULES, google.ARCHITECTURES),
}


def get_source(name: str) -> tuple[SourceName, WeightSource]:
    """Return a source by its name.

    Raises:
        WeightsError: The name is unknown.
    """
    for source_name, source in SOURCES.items():
        if source_name == name:
            return source_name, source
    hint = nearest(name, SOURCES) or f"; the sources are {', '.join(SOURCES)}"
    raise WeightsError(f'there is no source of weights "{name}"{hint}')


def get_architecture(source: str, name: str) -> Architecture:
    """Return a network of a source by name.

    Args:
        source: The name of the source.
        name: The source's name of the network, with or without a suffix after a dot, or Triscale's name.

    Raises:
        WeightsError: Source or name is unknown; the message suggests the nearest.

    Example:
        >>> get_architecture("timm", "tf_efficientnet_b0.ns_jft_in1k").base
        'efficientnet_b0'
    """
    _, tables = get_source(source)
    bare = name.partition(".")[0]
    for candidate in (bare, bare.replace("_", "-")):
        if candidate in tables.architectures:
            return tables.architectures[candidate]
    for row in tables.architectures.values():
        if row.base == bare and row.is_base:
            return row
    hint = nearest(bare, tables.architectures) or f"; it has {', '.join(tables.architectures)}"
    raise WeightsError(f'the network "{name}" of {tables.title} is unknown{hint}')


def network_of(source: str, name: str) -> Network:
    """Return a Network as another project builds it, with its padding and its batch norm's eps and momentum.

    Raises:
        WeightsError: Source or name is unknown.

    Example:
        >>> network_of("timm", "tf_efficientnet_b0").padding
        'same'
    """
    return get_architecture(source, name).network
