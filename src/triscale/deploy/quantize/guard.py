"""int8 quantization within an accuracy bound: sensitive blocks stay in float, or no file is written.

What is chosen is chosen on images that are not test images. The finished file is then measured once on the test
images, so that the accuracy that is reported had no part in the choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.export import atomic_output, copy_exported, remove, size_of
from triscale.deploy.quantize.judge import Judge, Logits
from triscale.deploy.quantize.noise import added_noise, noise_of_blocks
from triscale.deploy.quantize.quantizer import Quantizer
from triscale.errors import QuantizationError, UserError
from triscale.results.accuracy_gap import AccuracyGap
from triscale.results.deployment import BlockNoise, LossOfChoice, Quantized, SplitName

BOUND = 0.5
"""Default maximum accuracy loss, in percentage points."""
MIN_IMAGES = 32
MAX_IN_FLOAT = 0.5
"""Maximum share of blocks in float; with more, int8 reduces neither latency nor size."""
FIRST_LOOK = 64
"""Images after which the loss of a file is looked at for the first time, and then at each doubling."""
Z_HOPELESS = 3.29
"""Quantile of a 99.9% interval: an attempt is looked at several times, and stopping it early should not be chance."""


Call = Callable[[NDArray[np.float32]], Logits]


@dataclass(frozen=True, slots=True)
class LabeledImages:
    """Images with known labels that a file is judged on.

    Attributes:
        split: The split of the run that they belong to.
        judge: Compares the outputs of a file for them with those of the float model.
        outputs: Yields the logits for them of a function of normalized images, batch by batch.
    """

    split: SplitName
    judge: Judge
    outputs: Callable[[Call], Iterator[Logits]]

    def allowed(self, bound: float) -> float:
        """Return the loss in percentage points up to which a file is accepted by these images.

        Of fewer than ``100 / bound`` images, a single one is more than the bound, and whether one of them changes is
        chance: so one image is always allowed, unless the bound is 0.
        """
        return max(bound, 100 / self.judge.images) if bound > 0 else bound


class _Attempt(NamedTuple):
    """A written file: its loss in percentage points on the images seen, their number, and whether these are all."""

    loss: float
    gap: AccuracyGap
    images: int
    complete: bool


def quantize(
    tool: Quantizer,
    open_file: Callable[[Path], Call],
    choice: LabeledImages,
    test: Callable[[], LabeledImages],
    probes: NDArray[np.float32],
    file: Path,
    *,
    engine: str,
    calibration_images: int,
    slow: Collection[str] = (),
    bound: float = BOUND,
    remedies: Sequence[str] = ("raise --bound",),
    on_message: Callable[[str], None] = lambda message: None,
) -> Quantized:
    """Write an int8 file that loses at most ``bound`` points of accuracy, with as few blocks in float as necessary.

    One image of the choice is always allowed, see :meth:`LabeledImages.allowed`.

    First all blocks but the slow ones are quantized. If that loses too much on the images of the choice, the blocks
    that add the most noise stay in float: first as many as may, since no file is possible if that is not enough, then
    a binary search for the fewest. An attempt ends as soon as its loss is surely beyond the bound. The file is written
    only at the end.

    The result is measured once on the test images. It is kept unless the whole 95% interval of its loss there lies
    above the bound.

    Args:
        tool: The engine's quantizer, with the model and its calibration images.
        open_file: Opens a file in the engine.
        choice: Images by which the blocks in float are chosen, and the file is accepted or refused.
        test: Returns the images by which the result is reported; called once a file has been chosen.
        probes: Images ``[M, 3, S, S]`` for measuring the noise of blocks.
        file: The file to write.
        engine: The engine's title.
        calibration_images: Number of calibration images.
        slow: Blocks that stay in float regardless of accuracy, because int8 does not make them faster.
        bound: Maximum accuracy loss in percentage points.
        remedies: What a user may do if no file is within the bound.
        on_message: Called with a sentence after each attempt.

    Raises:
        QuantizationError: No file is within the bound; the message names the most sensitive blocks and remedies.
        UserError: There are too few calibration images.
    """
    if calibration_images < MIN_IMAGES:
        raise UserError(f"{calibration_images} images are too few to calibrate int8 with; give {MIN_IMAGES} or more")
    attempts, allowed = 0, choice.allowed(bound)

    def attempt(sensitive: Collection[str], path: Path) -> _Attempt:
        nonlocal attempts
        attempts += 1
        float_blocks = {*slow, *sensitive}
        if tool.emulate is None:
            tool.write(float_blocks, path)
            made = _attempt(choice, open_file(path), bound)
        else:
            tool.quantize(float_blocks)
            made = _attempt(choice, tool.emulate, bound)
        on_message(
            f"lost {made.loss:.2f} points on {made.images} {choice.split} images with {len(float_blocks)} of "
            f"{len(tool.blocks)} blocks in float" + ("" if made.complete else "; more images would not change that")
        )
        return made

    with atomic_output(file) as draft:
        made = attempt((), draft)
        ratios = noise_of_blocks(*tool.signals(probes))
        added = added_noise(ratios)
        worst = sorted((name for name in added if name not in slow), key=lambda name: -added[name])
        num_float = 0
        if made.loss > allowed:
            num_float, made = _min_float_blocks(attempt, draft, worst, allowed, made.loss, ratios, remedies)
        float_blocks = {*slow, *worst[:num_float]}
        if tool.emulate is not None:
            tool.write(float_blocks, draft)
            made = _accepted(choice, open_file(draft), "int8", bound, remedies)
        blocks = tuple(
            BlockNoise(name=name, decibels=ratios[name], kept_float=name in float_blocks, for_speed=name in slow)
            for name in ratios
        )
        return measured(
            test(), open_file(draft), choice, made, draft, engine=engine, bound=bound, remedies=remedies, blocks=blocks,
            attempts=attempts, calibration_images=calibration_images,
        )  # fmt: skip


def accept_rounded(
    open_file: Callable[[Path], Call],
    choice: LabeledImages,
    test: Callable[[], LabeledImages],
    draft: Path,
    *,
    engine: str,
    precision: str,
    bound: float = BOUND,
    remedies: Sequence[str] = ("raise --bound",),
) -> Quantized:
    """Judge a written file whose engine rounds to a lower precision, without calibration, and return its record.

    Raises:
        QuantizationError: The file loses more than ``bound`` points.
    """
    call = open_file(draft)
    made = _accepted(choice, call, precision, bound, remedies)
    return measured(
        test(), call, choice, made, draft, engine=engine, bound=bound, remedies=remedies, precision=precision
    )


def measured(
    test: LabeledImages,
    call: Call,
    choice: LabeledImages,
    made: _Attempt,
    draft: Path,
    *,
    engine: str,
    bound: float,
    remedies: Sequence[str],
    precision: str = "int8",
    blocks: tuple[BlockNoise, ...] = (),
    attempts: int = 1,
    calibration_images: int = 0,
) -> Quantized:
    """Measure a chosen file on the test images, and return its record.

    Raises:
        QuantizationError: The whole interval of the loss lies above the bound.
    """
    judge, outputs = test.judge, np.concatenate(list(test.outputs(call)))
    gap, loss = judge.gap(outputs), judge.loss(outputs)
    if 100 * gap.low > bound:
        raise QuantizationError(
            f"{precision} loses {made.loss:.2f} points of accuracy on the {choice.judge.images} {choice.split} images "
            f"that it was chosen by, but {loss:.2f} on {judge.images} test images (95% interval {100 * gap.low:.2f} "
            f"to {100 * gap.high:.2f}); {bound:g} are allowed. No file was written; {'; or '.join(remedies)}"
        )
    return Quantized(
        file=draft.name,
        engine=engine,
        precision=precision,
        size_bytes=size_of(draft),
        images=judge.images,
        calibration_images=calibration_images,
        float_accuracy=judge.exact_score,
        accuracy=judge.score(outputs),
        lost_points=loss,
        lost_low=100 * gap.low,
        lost_high=100 * gap.high,
        bound_points=bound,
        agreement=float((outputs.argmax(1) == judge.exact.argmax(1)).mean()),
        choice=LossOfChoice(
            split=choice.split,
            images=choice.judge.images,
            lost_points=made.loss,
            lost_low=100 * made.gap.low,
            lost_high=100 * made.gap.high,
        ),
        blocks=blocks,
        attempts=attempts,
        metric=judge.metric,
    )


def _accepted(choice: LabeledImages, call: Call, precision: str, bound: float, remedies: Sequence[str]) -> _Attempt:
    """Return the evaluation of a file on the images of the choice.

    Raises:
        QuantizationError: It loses more than ``bound`` points.
    """
    made, allowed = _attempt(choice, call, bound), choice.allowed(bound)
    if made.loss > allowed:
        raise QuantizationError(
            f"{precision} loses {made.loss:.2f} points of accuracy on {made.images} {choice.split} images; "
            f"{allowed:.3g} are allowed. No file was written; {'; or '.join(remedies)}"
        )
    return made


def _attempt(choice: LabeledImages, call: Call, bound: float) -> _Attempt:
    """Evaluate a file on the images of the choice; stop as soon as its loss is surely beyond the bound."""
    parts: list[Logits] = []
    seen, look = 0, FIRST_LOOK
    for part in choice.outputs(call):
        parts.append(part)
        seen += len(part)
        if look <= seen < choice.judge.images:
            look *= 2
            judge, outputs = choice.judge.first(seen), np.concatenate(parts)
            if 100 * judge.gap(outputs, Z_HOPELESS).low > choice.allowed(bound):
                return _Attempt(judge.loss(outputs), judge.gap(outputs), seen, complete=False)
    outputs = np.concatenate(parts)
    return _Attempt(choice.judge.loss(outputs), choice.judge.gap(outputs), seen, complete=True)


def _min_float_blocks(
    attempt: Callable[[Collection[str], Path], _Attempt],
    draft: Path,
    worst: list[str],
    allowed: float,
    initial_loss: float,
    ratios: dict[str, float],
    remedies: Sequence[str],
) -> tuple[int, _Attempt]:
    """Return the minimum number of blocks in float, and its attempt, whose file, if written, is then at ``draft``."""
    max_float = max(1, math.floor(MAX_IN_FLOAT * len(worst)))
    low, high = 0, max_float
    made = attempt(worst[:high], draft)
    if made.loss > allowed:
        named = ", ".join(f"{name} ({ratios[name]:.1f} dB)" for name in worst[:3])
        raise QuantizationError(
            f"int8 loses {initial_loss:.2f} points of accuracy, and {made.loss:.2f} with the {max_float} noisiest "
            f"of {len(worst)} blocks in float; {allowed:.3g} are allowed. Most sensitive blocks: {named}. No file was "
            f"written; {'; or '.join(remedies)}"
        )
    best = draft.parent / "best" / draft.name
    best.parent.mkdir()
    _keep(draft, best)
    while high - low > 1:
        middle = (low + high) // 2
        attempted = attempt(worst[:middle], draft)
        if attempted.loss <= allowed:
            high, made = middle, attempted
            _keep(draft, best)
        else:
            low = middle
    _keep(best, draft)
    return high, made


def _keep(source: Path, target: Path) -> None:
    """Copy a file, if there is one, in place of an earlier one; nothing is there while attempts are emulated."""
    if source.exists():
        remove(target)
        copy_exported(source, target)
