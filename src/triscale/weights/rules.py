"""The rule engine: map our parameter names to those of another project and back.

A rule maps the name of one of our modules to theirs. In our pattern, ``*`` stands for the stage, the block and, last,
the layer of the block. In their template, these numbers appear in braces: ``stage``, ``block``, ``at`` (position of
the layer in its block), ``nth`` (the same without squeeze-and-excitation), ``index`` (position of the block in the
network), ``stages`` and ``blocks`` (their numbers), optionally with a factor and a term: ``{stage+1}``, ``{at*3+1}``.
The first matching rule applies::

    ("stages.*.blocks.*.expand.conv", "_blocks.{index}._expand_conv")
     stages.1.blocks.0.expand.conv ->  _blocks.1._expand_conv

A template that ends in ``:linear`` names a linear layer that is a 1x1 convolution here. Where a stage of theirs has
blocks that differ, it is a group of several stages here: ``groups`` are the sizes of the groups, and ``stage``,
``block`` and ``stages`` are theirs.

Sources differ only in their tables of rules.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from triscale.errors import NetworkError
from triscale.network import tree
from triscale.network.lower import lower
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.weights.architecture import Rules

NUM_BATCHES_TRACKED = "num_batches_tracked"
HEAD = "head.classifier."
MAX_SHOWN = 5


def to_triscale(
    state: Mapping[str, Tensor],
    network: Network,
    rules: Rules,
    whose: str,
    *,
    groups: tuple[int, ...] = (),
    drop_head: bool = False,
) -> dict[str, Tensor]:
    """Convert another project's state dict to the names of ``build(network)``; float32 tensors are not copied.

    ``num_batches_tracked`` may be missing, as in old files; it is then 0. Values are converted to float32.

    Args:
        state: The other project's state dict.
        network: The expected structure.
        rules: The rules of the source's family.
        whose: Description of the source for error messages.
        groups: How many of our stages each of theirs has; by default one.
        drop_head: Whether to leave out the classifier, regardless of its number of classes.

    Raises:
        NetworkError: Parameters are missing, unexpected or of another shape; the message lists them.

    Example:
        >>> from triscale.weights.sources import SOURCES, network_of
        >>> rules = SOURCES["torchvision"].rules["resnet"]
        >>> network = network_of("torchvision", "resnet18")
        >>> theirs = from_triscale(expected_state(network), network, rules)
        >>> "layer1.0.conv1.weight" in theirs, len(to_triscale(theirs, network, rules, "torchvision's resnet18"))
        (True, 122)
    """
    ours = expected_state(network)
    matches = {match.ours: match for match in _map_names(ours, network, rules, groups)}
    theirs = {name: match.theirs for name, match in matches.items()}
    mapped: dict[str, Tensor] = {}
    missing, misshapen = [], []
    for name, expected in ours.items():
        their_name = theirs.get(name)
        tensor = None if their_name is None else state.get(their_name)
        if drop_head and name.startswith(HEAD):
            continue
        if tensor is None and name.endswith(NUM_BATCHES_TRACKED):
            mapped[name] = torch.zeros((), dtype=torch.long)
        elif tensor is None:
            missing.append(f"{name} ({their_name or 'no rule'})")
        elif matches[name].is_linear and (*tensor.shape, 1, 1) == expected.shape:
            mapped[name] = tensor[:, :, None, None].to(expected.dtype)
        elif tensor.shape != expected.shape:
            misshapen.append(f"{name} ({their_name}) is {tuple(tensor.shape)} instead of {tuple(expected.shape)}")
        else:
            mapped[name] = tensor.to(expected.dtype)
    mistakes = (
        _list("not in the weights", missing),
        _list("not in the network", sorted(set(state) - set(theirs.values()))),
        _list("of another shape", misshapen),
    )
    if any(mistakes):
        heads = {name for name in misshapen if name.startswith(HEAD)}
        hint = ""
        if misshapen and len(heads) == len(misshapen) and not missing:
            hint = f"; its number of classes is not {network.classes}: give it with --classes, or --drop-head"
        raise NetworkError(
            f"these weights are not those of {whose} with the structure of {network.name}: "
            f"{'; '.join(mistake for mistake in mistakes if mistake)}{hint}"
        )
    return mapped


def from_triscale(
    state: Mapping[str, Tensor],
    network: Network,
    rules: Rules,
    metadata: Mapping[str, Any] | None = None,
    *,
    groups: tuple[int, ...] = (),
) -> OrderedDict[str, Tensor]:
    """Convert our state dict to another project's names, ready for its ``load_state_dict(strict=True)``.

    Args:
        state: The result of ``build(network).state_dict()``.
        network: The Network of the state.
        rules: The rules of the source's family.
        metadata: Module versions that its ``load_state_dict`` checks.
        groups: How many of our stages each of theirs has; by default one.

    Raises:
        NetworkError: The other project's network lacks a parameter.
    """
    matches = {match.ours: match for match in _map_names(state, network, rules, groups)}
    unknown = [name for name in state if name not in matches]
    if unknown:
        raise NetworkError(f"the other project lacks parameters of {network.name}; {_list('without a rule', unknown)}")
    exported = OrderedDict(
        (matches[name].theirs, tensor.flatten(1) if matches[name].is_linear and tensor.ndim > 1 else tensor)
        for name, tensor in state.items()
    )
    if metadata is not None:
        exported._metadata = metadata  # type: ignore[attr-defined]
    return exported


def their_names(network: Network, rules: Rules, groups: tuple[int, ...] = ()) -> dict[str, str]:
    """Return the other project's name for each of our names that has a rule."""
    return {match.ours: match.theirs for match in _map_names(expected_state(network), network, rules, groups)}


def their_shapes(
    network: Network, rules: Rules, groups: tuple[int, ...] = ()
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the other project's name and shape of each weight and statistic of ours, without building the module."""
    ours = {
        f"{path}.{name}": shape
        for path, node, _ in tree.walk(lower(network))
        for name, shape in _tensor_shapes(node).items()
    }
    return {
        match.ours: (match.theirs, ours[match.ours][:2] if match.is_linear else ours[match.ours])
        for match in _map_names(ours, network, rules, groups)
    }


def _tensor_shapes(node: tree.Node) -> dict[str, tuple[int, ...]]:
    match node:
        case tree.Convolution():
            kernel = (node.outputs, node.inputs // node.groups, node.kernel, node.kernel)
            return {"weight": kernel, "bias": (node.outputs,)} if node.bias else {"weight": kernel}
        case tree.Normalization():
            return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (node.channels,))
        case tree.Linear():
            return {"weight": (node.outputs, node.inputs), "bias": (node.outputs,)}
        case _:
            return {}


def expected_state(network: Network) -> dict[str, Tensor]:
    """Return the state dict of a network on the meta device: names, shapes and types without memory."""
    with torch.device("meta"):
        return dict(build(network).state_dict())


class _Match(NamedTuple):
    """Our name and theirs of a value; ``is_linear`` marks the weight of a linear layer that is a convolution here."""

    ours: str
    theirs: str
    is_linear: bool


def _map_names(ours: Iterable[str], network: Network, rules: Rules, groups: tuple[int, ...]) -> Iterator[_Match]:
    """Yield each name that matches a rule with theirs."""
    compiled = [(_compile(pattern), template) for pattern, template in rules]
    groups = groups or (1,) * len(network.stages)
    group_of = [group for group, size in enumerate(groups) for _ in range(size)]
    first_block = [sum(stage.repeats for stage in network.stages[:number]) for number in range(len(network.stages))]
    first_of_group = [first_block[group_of.index(group)] for group in group_of]
    counts = {"stages": len(groups), "blocks": network.num_blocks}
    layers: dict[tuple[int, int], list[str]] = {}
    for name in ours:
        module, _, value = name.rpartition(".")
        numbers = dict(counts)
        if module.startswith("stages."):
            _, stage, _, block, layer, *_ = module.split(".")
            index = first_block[int(stage)] + int(block)
            numbers |= {"stage": group_of[int(stage)], "block": index - first_of_group[int(stage)], "index": index}
            # Layers are numbered in the order in which they first occur in the state dict of the block.
            siblings = layers.setdefault((int(stage), int(block)), [])
            if layer not in siblings:
                siblings.append(layer)
            numbers["at"] = siblings.index(layer)
            numbers["nth"] = numbers["at"] - ("se" in siblings[: numbers["at"]])
        for pattern, template in compiled:
            if pattern.fullmatch(module):
                filled, _, kind = _fill(template, numbers).partition(":")
                yield _Match(name, f"{filled}.{value}", kind == "linear")
                break


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", r"[^.]+"))


def _fill(template: str, numbers: Mapping[str, int]) -> str:
    """Replace ``{name}``, ``{name*factor}``, ``{name+term}``, ``{name-term}`` and ``{name*factor+term}`` by numbers."""

    def number(match: re.Match[str]) -> str:
        return str(numbers[match[1]] * int(match[2] or 1) + int(match[3] or 0))

    return re.sub(r"\{(\w+)(?:\*(\d+))?([+-]\d+)?\}", number, template)


def _list(title: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:MAX_SHOWN])
    return f"{title}: {shown}{f' and {len(names) - MAX_SHOWN} more' if len(names) > MAX_SHOWN else ''}"
