"""Where a training starts from: the weights of another Run instead of chance."""

from __future__ import annotations

import hashlib
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from triscale.errors import RunError
from triscale.jobs.run import Run, RunSpec, Start
from triscale.training.transfer import classifier_name

_SHOWN = 3


def find_start(text: str) -> Start:
    """Return what a person means by ``--weights``: a Run whose training has ended.

    Raises:
        RunError: it is none.
    """
    run = Run.open(Path(text))
    if not run.weights_file.is_file():
        raise RunError(f"the training in {run.folder} has not ended; give the folder of a finished Run")
    digest = hashlib.sha256(run.weights_file.read_bytes()).hexdigest()
    return Start(run=str(run.folder.resolve()), sha256=digest)


def load_start(model: nn.Module, spec: RunSpec, start: Start) -> None:
    """Put the weights of a Run into a model; a classifier of other classes keeps its own.

    Raises:
        RunError: the weights are gone, were changed, or are of another network.
    """
    run = Run.open(Path(start.run))
    content = run.weights_file.read_bytes() if run.weights_file.is_file() else b""
    if hashlib.sha256(content).hexdigest() != start.sha256:
        raise RunError(f"{run.weights_file} is not what it was when this Run began; restore it, or begin another Run")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except SafetensorError as error:
        raise RunError(f"{run.weights_file} is damaged ({error}); restore it") from error
    if run.spec.classes != spec.classes:
        tensors = {name: value for name, value in tensors.items() if name not in _classifier(model)}
    state = model.state_dict()
    wrong = [name for name, value in tensors.items() if name not in state or state[name].shape != value.shape]
    wrong += sorted(state.keys() - tensors.keys() - _classifier(model))
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise RunError(
            f"the weights of {run.folder} are those of another network than {spec.network.name}; they differ in "
            f"{', '.join(wrong[:_SHOWN])}{more}; give its own with --network {run.network_file}"
        )
    model.load_state_dict(tensors, strict=False)


def _classifier(model: nn.Module) -> set[str]:
    """Return the names of the classifier's tensors."""
    last = classifier_name(model)
    return {name for name in model.state_dict() if last and name.startswith(f"{last}.")}
