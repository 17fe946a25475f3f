"""The rule engine: map our parameter names to those of another project and back.

A rule maps the name of one of our modules to theirs. In our pattern, ``*`` stands for the stage, the block and, last,
the layer of the block. In their template, these numbers appear in braces: ``stage``, ``block``, ``at`` (position of
the layer in its block), ``index`` (position of the block in the network), ``stages`` and ``blocks`` (their numbers),
optionally with a factor and a term: ``{stage+1}``, ``{at*3+1}``. The first matching rule applies::

    ("stages.*.blocks.*.expand.conv", "_blocks.{index}._expand_conv")
     stages.1.blocks.0.expand.conv ->  _blocks.1._expand_conv

Sources differ only in their tables of rules.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from triscale.errors import NetworkError
from triscale.network.spec import Network
from triscale.nn.build import build
from triscale.weights.architecture import Rules

NUM_BATCHES_TRACKED = "num_batches_tracked"
HEAD = "head.classifier."
MAX_SHOWN = 5


def to_triscale(
    state: Mapping[str, Tensor], network: Network, rules: Rules, whose: str, *, drop_head: bool = False
) -> dict[str, Tensor]:
    """Convert another project's state dict to the names of ``build(network)``; float32 tensors are not copied.

    ``num_batches_tracked`` may be missing, as in old files; it is then 0. Values are converted to float32.

    Args:
        state: The other project's state dict.
        network: The expected structure.
        rules: The rules of the source's family.
        whose: Description of the source for error messages.
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
    theirs = dict(_map_names(ours, network, rules))
    mapped: dict[str, Tensor] = {}
    missing, misshapen = [], []
    for name, expected in ours.items():
        their_name = theirs.get(name)
        tensor = None if their_name is None else state.get(their_name)
        if drop_head and name.startswith(HEAD):
            continue
        if tensor is None and name.endswith(NUM_BATCHES_TRACKED):
            tensor = torch.zeros((), dtype=torch.long)
        if tensor is None:
            missing.append(f"{name} ({their_name or 'no rule'})")
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
    state: Mapping[str, Tensor], network: Network, rules: Rules, metadata: Mapping[str, Any] | None = None
) -> OrderedDict[str, Tensor]:
    """Convert our state dict to another project's names, ready for its ``load_state_dict(strict=True)``.

    Args:
        state: The result of ``build(network).state_dict()``.
        network: The Network of the state.
        rules: The rules of the source's family.
        metadata: Module versions that its ``load_state_dict`` checks.

    Raises:
        NetworkError: The other project's network lacks a parameter.
    """
    names = dict(_map_names(state, network, rules))
    unknown = [name for name in state if name not in names]
    if unknown:
        raise NetworkError(f"the other project lacks parameters of {network.name}; {_list('without a rule', unknown)}")
    exported = OrderedDict((names[name], tensor) for name, tensor in state.items())
    if metadata is not None:
        exported._metadata = metadata  # type: ignore[attr-defined]
    return exported


def their_names(network: Network, rules: Rules) -> dict[str, str]:
    """Return the other project's name for each of our names that has a rule."""
    return dict(_map_names(expected_state(network), network, rules))


def expected_state(network: Network) -> dict[str, Tensor]:
    """Return the state dict of a network on the meta device: names, shapes and types without memory."""
    with torch.device("meta"):
        return dict(build(network).state_dict())


def _map_names(ours: Iterable[str], network: Network, rules: Rules) -> Iterator[tuple[str, str]]:
    """Yield our name and theirs for each name that matches a rule."""
    compiled = [(_compile(pattern), template) for pattern, template in rules]
    first_block = [sum(stage.repeats for stage in network.stages[:number]) for number in range(len(network.stages))]
    counts = {"stages": len(network.stages), "blocks": network.num_blocks}
    layers: dict[tuple[int, int], list[str]] = {}
    for name in ours:
        module, _, value = name.rpartition(".")
        numbers = dict(counts)
        if module.startswith("stages."):
            _, stage, _, block, layer, *_ = module.split(".")
            numbers |= {"stage": int(stage), "block": int(block), "index": first_block[int(stage)] + int(block)}
            # Layers are numbered in the order in which they first occur in the state dict of the block.
            siblings = layers.setdefault((int(stage), int(block)), [])
            if layer not in siblings:
                siblings.append(layer)
            numbers["at"] = siblings.index(layer)
        for pattern, template in compiled:
            if pattern.fullmatch(module):
                yield name, f"{_fill(template, numbers)}.{value}"
                break


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", r"[^.]+"))


def _fill(template: str, numbers: Mapping[str, int]) -> str:
    """Replace ``{name}``, ``{name*factor}``, ``{name+term}`` and ``{name*factor+term}`` by numbers."""

    def number(match: re.Match[str]) -> str:
        return str(numbers[match[1]] * int(match[2] or 1) + int(match[3] or 0))

    return re.sub(r"\{(\w+)(?:\*(\d+))?(?:\+(\d+))?\}", number, template)


def _list(title: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:MAX_SHOWN])
    return f"{title}: {shown}{f' and {len(names) - MAX_SHOWN} more' if len(names) > MAX_SHOWN else ''}"
