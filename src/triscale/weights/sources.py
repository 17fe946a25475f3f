"""All sources side by side: their rules and architectures, found by name."""

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
        title: the project in words.
        rules: family -> names.
        architectures: its networks by their names.
        versions: family -> what its ``load_state_dict`` asks for.
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


def source_named(name: str) -> tuple[SourceName, WeightSource]:
    """Return a source by its name.

    Raises:
        WeightsError: there is none of that name.
    """
    for known, source in SOURCES.items():
        if known == name:
            return known, source
    hint = nearest(name, SOURCES) or f"; the sources are {', '.join(SOURCES)}"
    raise WeightsError(f'there is no source of weights "{name}"{hint}')


def architecture_named(source: str, name: str) -> Architecture:
    """Return a network of a source: by their name, with or without what follows a dot, or by ours.

    Raises:
        WeightsError: the source has none of that name; the message lists the nearest.
    """
    _, found = source_named(source)
    bare = name.partition(".")[0]
    for candidate in (bare, bare.replace("_", "-")):
        if candidate in found.architectures:
            return found.architectures[candidate]
    for row in found.architectures.values():
        if row.base == bare and (row.depth, row.width, row.head) == (1.0, 1.0, None):
            return row
    hint = nearest(bare, found.architectures) or f"; it has {', '.join(found.architectures)}"
    raise WeightsError(f'{found.title} has no network "{name}" that Triscale knows{hint}')


def network_of(source: str, name: str) -> Network:
    """Return a network as another project builds it: its padding, and its batch norm's eps and momentum.

    Raises:
        WeightsError: the source, or a network of that name there, is not known.
    """
    return architecture_named(source, name).network
