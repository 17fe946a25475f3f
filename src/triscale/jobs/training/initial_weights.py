"""Initial weights of a training run: from another run, a checkpoint, or a network of another size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from triscale.data.pipeline.split import Split
from triscale.errors import RunError, UserError, WeightsError
from triscale.jobs.core.origins import origin_of
from triscale.jobs.core.run import InitialWeights, Request, RunFolder, RunSpec
from triscale.jobs.training.inherited import calibration_images, load_inherited
from triscale.jobs.training.kept_head import classifier_rows, suggest_kept_head, with_rows
from triscale.jobs.training.linear_probe import init_head_from_linear_probe
from triscale.network.custom import AnyNetwork, CustomNetwork
from triscale.network.spec import Network
from triscale.network.unrolled import unrolled
from triscale.nn.classifier import Classifier
from triscale.retry import RetryPolicy
from triscale.training.recipe import FINETUNE, Recipe
from triscale.training.transfer import classifier_name
from triscale.weights.channels import describe_adaptation, with_channels
from triscale.weights.contract import differences
from triscale.weights.fetch import Progress
from triscale.weights.inheritance_plan import plan_inheritance
from triscale.weights.load import LoadedWeights, find_weights
from triscale.weights.slimming import unrolled_state

INHERIT, PRUNE = "inherit:", "prune:"
TRANSFER_SHARE = 0.25
"""Factor on a recipe's learning rate for pretrained weights, as the paper's author recommends for transfer."""
_SHOWN = 3


def find_initial_weights(
    text: str, *, offline: bool = False, progress: Progress | None = None, retry: RetryPolicy | None = None
) -> InitialWeights:
    """Resolve the value of ``--weights``: a finished run, a weights file or a published name.

    The prefix ``inherit:`` marks weights of a network of another size, which the network to train inherits; ``prune:``
    those of the network itself, of which the network to train has fewer channels.

    Raises:
        RunError: The folder holds no run, or its training has not finished.
        WeightsError: The name is unknown, or the weights cannot be downloaded or read.
    """
    prunes = text.startswith(PRUNE)
    inherits = prunes or text.startswith(INHERIT)
    source = text.removeprefix(PRUNE if prunes else INHERIT)
    folder = Path(source)
    if (folder / "run.json").is_file():
        run = RunFolder.open(folder)
        if not run.weights_file.is_file():
            raise RunError(f"the training in {run.folder} has not finished; give the folder of a finished run")
        spec = run.spec
        return InitialWeights(
            run=str(run.folder.resolve()),
            sha256=_sha256(run.weights_file.read_bytes()),
            inherits=inherits,
            prunes=prunes,
            network=spec.network,
            preprocessing=spec.preprocessing,
            origin=origin_of(spec.request.start),
        )
    if folder.is_dir():
        raise RunError(f"{folder} holds no run (no run.json); give the folder that was passed to --out")
    loaded = find_weights(source, offline=offline, progress=progress, retry=retry)
    return InitialWeights(
        run=str(folder.resolve()) if folder.exists() else source,
        sha256=_digest_of(loaded),
        inherits=inherits,
        prunes=prunes,
        network=loaded.weights.network,
        preprocessing=loaded.weights.preprocessing,
        origin=loaded.weights.origin,
    )


def for_finetuning(recipe: Recipe) -> Recipe:
    """Return the recipe with a quarter of its learning rate, unless it is already the fine-tuning recipe."""
    if recipe.name == FINETUNE.name:
        return recipe
    return recipe.replace(learning_rate=recipe.learning_rate * TRANSFER_SHARE)


def load_initial_weights(
    model: nn.Module,
    spec: RunSpec,
    start: InitialWeights,
    split: Split,
    device: torch.device,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> str:
    """Load initial weights into a model, and return a description of what was loaded.

    If the classes differ, the classifier is initialized as the recipe's ``head_init`` specifies: randomly, or from a
    linear probe on the training images.

    Raises:
        RunError: The run with the weights is missing, was changed, or has a different network.
        WeightsError: The weights file is missing, was changed, or has a different network.
        NetworkError: The architectures do not allow weight inheritance.
        Interrupted: ``should_stop`` returned true.
    """
    tensors, network, classes = read_initial_weights(start)
    keeps_head, note, kept = classes == spec.classes, "", "the classes are the same"
    if spec.request.keeps_head and not keeps_head:
        rows = classifier_rows(spec.request, spec.classes, classes)
        tensors, keeps_head = with_rows(tensors, _classifier(model), rows), True
        kept = f"its rows for the {len(rows)} classes were requested"
        network = network.replace(classes=len(rows))
    if _can_adapt(network, spec.network):
        note = f"; {describe_adaptation(network.in_channels, spec.network.in_channels)}"
        tensors = with_channels(tensors, spec.network.in_channels)
        network = network.replace(in_channels=spec.network.in_channels)
    if start.inherits:
        if not isinstance(network, Network) or not isinstance(spec.network, Network):
            raise RunError("weight inheritance does not support custom models; leave out the prefix inherit:")
        if start.prunes:
            tensors, network = unrolled_state(network, tensors), unrolled(network)
        assert isinstance(model, Classifier)
        seed = spec.request.seed
        images = calibration_images(split, spec.preprocessing, seed, device, should_stop)
        summary = load_inherited(model, network, tensors, images, keep_head=keeps_head, seed=seed, pruned=start.prunes)
        head = _init_head(model, spec, split, device, keeps_head=keeps_head, kept=kept)
        how = "the channels that are kept have the weights of" if start.prunes else "weights are inherited from"
        return f"{how} {start.run}: {summary}{note}; {head}"
    own = _classifier(model)
    if not keeps_head:
        tensors = {name: value for name, value in tensors.items() if name not in own}
    state = model.state_dict()
    wrong = [name for name, value in tensors.items() if name not in state or state[name].shape != value.shape]
    wrong += sorted(state.keys() - tensors.keys() - own)
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise RunError(
            f"the weights of {start.run} do not fit {spec.network.name}: {', '.join(wrong[:_SHOWN])}{more} differ; "
            "leave out --network or --baseline, and --lite, to train the network of the weights, or give --weights "
            f"{INHERIT}{start.run} to inherit weights from a network of another size"
        )
    model.load_state_dict(tensors, strict=False)
    head = _init_head(model, spec, split, device, keeps_head=keeps_head, kept=kept)
    suggestion = "" if keeps_head else suggest_kept_head(spec.request, spec.classes, classes)
    return f"weights are loaded from {start.run}{note}; {head}{suggestion}"


def check_initial_weights(start: InitialWeights, network: AnyNetwork) -> None:
    """Check, before training starts, that the initial weights fit the network.

    Raises:
        WeightsError: The architectures differ; the message names the differing fields.
        NetworkError: The architectures do not allow weight inheritance.
    """
    if isinstance(network, CustomNetwork) or isinstance(start.network, CustomNetwork):
        return
    if start.inherits:
        source = start.network.replace(in_channels=network.in_channels)
        plan_inheritance(unrolled(source) if start.prunes else source, network, pruned=start.prunes)
        return
    differing = differences(network, start.network, drop_head=True, any_channels=True)
    if differing:
        more = f" and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
        raise WeightsError(
            f"the weights of {start.run} do not fit {network.name}: {', '.join(differing[:_SHOWN])}{more}; "
            "leave out --network or --baseline, and --lite, to train the network of the weights, or give --weights "
            f"{INHERIT}{start.run} to inherit weights from a network of another size"
        )


def check_kept_head(request: Request, classes: tuple[str, ...]) -> None:
    """Check, before training starts, that the classifier of the initial weights can be kept if the request says so.

    Args:
        request: The request, with the initial weights decided.
        classes: The classes of the images.

    Raises:
        UserError: There are no initial weights.
        WeightsError: Their class names are unknown, or a class of the images is none of theirs.
    """
    if not request.keeps_head:
        return
    if request.start is None:
        raise UserError("--keep-head keeps the classifier of weights, and there are none; give --weights")
    classifier_rows(request, classes, read_initial_weights(request.start)[2])


def _can_adapt(source: AnyNetwork, target: AnyNetwork) -> bool:
    """Return whether weights have to be adapted to another number of channels, and can be."""
    return isinstance(source, Network) and isinstance(target, Network) and source.in_channels != target.in_channels


def read_initial_weights(start: InitialWeights) -> tuple[Mapping[str, Tensor], AnyNetwork, tuple[str, ...] | None]:
    """Return the tensors of the initial weights, their network and class names; None for classes without a head.

    Raises:
        RunError: The run is missing, or was changed since.
        WeightsError: The file is missing, or was changed since.
    """
    folder = Path(start.run)
    if (folder / "run.json").is_file():
        run = RunFolder.open(folder)
        content = run.weights_file.read_bytes() if run.weights_file.is_file() else b""
        if _sha256(content) != start.sha256:
            raise RunError(f"{run.weights_file} was changed after this run started; restore it, or start another run")
        try:
            tensors: dict[str, Tensor] = safetensors.torch.load(content)
        except SafetensorError as error:
            raise RunError(f"{run.weights_file} is damaged ({error}); restore it") from error
        return tensors, run.spec.network, run.spec.classes
    loaded = find_weights(start.run)
    if _digest_of(loaded) != start.sha256:
        raise WeightsError(f"{start.run} was changed after this run started; restore it, or start another run")
    return loaded.state, loaded.weights.network, loaded.weights.classes if loaded.has_head else None


def _digest_of(loaded: LoadedWeights) -> str:
    """Return the SHA-256 digest of all tensors and their names."""
    total = hashlib.sha256()
    for name in sorted(loaded.state):
        total.update(name.encode())
        total.update(loaded.state[name].contiguous().numpy().tobytes())
    return total.hexdigest()


def _init_head(model: nn.Module, spec: RunSpec, split: Split, device: torch.device, *, keeps_head: bool,
               kept: str = "the classes are the same") -> str:  # fmt: skip
    """Initialize a classifier whose weights were not loaded; return a description of how it was initialized."""
    if keeps_head:
        return f"the classifier is kept, since {kept}"
    number = None
    if spec.request.recipe.head_init == "probe":
        number = init_head_from_linear_probe(model, split, spec.preprocessing, spec.request.seed, device)
    how = "randomly" if number is None else f"from a linear probe on {number} training images"
    return f"the classifier is initialized {how}"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _classifier(model: nn.Module) -> set[str]:
    """Return the names of the classifier's parameters."""
    last = classifier_name(model)
    return {name for name in model.state_dict() if last and name.startswith(f"{last}.")}
