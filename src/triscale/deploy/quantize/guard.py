"""int8 that keeps a network's accuracy: blocks that break stay float, or no file is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.export import atomic_output, size_of
from triscale.deploy.quantize.noise import added_noise, noise_of_blocks
from triscale.deploy.quantize.quantizer import Quantizer
from triscale.errors import QuantizationError, UserError
from triscale.results.deployment import BlockNoise, Quantized

BOUND = 0.5
"""Points of accuracy that may be lost."""
MIN_IMAGES = 32
MAX_IN_FLOAT = 0.5
"""Of the blocks: with more of them in float, int8 gives neither speed nor size."""

Logits = Callable[[Path], NDArray[np.float32]]


def quantize(
    tool: Quantizer,
    logits: Logits,
    exact: NDArray[np.float32],
    labels: NDArray[np.int64],
    probes: NDArray[np.float32],
    file: Path,
    *,
    engine: str,
    calibration_images: int,
    slow: Collection[str] = (),
    bound: float = BOUND,
    on_message: Callable[[str], None] = lambda message: None,
) -> Quantized:
    """Write an int8 file that loses at most ``bound`` points, with as few blocks in float as that takes.

    All blocks but the slow ones are quantized first. Where that loses too much, those that add most noise stay float:
    one, two, four and so on until the loss is small enough, then the fewest that do, by halving. Files appear when all
    is decided.

    Args:
        tool: Of the engine, with the model and its calibration images.
        logits: Of a file for the images that are judged, ``[N, classes]``.
        exact: The model's own for them.
        labels: Of them, ``[N]``.
        probes: Images ``[M, 3, S, S]`` for the noise of the blocks.
        file: To be written.
        engine: The engine's title.
        calibration_images: How many the tool has.
        slow: Blocks that stay float whatever they lose, since int8 makes them no faster.
        bound: Points of accuracy that may be lost.
        on_message: Is on_message of each attempt.

    Raises:
        QuantizationError: No such file was found; names the blocks that break, and what can be done.
        UserError: There are too few calibration images.
    """
    if calibration_images < MIN_IMAGES:
        raise UserError(f"{calibration_images} images are too few to calibrate int8 with; give {MIN_IMAGES} or more")
    right = exact.argmax(1) == labels
    attempts = 0

    def attempt(broken: Collection[str], place: Path) -> NDArray[np.float32]:
        nonlocal attempts
        attempts += 1
        kept = {*slow, *broken}
        tool.write(kept, place)
        found = logits(place)
        message = (
            f"lost {_lost(right, found, labels):.2f} points with {len(kept)} of {len(tool.blocks)} blocks in float"
        )
        on_message(message)
        return found

    with atomic_output(file) as draft:
        found = attempt((), draft)
        ratios = noise_of_blocks(*tool.signals(probes))
        added = added_noise(ratios)
        worst = sorted((name for name in added if name not in slow), key=lambda name: -added[name])
        number = 0
        if _lost(right, found, labels) > bound:
            number, found = _fewest(attempt, draft, worst, right, labels, bound, _lost(right, found, labels), ratios)
        kept = {*slow, *worst[:number]}
    lost = _lost(right, found, labels)
    return Quantized(
        file=file.name,
        engine=engine,
        size_bytes=size_of(file),
        images=len(labels),
        calibration_images=calibration_images,
        float_accuracy=float(right.mean()),
        accuracy=float((found.argmax(1) == labels).mean()),
        lost_points=lost,
        lost_error=_error(right, found.argmax(1) == labels),
        bound_points=bound,
        agreement=float((found.argmax(1) == exact.argmax(1)).mean()),
        blocks=tuple(
            BlockNoise(name=name, decibels=ratios[name], kept_float=name in kept, for_speed=name in slow)
            for name in ratios
        ),
        attempts=attempts,
    )


def _fewest(
    attempt: Callable[[Collection[str], Path], NDArray[np.float32]],
    draft: Path,
    worst: list[str],
    right: NDArray[np.bool_],
    labels: NDArray[np.int64],
    bound: float,
    at_first: float,
    ratios: dict[str, float],
) -> tuple[int, NDArray[np.float32]]:
    """Return how many of the worst blocks have to stay float, and the logits of the file that lies at ``draft``."""
    most = max(1, math.floor(MAX_IN_FLOAT * len(worst)))
    too_few, enough, last = 0, 1, at_first
    while True:
        found = attempt(worst[:enough], draft)
        last = _lost(right, found, labels)
        if last <= bound:
            break
        if enough == most:
            named = ", ".join(f"{name} ({ratios[name]:.1f} dB)" for name in worst[:3])
            raise QuantizationError(
                f"int8 loses {at_first:.2f} points of accuracy, and {last:.2f} with the {most} noisiest of "
                f"{len(worst)} blocks in float; {bound:g} are allowed. What breaks first: {named}. No file was made; "
                "fine-tune the run with --set quantization=int8, train a --lite network, or allow more with --bound"
            )
        too_few, enough = enough, min(most, 2 * enough)
    drafted = enough
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        tried = attempt(worst[:middle], draft)
        drafted = middle
        if _lost(right, tried, labels) <= bound:
            enough, found = middle, tried
        else:
            too_few = middle
    if drafted != enough:
        found = attempt(worst[:enough], draft)
    return enough, found


def _lost(right: NDArray[np.bool_], found: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the points of accuracy that are lost."""
    return 100 * (int(right.sum()) - int((found.argmax(1) == labels).sum())) / len(labels)


def _error(right: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """Return the half-width of a 95% interval of the loss in points: both judge the same images (McNemar)."""
    lost, won, number = int((right & ~found).sum()), int((~right & found).sum()), len(right)
    return 196 * math.sqrt(max(0.0, lost + won - (lost - won) ** 2 / number)) / number
