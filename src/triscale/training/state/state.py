"""The training state that a step changes, and its form as named tensors."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from triscale.results.history import Epoch, evaluated_epochs
from triscale.training.accelerator import has_float64
from triscale.training.divergence import WINDOW
from triscale.training.optim import make_optimizer, optimizer_state, restore_optimizer
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Manifest
from triscale.training.state.ema import Average
from triscale.training.state.saver import Tensors


@dataclass(slots=True, kw_only=True)
class State:
    """Everything that a step changes.

    Attributes:
        model: The model that is trained.
        average: Its moving average.
        optimizer: The optimizer of the model's parameters.
        tally: Float64 ``[4]`` on the device, float32 where that has no float64: sum of losses, number of images,
            skipped steps of the epoch, and skipped steps in a row.
        recent: Float32 ``[WINDOW]`` on the device, a ring buffer of mean losses; NaN for none.
        step: Steps taken, including skipped ones.
        skipped: Steps that are left out since a rollback.
        rollbacks: How often the training was rolled back.
        initial: Epoch 0 of pretrained weights, once they are evaluated.
        history: Finished epochs.
        best: The epoch whose weights are kept, which may be epoch 0.

    The loss of step i is at ``recent[i % WINDOW]``::

        step     WINDOW  WINDOW + 1 |  2   3  ...  WINDOW - 1
        index      0         1      |  2   3  ...  WINDOW - 1
                        newest -----^  ^----- oldest
    """

    model: nn.Module
    average: Average
    optimizer: torch.optim.Optimizer
    tally: Tensor
    recent: Tensor
    step: int = 0
    skipped: frozenset[int] = frozenset()
    rollbacks: int = 0
    initial: Epoch | None = None
    history: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None

    @property
    def evaluated(self) -> tuple[Epoch, ...]:
        """Epoch 0, if the weights are pretrained, and all finished epochs."""
        return evaluated_epochs(self.initial, self.history)

    @property
    def loss(self) -> float:
        """Mean loss of the epoch so far; synchronizes with the device."""
        total, count = self.tally[:2].tolist()
        return float(total / max(1.0, count))

    @property
    def recent_losses(self) -> list[float]:
        """The mean losses of the last steps in order; synchronizes with the device."""
        values = self.recent.tolist()
        oldest = self.step % WINDOW
        losses = values[oldest:] + values[:oldest]
        return losses[-self.step :] if self.step < WINDOW else losses


def new_state(model: nn.Module, recipe: Recipe, device: torch.device) -> State:
    """Return the state before the first step; the model is moved to the device and to channels-last memory format."""
    model = model.to(device).to(memory_format=torch.channels_last)
    return State(
        model=model,
        average=Average(model),
        optimizer=make_optimizer(recipe, model),
        tally=torch.zeros(4, dtype=torch.float64 if has_float64(device) else torch.float32, device=device),
        recent=torch.full((WINDOW,), math.nan, device=device),
    )


def to_tensors(state: State) -> Tensors:
    """Return the tensors of a state by their names in a checkpoint, without copying them."""
    tensors = {f"model/{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in state.average.model.state_dict().items()}
    tensors |= {f"optimizer/{name}": value for name, value in optimizer_state(state.optimizer, state.model).items()}
    return Tensors(state.step, tensors | {"loss/tally": state.tally, "loss/recent": state.recent})


def restore(state: State, manifest: Manifest, tensors: dict[str, Tensor]) -> None:
    """Restore a state in place from a checkpoint."""
    restore_tensors(state, tensors)
    state.step, state.history, state.best = manifest.step, list(manifest.history), manifest.best
    state.initial = manifest.initial
    state.skipped, state.rollbacks = frozenset(manifest.skipped), manifest.rollbacks


def restore_tensors(state: State, tensors: dict[str, Tensor]) -> None:
    """Restore the tensors of a state in place, from those of :func:`to_tensors`."""

    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    state.model.load_state_dict(below("model/"))
    state.average.model.load_state_dict(below("average/"))
    state.optimizer.state.clear()
    restore_optimizer(state.optimizer, state.model, below("optimizer/"))
    state.tally.copy_(tensors["loss/tally"])
    state.recent.copy_(tensors["loss/recent"])


def digest_of(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of named tensors: names, kinds, shapes and values, in hexadecimal.

    Example:
        >>> one, other = torch.tensor([0.0]), torch.tensor([-0.0])
        >>> digest_of({"a": one}) == digest_of({"a": one.clone()}) != digest_of({"a": other})
        True
    """
    whole = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        plain = value.detach().cpu().contiguous()
        whole.update(f"{name} {plain.dtype} {tuple(plain.shape)};".encode())
        whole.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()
