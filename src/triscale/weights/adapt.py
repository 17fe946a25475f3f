"""Adapt the tensors of another project to the network of their name: no, or another, classifier; other channels.

What a file says itself needs no option: the number of classes and of channels follows from the shapes. Each choice is
a note.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from triscale.errors import NetworkError, WeightsError
from triscale.network.spec import Network
from triscale.weights.architecture import Rules
from triscale.weights.channels import STEM
from triscale.weights.rules import HEAD, MAX_SHOWN, NUM_BATCHES_TRACKED, expected_state, their_names
from triscale.weights.unwrap import select

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class AdaptedState:
    """Tensors under the names of another project, and the network that they fit.

    Attributes:
        state: The tensors.
        network: The network, with the classes and channels of the tensors.
        has_head: Whether there is a classifier.
        notes: Notes on the choices made.
    """

    state: dict[str, Tensor]
    network: Network
    has_head: bool
    notes: tuple[str, ...]


def adapt(
    state: Mapping[str, Tensor],
    network: Network,
    rules: Rules,
    *,
    groups: tuple[int, ...] = (),
    classes: int | None = None,
    drop_head: bool = False,
) -> AdaptedState:
    """Return the tensors of a network out of a wrapper, and the network with their classes and channels.

    Args:
        state: The tensors of a file, by their names there.
        network: The published network.
        rules: The rules of the source's family.
        groups: How many of our stages each of theirs has; by default one.
        classes: The number of outputs, if it is given; otherwise that of the file.
        drop_head: Whether to leave out the classifier.

    Raises:
        WeightsError: The file holds several copies of the network, values that are not finite, or integers.
        NetworkError: The classifier is not one linear layer.
    """
    names = their_names(network, rules, groups)
    wanted = {ours: theirs for ours, theirs in names.items() if not ours.endswith(NUM_BATCHES_TRACKED)}
    heads = {ours: wanted[ours] for ours in (f"{HEAD}weight", f"{HEAD}bias") if ours in wanted}
    selected, notes = select(state, [theirs for ours, theirs in wanted.items() if ours not in heads])
    found = list(notes)
    root = heads[f"{HEAD}weight"].partition(".")[0] + "."
    if any(theirs.startswith(root) for ours, theirs in wanted.items() if ours not in heads):
        root = heads[f"{HEAD}weight"].removesuffix("weight")  # other layers share the first part of the name
    if drop_head:
        selected = {name: tensor for name, tensor in selected.items() if not name.startswith(root)}
    else:
        selected, note = _with_usual_head(selected, heads, root)
        found += note
    network, note = _of_shapes(selected, network, wanted, classes)
    found += note
    has_head = not drop_head and any(name in selected for name in heads.values())
    if not has_head and not drop_head and not set(selected).isdisjoint(names.values()):
        found.append("there is no classifier in the file; it can only be used as initial weights")
    check_finite(selected)
    whole = [name for name in wanted.values() if name in selected and not selected[name].is_floating_point()]
    if whole:
        raise WeightsError(
            f'"{whole[0]}" holds {str(selected[whole[0]].dtype).removeprefix("torch.")} values: these weights are '
            "quantized; expected those of the float model"
        )
    kinds = sorted({str(tensor.dtype).removeprefix("torch.") for tensor in selected.values() if tensor.dtype in HALF})
    if kinds:
        found.append(f"values of {' and '.join(kinds)} are converted to float32")
    return AdaptedState(selected, network, has_head, tuple(found))


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Check that all values of a state dict are finite.

    Raises:
        WeightsError: Some are NaN or infinite; the message names the first tensor.

    Example:
        >>> check_finite({"fc.bias": torch.zeros(2), "fc.weight": torch.tensor([1.0, float("nan")])})
        Traceback (most recent call last):
        ...
        triscale.errors.WeightsError: 1 of 2 tensors have values that are not finite: "fc.weight" (1 of 2 are NaN...
    """
    bad = {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and not _is_finite(tensor)}
    if not bad:
        return
    name, tensor = next(iter(bad.items()))
    number = int((~torch.isfinite(tensor)).sum())
    raise WeightsError(
        f'{len(bad)} of {len(state)} tensors have values that are not finite: "{name}" ({number} of {tensor.numel()} '
        f"are NaN or infinite){', ...' if len(bad) > 1 else ''}; their training diverged, or the file is damaged: use "
        "an earlier checkpoint, or download the file again"
    )


def _is_finite(tensor: Tensor) -> bool:
    # A sum is not finite if a value is not; only then each value is looked at.
    return bool(torch.isfinite(tensor.float().sum())) or bool(torch.isfinite(tensor).all())


def _with_usual_head(
    state: dict[str, Tensor], heads: Mapping[str, str], root: str
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors with the classifier under its usual name: people replace it by a layer or a sequence of some.

    Raises:
        NetworkError: The classifier has several layers with weights.
    """
    usual = heads[f"{HEAD}weight"]
    inside = {name: tensor for name, tensor in state.items() if name.startswith(root)}
    if usual in inside or not inside:
        return state, []
    matrices = [name for name, tensor in inside.items() if tensor.ndim == 2 and name.endswith("weight")]
    if len(matrices) != 1 or set(inside) - {matrices[0], f"{matrices[0].removesuffix('weight')}bias"}:
        shown = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in list(inside.items())[:MAX_SHOWN])
        raise NetworkError(
            f"the classifier of the file is not one linear layer ({shown}; expected {usual}); leave it out with "
            "--drop-head"
        )
    module, ours = matrices[0].removesuffix("weight"), usual.removesuffix("weight")
    renamed = {
        f"{ours}{name.removeprefix(module)}" if name in inside else name: tensor for name, tensor in state.items()
    }
    return renamed, [f'the classifier is "{module.rstrip(".")}" instead of "{ours.rstrip(".")}"']


def _of_shapes(
    state: Mapping[str, Tensor], network: Network, names: Mapping[str, str], classes: int | None
) -> tuple[Network, list[str]]:
    """Return the network with the classes and the channels of the tensors; other shapes are checked later."""
    notes, expected = [], expected_state(network)
    head, stem = state.get(names[f"{HEAD}weight"]), state.get(names[STEM])
    if classes is not None:
        network = network.replace(classes=classes)
    elif _differs_in(0, head, expected[f"{HEAD}weight"]):
        assert head is not None
        notes.append(f"the classifier has {len(head)} outputs, not the {network.classes} of the published network")
        network = network.replace(classes=len(head))
    if _differs_in(1, stem, expected[STEM]):
        assert stem is not None
        notes.append(f"images have {stem.shape[1]} channels, not {network.in_channels}")
        network = network.replace(in_channels=stem.shape[1])
    return network, notes


def _differs_in(axis: int, tensor: Tensor | None, expected: Tensor) -> bool:
    """Return whether the size along one axis is all in which a tensor differs."""
    if tensor is None or tensor.ndim != expected.ndim:
        return False
    return [number for number in range(tensor.ndim) if tensor.shape[number] != expected.shape[number]] == [axis]
