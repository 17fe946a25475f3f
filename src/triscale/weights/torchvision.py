"""torchvision's classifiers: their names for our parameters, and the padding and batch norm that their weights need.

A rule maps the name of a module of ours to theirs. On our side ``*`` stands for stage, block and, last, the part of
the block; on theirs these can be used in braces, with ``at`` (position of the part in its block), ``index`` (position
of the block in the network), ``stages`` and ``blocks`` (how many there are): ``{stage+1}``, ``{at*3+1}``. The first
rule that fits is taken. Read from torchvision 0.29's ``models``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from triscale.errors import NetworkError, nearest
from triscale.network.spec import BatchNorm, Network
from triscale.nn.build import build

Family = Literal["efficientnet", "mobilenet_v2", "mnasnet", "resnet"]
Rules = tuple[tuple[str, str], ...]

RULES: dict[Family, Rules] = {
    "efficientnet": (
        ("stem.conv", "features.0.0"),
        ("stem.norm", "features.0.1"),
        ("stages.*.blocks.*.gate.reduce", "features.{stage+1}.{block}.block.{at}.fc1"),
        ("stages.*.blocks.*.gate.expand", "features.{stage+1}.{block}.block.{at}.fc2"),
        ("stages.*.blocks.*.*.conv", "features.{stage+1}.{block}.block.{at}.0"),
        ("stages.*.blocks.*.*.norm", "features.{stage+1}.{block}.block.{at}.1"),
        ("head.conv", "features.{stages+1}.0"),
        ("head.norm", "features.{stages+1}.1"),
        ("head.classifier", "classifier.1"),
    ),
    "mobilenet_v2": (
        ("stem.conv", "features.0.0"),
        ("stem.norm", "features.0.1"),
        ("stages.*.blocks.*.project.conv", "features.{index+1}.conv.{at}"),
        ("stages.*.blocks.*.project.norm", "features.{index+1}.conv.{at+1}"),
        ("stages.*.blocks.*.*.conv", "features.{index+1}.conv.{at}.0"),
        ("stages.*.blocks.*.*.norm", "features.{index+1}.conv.{at}.1"),
        ("head.conv", "features.{blocks+1}.0"),
        ("head.norm", "features.{blocks+1}.1"),
        ("head.classifier", "classifier.1"),
    ),
    "mnasnet": (
        ("stem.conv", "layers.0"),
        ("stem.norm", "layers.1"),
        ("stages.0.blocks.0.*.conv", "layers.{at*3+3}"),
        ("stages.0.blocks.0.*.norm", "layers.{at*3+4}"),
        ("stages.*.blocks.*.*.conv", "layers.{stage+7}.{block}.layers.{at*3}"),
        ("stages.*.blocks.*.*.norm", "layers.{stage+7}.{block}.layers.{at*3+1}"),
        ("head.conv", "layers.{stages+7}"),
        ("head.norm", "layers.{stages+8}"),
        ("head.classifier", "classifier.1"),
    ),
    "resnet": (
        ("stem.conv", "conv1"),
        ("stem.norm", "bn1"),
        ("stages.*.blocks.*.shortcut.conv", "layer{stage+1}.{block}.downsample.0"),
        ("stages.*.blocks.*.shortcut.norm", "layer{stage+1}.{block}.downsample.1"),
        ("stages.*.blocks.*.*.conv", "layer{stage+1}.{block}.conv{at+1}"),
        ("stages.*.blocks.*.*.norm", "layer{stage+1}.{block}.bn{at+1}"),
        ("head.classifier", "fc"),
    ),
}

_USUAL = BatchNorm(eps=1e-5, momentum=0.1)
_LARGE = BatchNorm(eps=1e-3, momentum=0.01)

NORMS: dict[str, BatchNorm] = {
    **dict.fromkeys((f"efficientnet_b{number}" for number in range(5)), _USUAL),
    **dict.fromkeys((f"efficientnet_b{number}" for number in range(5, 8)), _LARGE),
    "mobilenet_v2": _USUAL,
    "mobilenet_v2_140": _USUAL,
    "mnasnet_b1": BatchNorm(eps=1e-5, momentum=0.0003),
    **dict.fromkeys((f"resnet{layers}" for layers in (18, 34, 50, 101, 152)), _USUAL),
}
"""Batch norm of torchvision's modules; within EfficientNet they differ."""

STEPS_SEEN = "num_batches_tracked"
MOST_SHOWN = 5


def torchvision_network(network: Network) -> Network:
    """Return a published network as torchvision builds it: symmetric padding, and its batch norm's eps and momentum.

    Raises:
        NetworkError: torchvision has no network of this name.
    """
    try:
        norm = NORMS[network.name]
    except KeyError:
        hint = nearest(network.name, NORMS) or f"; it has {', '.join(NORMS)}"
        raise NetworkError(f'torchvision has no network "{network.name}"{hint}') from None
    return network.replace(padding="symmetric", norm=norm)


def from_torchvision(state: Mapping[str, Tensor], network: Network, family: Family) -> dict[str, Tensor]:
    """Return a torchvision state dict under the names of ``build(network)``; the tensors are not copied.

    Steps counted by batch norm may be missing, as in old files; they then start at 0.

    Raises:
        NetworkError: a parameter that only one side has, or of another shape; the message lists them.
    """
    with torch.device("meta"):
        ours = build(network).state_dict()
    theirs = dict(_their_names(ours, network, RULES[family]))
    mapped: dict[str, Tensor] = {}
    missing, misshapen = [], []
    for name, expected in ours.items():
        their_name = theirs.get(name)
        given = None if their_name is None else state.get(their_name)
        if given is None and name.endswith(STEPS_SEEN):
            given = torch.zeros((), dtype=torch.long)
        if given is None:
            missing.append(f"{name} ({their_name or 'no rule'})")
        elif given.shape != expected.shape:
            misshapen.append(f"{name} ({their_name}) is {tuple(given.shape)} instead of {tuple(expected.shape)}")
        else:
            mapped[name] = given
    left_over = sorted(set(state) - set(theirs.values()))
    mistakes = (
        _listed("not in the weights", missing),
        _listed("not in the network", left_over),
        _listed("of another shape", misshapen),
    )
    if any(mistakes):
        raise NetworkError(
            f"these weights are not of torchvision's {family} with the structure of {network.name}: "
            f"{'; '.join(mistake for mistake in mistakes if mistake)}"
        )
    return mapped


def _their_names(ours: Iterable[str], network: Network, rules: Rules) -> Iterator[tuple[str, str]]:
    """Yield our name and theirs for each name that a rule fits."""
    compiled = [(_pattern(our_form), their_form) for our_form, their_form in rules]
    first_block = [sum(stage.repeats for stage in network.stages[:number]) for number in range(len(network.stages))]
    counts = {"stages": len(network.stages), "blocks": network.num_blocks}
    parts: dict[tuple[int, int], list[str]] = {}
    for name in ours:
        module, _, value = name.rpartition(".")
        places = dict(counts)
        if module.startswith("stages."):
            _, stage, _, block, part, *_ = module.split(".")
            places |= {"stage": int(stage), "block": int(block), "index": first_block[int(stage)] + int(block)}
            siblings = parts.setdefault((int(stage), int(block)), [])
            if part not in siblings:
                siblings.append(part)
            places["at"] = siblings.index(part)
        for pattern, their_form in compiled:
            if pattern.fullmatch(module):
                yield name, f"{_filled(their_form, places)}.{value}"
                break


def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(re.escape(form).replace(r"\*", r"[^.]+"))


def _filled(form: str, places: Mapping[str, int]) -> str:
    """Replace ``{place}``, ``{place*factor}``, ``{place+term}`` and ``{place*factor+term}`` by numbers."""

    def number(found: re.Match[str]) -> str:
        return str(places[found[1]] * int(found[2] or 1) + int(found[3] or 0))

    return re.sub(r"\{(\w+)(?:\*(\d+))?(?:\+(\d+))?\}", number, form)


def _listed(title: str, names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:MOST_SHOWN])
    return f"{title}: {shown}{f' and {len(names) - MOST_SHOWN} more' if len(names) > MOST_SHOWN else ''}"
