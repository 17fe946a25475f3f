"""The rule engine: from the names of our parameters to those of another project, and back.

A rule maps the name of a module of ours to theirs. On our side ``*`` stands for stage, block and, last, the part of
the block; on theirs these can be used in braces, with ``at`` (position of the part in its block), ``index`` (position
of the block in the network), ``stages`` and ``blocks`` (how many there are): ``{stage+1}``, ``{at*3+1}``. The first
rule that fits is taken. Sources differ in their tables of rules only.
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

STEPS_SEEN = "num_batches_tracked"
HEAD = "head.classifier."
MAX_SHOWN = 5


def to_ours(
    state: Mapping[str, Tensor], network: Network, rules: Rules, whose: str, *, drop_head: bool = False
) -> dict[str, Tensor]:
    """Return another project's state dict under the names of ``build(network)``; tensors of our type are not copied.

    Steps counted by batch norm may be missing, as in old files; they then start at 0. Values become float32.

    Args:
        state: their names, and what they hold.
        network: the structure that is expected.
        rules: the table of the source's family.
        whose: what the error message calls the source.
        drop_head: leave the classifier out on both sides, whatever its number of classes.

    Raises:
        NetworkError: a parameter that only one side has, or of another shape; the message lists them.
    """
    ours = expected_state(network)
    theirs = dict(_their_names(ours, network, rules))
    mapped: dict[str, Tensor] = {}
    missing, misshapen = [], []
    for name, expected in ours.items():
        their_name = theirs.get(name)
        given = None if their_name is None else state.get(their_name)
        if drop_head and name.startswith(HEAD):
            continue
        if given is None and name.endswith(STEPS_SEEN):
            given = torch.zeros((), dtype=torch.long)
        if given is None:
            missing.append(f"{name} ({their_name or 'no rule'})")
        elif given.shape != expected.shape:
            misshapen.append(f"{name} ({their_name}) is {tuple(given.shape)} instead of {tuple(expected.shape)}")
        else:
            mapped[name] = given.to(expected.dtype)
    mistakes = (
        _listed("not in the weights", missing),
        _listed("not in the network", sorted(set(state) - set(theirs.values()))),
        _listed("of another shape", misshapen),
    )
    if any(mistakes):
        heads = {name for name in misshapen if name.startswith(HEAD)}
        hint = ""
        if misshapen and len(heads) == len(misshapen) and not missing:
            hint = (
                f"; it has another number of classes than {network.classes}: leave its classifier out, or say how many"
            )
        raise NetworkError(
            f"these weights are not of {whose} with the structure of {network.name}: "
            f"{'; '.join(mistake for mistake in mistakes if mistake)}{hint}"
        )
    return mapped


def to_theirs(
    state: Mapping[str, Tensor], network: Network, rules: Rules, metadata: Mapping[str, Any] | None = None
) -> OrderedDict[str, Tensor]:
    """Return a state dict of ours under another project's names, ready for their ``load_state_dict(strict=True)``.

    Args:
        state: what ``build(network).state_dict()`` holds.
        network: what the state is of.
        rules: the table of the source's family.
        metadata: versions of modules that their ``load_state_dict`` asks for.

    Raises:
        NetworkError: a parameter that their network does not have.
    """
    names = dict(_their_names(state, network, rules))
    unknown = [name for name in state if name not in names]
    if unknown:
        raise NetworkError(f"the other project has no place for all of {network.name}; {_listed('left', unknown)}")
    exported = OrderedDict((names[name], tensor) for name, tensor in state.items())
    if metadata is not None:
        exported._metadata = metadata  # type: ignore[attr-defined]
    return exported


def expected_state(network: Network) -> dict[str, Tensor]:
    """Return the names, shapes and types of a network's tensors, on the meta device."""
    with torch.device("meta"):
        return dict(build(network).state_dict())


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
    shown = ", ".join(names[:MAX_SHOWN])
    return f"{title}: {shown}{f' and {len(names) - MAX_SHOWN} more' if len(names) > MAX_SHOWN else ''}"
