"""Where a training starts from: weights of another run, of another project, or of a network of another size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from triscale.data.pipeline.split import Split
from triscale.errors import RunError, WeightsError
from triscale.jobs.core.run import InitialWeights, Run, RunSpec
from triscale.jobs.training.linear_probe import init_head_from_linear_probe
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Network
from triscale.training.recipe import FINETUNE, Recipe
from triscale.training.transfer import classifier_name
from triscale.weights.contract import differences
from triscale.weights.fetch import Progress
from triscale.weights.inherit import inherit, plan_inheritance
from triscale.weights.load import LoadedWeights, find_weights

INHERIT = "inherit:"
TRANSFER_SHARE = 0.25
"""Of a recipe's learning rate, for weights that were trained before: what the paper's author says of its transfers."""
_SHOWN = 3


def find_initial_weights(text: str, *, offline: bool = False, progress: Progress | None = None) -> InitialWeights:
    """Return what a user means by ``--weights``: a finished run, a file of weights or a published name.

    With ``inherit:`` before it the weights are those of a network of another size, from which the one to be trained
    inherits.

    Raises:
        RunError: a run whose training has not finished.
        WeightsError: none of these, or it cannot be had or read.
    """
    inherits, place = text.startswith(INHERIT), text.removeprefix(INHERIT)
    folder = Path(place)
    if (folder / "run.json").is_file():
        run = Run.open(folder)
        if not run.weights_file.is_file():
            raise RunError(f"the training in {run.folder} has not finished; give the folder of a finished run")
        spec = run.spec
        return InitialWeights(
            run=str(run.folder.resolve()),
            sha256=_sha256(run.weights_file.read_bytes()),
            inherits=inherits,
            network=spec.network,
            preprocessing=spec.preprocessing,
        )
    if folder.is_dir():
        raise RunError(f"{folder} holds no run (no run.json); give the folder that --out named when it was made")
    loaded = find_weights(place, offline=offline, progress=progress)
    return InitialWeights(
        run=str(folder.resolve()) if folder.exists() else place,
        sha256=_digest_of(loaded),
        inherits=inherits,
        network=loaded.weights.network,
        preprocessing=loaded.weights.preprocessing,
    )


def for_finetuning(recipe: Recipe) -> Recipe:
    """Return a recipe for weights that were trained before: a quarter of its learning rate, unless made for them."""
    if recipe.name == FINETUNE.name:
        return recipe
    return recipe.replace(learning_rate=recipe.learning_rate * TRANSFER_SHARE)


def preprocessing_of(start: InitialWeights | None, recipe: Recipe, resolution: int) -> Preprocessing:
    """Return how images become input: as the first weights were trained, at the network's resolution."""
    fresh = Preprocessing(resolution=resolution, crop=recipe.crop_at(resolution))
    if start is None or start.preprocessing is None:
        return fresh
    before = start.preprocessing
    return fresh.replace(mean=before.mean, std=before.std, interpolation=before.interpolation)


def load_initial_weights(
    model: nn.Module, spec: RunSpec, start: InitialWeights, split: Split, device: torch.device
) -> str:
    """Put the first weights into a model, and return what was done, in a sentence.

    A classifier of other classes starts from scratch, as the recipe says: at random, or as a linear probe of the
    training images.

    Raises:
        RunError: the weights are gone, were changed, or are of another network.
        WeightsError: the same of a file.
        NetworkError: weights of another kind of network cannot be inherited.
    """
    tensors, network, classes = _read(start)
    keeps_head = classes == spec.classes
    if start.inherits:
        if not isinstance(network, Network) or not isinstance(spec.network, Network):
            raise RunError(
                "a function's networks are not known layer by layer: they cannot inherit; leave out inherit:"
            )
        plan = plan_inheritance(network, spec.network, keep_head=keeps_head)
        model.load_state_dict(inherit(plan, tensors, model.state_dict(), seed=spec.request.seed))
        head = _begin_head(model, spec, split, device, keeps_head=keeps_head)
        return f"inherits from {start.run}: {plan.summary}; {head}"
    own = _classifier(model)
    if not keeps_head:
        tensors = {name: value for name, value in tensors.items() if name not in own}
    state = model.state_dict()
    wrong = [name for name, value in tensors.items() if name not in state or state[name].shape != value.shape]
    wrong += sorted(state.keys() - tensors.keys() - own)
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise RunError(
            f"the weights of {start.run} are those of another network than {spec.network.name}; they differ in "
            f"{', '.join(wrong[:_SHOWN])}{more}; leave out --network and --lite to train theirs, or give --weights "
            f"{INHERIT}{start.run} to go from one size to another"
        )
    model.load_state_dict(tensors, strict=False)
    return f"starts from {start.run}; {_begin_head(model, spec, split, device, keeps_head=keeps_head)}"


def check_initial_weights(start: InitialWeights, network: AnyNetwork) -> None:
    """Refuse, before anything is trained, a network that the first weights do not fit.

    Raises:
        WeightsError: it computes something else than the weights; each differing field is named.
        NetworkError: it cannot inherit from theirs.
    """
    if isinstance(network, CustomNetwork) or isinstance(start.network, CustomNetwork):
        return
    if start.inherits:
        plan_inheritance(start.network, network)
        return
    differing = differences(network, start.network, drop_head=True)
    if differing:
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise WeightsError(
            f"{start.run} does not fit {network.name}: {', '.join(differing[:_SHOWN])}{more}; leave out --network and "
            f"--lite to train theirs, or give --weights {INHERIT}{start.run} to go from one size to another"
        )


def _read(start: InitialWeights) -> tuple[Mapping[str, Tensor], AnyNetwork, tuple[str, ...] | None]:
    """Return the tensors of first weights, their network and the names of their classes."""
    folder = Path(start.run)
    if (folder / "run.json").is_file():
        run = Run.open(folder)
        content = run.weights_file.read_bytes() if run.weights_file.is_file() else b""
        if _sha256(content) != start.sha256:
            raise RunError(
                f"{run.weights_file} is not what it was when this run began; restore it, or begin another run"
            )
        try:
            tensors: dict[str, Tensor] = safetensors.torch.load(content)
        except SafetensorError as error:
            raise RunError(f"{run.weights_file} is damaged ({error}); restore it") from error
        return tensors, run.spec.network, run.spec.classes
    loaded = find_weights(start.run)
    if _digest_of(loaded) != start.sha256:
        raise WeightsError(f"{start.run} is not what it was when this run began; restore it, or begin another run")
    return loaded.state, loaded.weights.network, loaded.weights.classes if loaded.has_head else None


def _digest_of(loaded: LoadedWeights) -> str:
    """Return a digest of what the weights are: of every tensor in turn."""
    total = hashlib.sha256()
    for name in sorted(loaded.state):
        total.update(name.encode())
        total.update(loaded.state[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def _begin_head(model: nn.Module, spec: RunSpec, split: Split, device: torch.device, *, keeps_head: bool) -> str:
    """Let a classifier that is not kept begin as the recipe says, and say how."""
    if keeps_head:
        return "the classifier is kept: the classes are the same"
    number = None
    if spec.request.recipe.head_init == "probe":
        number = init_head_from_linear_probe(model, split, spec.preprocessing, spec.request.seed, device)
    return "the classifier starts from scratch" + (
        "" if number is None else f", as a linear probe of {number} training images"
    )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _classifier(model: nn.Module) -> set[str]:
    """Return the names of the classifier's tensors."""
    last = classifier_name(model)
    return {name for name in model.state_dict() if last and name.startswith(f"{last}.")}
