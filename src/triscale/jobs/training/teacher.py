"""The teacher of a training: a run, a file or published weights that a student learns from."""

from __future__ import annotations

import safetensors.torch
import torch
from torch import Tensor

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Split
from triscale.errors import RecipeError, WeightsError
from triscale.jobs.core.run import InitialWeights, RunFolder, RunSpec
from triscale.jobs.training.initial_weights import read_initial_weights
from triscale.network.contract import Preprocessing
from triscale.network.spec import RGB
from triscale.nn.build import build
from triscale.record import write_atomic
from triscale.training.context import ExecutionContext
from triscale.training.distillation import CachedTeacher, MatchingTeacher, Teacher
from triscale.training.recipe import Recipe

_BATCH = 64
_SHOWN = 3


def check_teacher(teacher: InitialWeights, classes: tuple[str, ...], recipe: Recipe, channels: int = RGB) -> None:
    """Check, before a training starts, that a teacher knows the classes and the channels of the images.

    Raises:
        WeightsError: It has other classes, or none, or takes images of other channels.
        RecipeError: The recipe mixes images whose logits are kept from before.
    """
    _, network, known = read_initial_weights(teacher)
    if network.in_channels != channels:
        raise WeightsError(
            f"the teacher {teacher.run} takes images of {network.in_channels} channels, and the student's have "
            f"{channels}; both see the same images: give a teacher that was trained with --channels {channels}"
        )
    missing = sorted(set(classes) - set(known or ()))
    if known is None or missing:
        lacks = (
            f"lacks {', '.join(missing[:_SHOWN])}{', ...' if len(missing) > _SHOWN else ''}" if known else "has none"
        )
        raise WeightsError(
            f"the teacher {teacher.run} must know the {len(classes)} classes of the images, but {lacks}; train it on "
            f"these images first, for example with --weights {teacher.run}, and give that run to --teacher"
        )
    if recipe.distillation.inputs == "original" and (recipe.mixup or recipe.cutmix):
        raise RecipeError(
            "distillation.inputs=original keeps the logits of whole images, which mixup and cutmix would mix; leave "
            "them out, or use distillation.inputs=augmented"
        )


def matching_teacher(
    given: InitialWeights, preprocessing: Preprocessing, classes: tuple[str, ...], device: torch.device
) -> MatchingTeacher:
    """Return a teacher that sees what the student sees.

    Args:
        given: The weights of the teacher.
        preprocessing: That of the student.
        classes: Those of the student.
        device: Device of both.

    Raises:
        RunError: The run with the weights is missing or was changed.
        WeightsError: The weights file is missing or was changed.
    """
    tensors, network, known = read_initial_weights(given)
    assert known is not None, "checked before"
    model = build(network)
    model.load_state_dict(tensors)
    model = model.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    own = (given.preprocessing or preprocessing).replace(bit_depth=preprocessing.bit_depth)
    return MatchingTeacher(
        model, preprocessing, own, torch.tensor([known.index(name) for name in classes], device=device)
    )


def load_teacher(run: RunFolder, spec: RunSpec, split: Split, context: ExecutionContext) -> Teacher | None:
    """Return the teacher of a run, ready for its training; None without one.

    Args:
        run: The run, which keeps the logits of ``distillation.inputs=original`` in ``teacher.safetensors``.
        spec: Names the teacher.
        split: The training images.
        context: Device, workers and process group.

    Raises:
        RunError: The run with the weights is missing or was changed.
        WeightsError: The weights file is missing or was changed.
    """
    if spec.request.teacher is None:
        return None
    teacher = matching_teacher(spec.request.teacher, spec.preprocessing, spec.classes, context.device)
    if spec.request.recipe.distillation.inputs == "augmented":
        return teacher
    file = run.folder / "teacher.safetensors"
    if file.is_file():
        return CachedTeacher(safetensors.torch.load(file.read_bytes())["logits"])
    logits: list[Tensor] = []
    context.progress.begin("teacher", len(split.train))
    for batch in eval_batches(split.train, split.root, teacher.own, batch=_BATCH, workers=context.workers):
        with torch.inference_mode():
            inputs = normalize(batch.images.to(context.device), teacher.own)
            images = inputs.contiguous(memory_format=torch.channels_last)
            logits.append(teacher.model(images).float()[:, teacher.columns].cpu())
        context.progress.advance(sum(map(len, logits)))
    kept = torch.cat(logits).clone()
    if context.group.is_writer:
        write_atomic(file, safetensors.torch.save({"logits": kept}))
    return CachedTeacher(kept)
