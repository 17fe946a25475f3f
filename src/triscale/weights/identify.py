"""Find out which networks a state dict may belong to, by its names and shapes."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from triscale.weights.architecture import Architecture, Rules
from triscale.weights.channels import STEM
from triscale.weights.rules import HEAD, NUM_BATCHES_TRACKED, their_shapes
from triscale.weights.sources import SOURCES

MAX_SHOWN = 6


def identify(state: Mapping[str, Tensor]) -> tuple[tuple[str, str], ...]:
    """Return source and name of each network whose parameters, apart from the classifier, are all in a state dict.

    Networks that differ only in padding or batch norm have the same names and shapes, so there may be several.

    Args:
        state: The tensors of a file, by their names there, in any wrapper.

    Example:
        >>> from triscale.weights.rules import expected_state, from_triscale
        >>> from triscale.weights.sources import network_of
        >>> network = network_of("timm", "tf_efficientnet_lite0")
        >>> state = from_triscale(expected_state(network), network, SOURCES["timm"].rules["inverted"])
        >>> identify(state)
        (('timm', 'efficientnet_lite0'), ('timm', 'tf_efficientnet_lite0'))
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    found: list[tuple[str, str]] = []
    same: dict[str, bool] = {}
    for source, tables in SOURCES.items():
        for architecture in tables.architectures.values():
            rules = tables.rules[architecture.family]
            key = f"{source} {architecture.base} {architecture.depth} {architecture.width} {architecture.head}"
            if key not in same:  # those that differ in padding or batch norm only
                same[key] = _may_be(shapes, architecture, rules)
            if same[key]:
                found.append((source, architecture.name))
    return tuple(found)


def import_first(file: Path, state: Mapping[str, Tensor]) -> str:
    """Return a sentence with what to type for a file that does not say which network it belongs to.

    Args:
        file: The file.
        state: Its tensors.
    """
    candidates = identify(state)
    source, name = candidates[0] if candidates else ("SOURCE", "NAME")
    out = file.with_name(f"{file.name.partition('.')[0]}.triscale.safetensors")
    command = f"triscale weights import {shlex.quote(str(file))} --source {source} --name {name} --out "
    message = f"{file} does not say which network it belongs to; import it first: {command}{shlex.quote(str(out))}"
    if not candidates:
        return f"{message} (sources: {', '.join(SOURCES)}; its names and shapes are those of no known network)"
    if len(candidates) > 1:
        others = ", ".join("/".join(one) for one in candidates[1:MAX_SHOWN])
        message += f" (by its names and shapes it may also be {others}: their padding or batch norm differs)"
    return message


def other_networks(state: Mapping[str, Tensor], source: str, name: str) -> str:
    """Return the end of a sentence about the networks whose names and shapes these are, if they are of others.

    Args:
        state: The tensors of a file.
        source: The source that was given.
        name: The network that was given.
    """
    others = [f"--source {one[0]} --name {one[1]}" for one in identify(state) if one != (source, name)]
    return f"; the names and shapes are those of {' or '.join(others[:MAX_SHOWN])}" if others else ""


def _may_be(shapes: Mapping[str, tuple[int, ...]], architecture: Architecture, rules: Rules) -> bool:
    network, templates = architecture.network, dict(rules)
    first = f"{templates['stem.conv']}.weight"
    # The names of a network take some milliseconds, comparing its first convolution no time.
    prefixes = [
        name.removesuffix(first)
        for name, shape in shapes.items()
        if (name == first or name.endswith(f".{first}")) and shape[:1] == (network.stem.width,)
    ]
    if not prefixes:
        return False
    body = {
        theirs: shape
        for name, (theirs, shape) in their_shapes(network, rules, architecture.groups).items()
        if not name.startswith(HEAD) and name != STEM
    }
    # A deeper network, or one with a wider head, has all parameters of this one and more of the same modules.
    roots = {name.partition(".")[0] for name in body} | {
        templates[name] for name in ("head.conv",) if name in templates
    }
    for prefix in prefixes:
        more = {
            name.removeprefix(prefix)
            for name in shapes
            if name.startswith(prefix) and not name.endswith(NUM_BATCHES_TRACKED)
        } - {*body, first}
        extra = [name for name in more if not name.startswith(templates["head.classifier"])]
        if not any(name.partition(".")[0] in roots for name in extra) and all(
            shapes.get(prefix + name) == shape for name, shape in body.items()
        ):
            return True
    return False
