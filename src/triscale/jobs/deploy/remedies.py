"""What a user can do if a file of lower precision loses too much accuracy; only what applies to the run."""

from __future__ import annotations

from triscale.deploy.engines import Precision
from triscale.errors import NetworkError
from triscale.families.lite import lite
from triscale.jobs.core.run import RunFolder, named_in_messages
from triscale.network.custom import AnyNetwork, CustomNetwork

RAISE_BOUND = "raise --bound"


def remedies(run: RunFolder, precision: Precision, calibration: int) -> tuple[str, ...]:
    """Return remedies as clauses of a sentence, the cheapest first.

    Args:
        run: The run that was exported.
        precision: The precision of the file.
        calibration: Number of calibration images that were requested.
    """
    if precision != "int8":
        return ("export float32", RAISE_BOUND)
    spec, available = run.spec, len(run.split.train)
    clauses = []
    if available > calibration:
        clauses.append(f"calibrate with more of its {available} training images (--calibration {available})")
    if spec.request.recipe.quantization != "int8" or not spec.request.trains:
        clauses.append(
            f"fine-tune it with fake quantization: triscale train {_what_to_train(run)} --set quantization=int8 "
            "--epochs 8"
        )
    if has_lite_form(spec.network):
        clauses.append("train a --lite network")
    return (*clauses, RAISE_BOUND)


def _what_to_train(run: RunFolder) -> str:
    """Return the arguments of a training that begins with a run; weights bring their network."""
    request = run.spec.request
    if request.trains:
        return f"{request.images} --network {run.network_file} --weights {run.folder}"
    return f"TRAINING_IMAGES --weights {named_in_messages(run)}"


def has_lite_form(network: AnyNetwork) -> bool:
    """Return whether a network has squeeze-and-excitation or activations that the lite form does without.

    Example:
        >>> from triscale.families import get
        >>> [has_lite_form(get(name)) for name in ("efficientnet_b0", "efficientnet_lite0", "resnet50")]
        [True, False, False]
    """
    if isinstance(network, CustomNetwork):
        return False
    try:
        form = lite(network)
    except NetworkError:
        return False
    return [stage.block for stage in form.stages] != [stage.block for stage in network.stages]
