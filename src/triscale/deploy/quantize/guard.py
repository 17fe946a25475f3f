"""int8 quantization within an accuracy bound: sensitive blocks stay in float, or no file is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.export import atomic_output, size_of
from triscale.deploy.quantize.judge import Judge
from triscale.deploy.quantize.noise import added_noise, noise_of_blocks
from triscale.deploy.quantize.quantizer import Quantizer
from triscale.errors import QuantizationError, UserError
from triscale.results.deployment import BlockNoise, Quantized

BOUND = 0.5
"""Default maximum accuracy loss, in percentage points."""
MIN_IMAGES = 32
MAX_IN_FLOAT = 0.5
"""Maximum share of blocks in float; with more, int8 reduces neither latency nor size."""

Logits = Callable[[Path], NDArray[np.float32]]


class _Attempt(NamedTuple):
    """The outputs of a written file, and the loss in percentage points."""

    outputs: NDArray[np.float32]
    loss: float


def quantize(
    tool: Quantizer,
    logits: Logits,
    judge: Judge,
    probes: NDArray[np.float32],
    file: Path,
    *,
    engine: str,
    calibration_images: int,
    slow: Collection[str] = (),
    bound: float = BOUND,
    on_message: Callable[[str], None] = lambda message: None,
) -> Quantized:
    """Write an int8 file that loses at most ``bound`` points of accuracy, with as few blocks in float as necessary.

    First all blocks but the slow ones are quantized. If that loses too much, the blocks that add the most noise stay in
    float: 1, 2, 4 and so on until the loss is within the bound, then a binary search for the fewest. The file is
    written only at the end.

    Args:
        tool: The engine's quantizer, with the model and its calibration images.
        logits: Returns the logits ``[N, classes]`` of a file for the evaluation images.
        judge: Compares the outputs of a file for them with those of the float model.
        probes: Images ``[M, 3, S, S]`` for measuring the noise of blocks.
        file: The file to write.
        engine: The engine's title.
        calibration_images: Number of calibration images.
        slow: Blocks that stay in float regardless of accuracy, because int8 does not make them faster.
        bound: Maximum accuracy loss in percentage points.
        on_message: Called with a sentence after each attempt.

    Raises:
        QuantizationError: No file is within the bound; the message names the most sensitive blocks and remedies.
        UserError: There are too few calibration images.
    """
    if calibration_images < MIN_IMAGES:
        raise UserError(f"{calibration_images} images are too few to calibrate int8 with; give {MIN_IMAGES} or more")
    attempts = 0

    def attempt(sensitive: Collection[str], path: Path) -> _Attempt:
        nonlocal attempts
        attempts += 1
        float_blocks = {*slow, *sensitive}
        tool.write(float_blocks, path)
        outputs = logits(path)
        loss = judge.loss(outputs)
        on_message(f"lost {loss:.2f} points with {len(float_blocks)} of {len(tool.blocks)} blocks in float")
        return _Attempt(outputs, loss)

    with atomic_output(file) as draft:
        made = attempt((), draft)
        ratios = noise_of_blocks(*tool.signals(probes))
        added = added_noise(ratios)
        worst = sorted((name for name in added if name not in slow), key=lambda name: -added[name])
        num_float = 0
        if made.loss > bound:
            num_float, made = _min_float_blocks(attempt, draft, worst, bound, made.loss, ratios)
        float_blocks = {*slow, *worst[:num_float]}
    return Quantized(
        file=file.name,
        engine=engine,
        size_bytes=size_of(file),
        images=judge.images,
        calibration_images=calibration_images,
        float_accuracy=judge.exact_score,
        accuracy=judge.score(made.outputs),
        lost_points=made.loss,
        lost_error=judge.half_width(made.outputs),
        bound_points=bound,
        agreement=float((made.outputs.argmax(1) == judge.exact.argmax(1)).mean()),
        blocks=tuple(
            BlockNoise(name=name, decibels=ratios[name], kept_float=name in float_blocks, for_speed=name in slow)
            for name in ratios
        ),
        attempts=attempts,
        metric=judge.metric,
    )


def _min_float_blocks(
    attempt: Callable[[Collection[str], Path], _Attempt],
    draft: Path,
    worst: list[str],
    bound: float,
    initial_loss: float,
    ratios: dict[str, float],
) -> tuple[int, _Attempt]:
    """Return the minimum number of blocks in float, and the attempt whose file is then at ``draft``."""
    max_float = max(1, math.floor(MAX_IN_FLOAT * len(worst)))
    low, high = 0, 1
    while True:
        made = attempt(worst[:high], draft)
        if made.loss <= bound:
            break
        if high == max_float:
            named = ", ".join(f"{name} ({ratios[name]:.1f} dB)" for name in worst[:3])
            raise QuantizationError(
                f"int8 loses {initial_loss:.2f} points of accuracy, and {made.loss:.2f} with the {max_float} noisiest "
                f"of {len(worst)} blocks in float; {bound:g} are allowed. Most sensitive blocks: {named}. No file was "
                "written; fine-tune the run with --set quantization=int8, train a --lite network, or raise --bound"
            )
        low, high = high, min(max_float, 2 * high)
    in_draft = high
    while high - low > 1:
        middle = (low + high) // 2
        attempted = attempt(worst[:middle], draft)
        in_draft = middle
        if attempted.loss <= bound:
            high, made = middle, attempted
        else:
            low = middle
    if in_draft != high:
        made = attempt(worst[:high], draft)
    return high, made
