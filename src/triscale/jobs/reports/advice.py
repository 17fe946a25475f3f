"""What to do next about a weak result, in sentences with commands."""

from __future__ import annotations

import statistics

from triscale.jobs.core.run import RunSpec
from triscale.jobs.training.initial_weights import INHERIT
from triscale.jobs.training.small_data import FEW_IMAGES
from triscale.results.data_summary import DataSummary
from triscale.results.history import Epoch, kept_initial_note
from triscale.results.metrics import AnyMetrics, guessing_note, missed_classes
from triscale.weights.catalog import best_for

GOOD = 0.95
"""Accuracy from which no advice is given, unless it is not distinguishable from guessing."""
RECENT_EPOCHS = 2
"""The training may be too short if the best epoch is among the last of these."""


def advice(
    spec: RunSpec, data: DataSummary | None, evaluated: tuple[Epoch, ...], metrics: AnyMetrics | None
) -> tuple[str, ...]:
    """Return sentences on the likeliest causes of a weak result, each with what to try.

    Args:
        spec: What was trained.
        data: The images by class.
        evaluated: The learning curve, from epoch 0 for pretrained weights.
        metrics: The test metrics; without them there is no advice.
    """
    if metrics is None or metrics.split != "test" or not spec.request.trains:
        return ()
    sentences: list[str] = []
    guessing = guessing_note(metrics)
    near_chance = bool(guessing)
    if metrics.score >= GOOD and not near_chance:
        return ()
    if near_chance:
        sentences.append(f"{guessing} Class activation maps are left out: they would explain guesses.")
    images = [counts.train for counts in data.classes] if data is not None else []
    usual = statistics.median(images) if images else FEW_IMAGES
    if spec.request.start is None and (usual < FEW_IMAGES or near_chance):
        sentences.append(
            f"The network was trained from random weights{f' with {usual:.0f} images per class' if images else ''}; "
            f"pretrained weights usually help more than anything else: --weights {_weights_for(spec)}"
        )
    if kept := kept_initial_note(evaluated, spec.request.recipe.learning_rate):
        sentences.append(f"{kept[0].upper()}{kept[1:]}")
    epochs = spec.request.recipe.epochs
    if evaluated and evaluated[-1].epoch == epochs:
        best = max(evaluated, key=lambda epoch: epoch.val_score)
        if best.epoch > epochs - RECENT_EPOCHS and epochs > RECENT_EPOCHS and best.val_score < 1:
            sentences.append(f"The validation result was still rising at the end; train longer: --epochs {2 * epochs}")
    missed = missed_classes(metrics)
    if missed and not near_chance:
        named = ", ".join(missed[:3]) + (f" and {len(missed) - 3} more" if len(missed) > 3 else "")
        sentences.append(f"No image of {named} was recognized; add images of these classes, or merge classes.")
    return tuple(sentences)


def _weights_for(spec: RunSpec) -> str:
    """Return published weights of the baseline, or a general hint."""
    name = spec.request.network.name.partition("@")[0]
    try:
        return f"{'' if spec.fit is None else INHERIT}{best_for(name).title}"
    except ValueError:
        return "NAME (triscale weights list shows the names)"
