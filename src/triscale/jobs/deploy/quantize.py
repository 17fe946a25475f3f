"""Write files of lower precision: calibrate on training images, choose on validation images, measure on test images."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.engines import Engine, Precision
from triscale.deploy.export import atomic_output
from triscale.deploy.quantize import get_quantizer
from triscale.deploy.quantize.guard import BOUND, accept_rounded, quantize
from triscale.deploy.quantize.quantizer import Quantizer
from triscale.jobs.deploy.eval_cache import CALIBRATION, QuantizationEvalCache
from triscale.jobs.deploy.remedies import remedies
from triscale.measurement.latency import pinned_to_cores
from triscale.measurement.versus import time_alternately
from triscale.network.input_size import ImageShape
from triscale.results.deployment import Quantized
from triscale.training.context import ExecutionContext

__all__ = ["CALIBRATION", "first_tied", "quantize_run", "round_run", "slow_blocks"]

MAX_LEADING_FLOAT_BLOCKS = 4
"""Number of leading blocks that may stay in float for speed: with large maps and few channels, int8 gains little."""
TRIAL_ROUNDS, TRIAL_SECONDS = 15, 0.1
TIED_RATIO = 1.02
"""Latencies within this ratio are tied; the file with fewer float blocks is chosen."""


def quantize_run(
    eval_cache: QuantizationEvalCache,
    engine: Engine,
    file: Path,
    context: ExecutionContext,
    bound: float = BOUND,
    slow: Sequence[str] | None = None,
) -> Quantized:
    """Write an int8 file of a run that loses at most ``bound`` percentage points of accuracy.

    Leading blocks stay in float if int8 does not make them faster on this machine; other blocks stay in float if
    quantization harms the accuracy on the images of the choice.

    Args:
        eval_cache: Images and reference logits of the run.
        engine: The engine that will run the file.
        file: Path of the file.
        context: Device, workers, progress and stop flag.
        bound: Maximum loss of accuracy in percentage points.
        slow: Blocks that int8 does not make faster; measured by default.

    Returns:
        The record of the quantization.

    Raises:
        QuantizationError: int8 loses more accuracy than ``bound``.
        UserError: The engine has no quantizer, or there are too few calibration images.
        RunError: The run has no test images.
        Interrupted: ``eval_cache.should_stop`` returned true.
    """
    make = get_quantizer(engine)
    eval_cache.check_calibration()
    eval_cache.check_test()
    calibration = eval_cache.calibration_images
    context.progress.begin(f"quantize for {engine.title}")
    quantizer = make(eval_cache.subject, calibration)
    if slow is None:
        slow = slow_blocks(quantizer, engine, eval_cache.subject.input_shape)
    if slow:
        context.progress.note(
            f"{engine.title}, int8: {', '.join(slow)} stay in float, since int8 does not make them faster"
        )
    return quantize(
        quantizer,
        lambda path: engine.open(path, 0, "int8"),
        eval_cache.choice(engine, "int8"),
        lambda: eval_cache.test(engine, "int8"),
        eval_cache.probes,
        file,
        engine=engine.title,
        calibration_images=len(calibration),
        slow=slow,
        bound=bound,
        remedies=remedies(eval_cache.run, "int8", eval_cache.calibration),
        on_message=lambda message: context.progress.note(f"{engine.title}, int8: {message}"),
    )


def round_run(
    eval_cache: QuantizationEvalCache, engine: Engine, precision: Precision, file: Path, bound: float = BOUND
) -> Quantized | None:
    """Write a file that its engine computes in a lower precision without calibration, and judge it.

    Returns:
        The record of its accuracy; None if this machine cannot compute in the precision.

    Raises:
        QuantizationError: The file loses more accuracy than ``bound``.
        RunError: The run has no test images.
        Interrupted: ``eval_cache.should_stop`` returned true.
    """
    with atomic_output(file) as draft:
        engine.roundings[precision].write(eval_cache.subject, draft)
        if engine.obstacle(precision):
            return None
        eval_cache.check_test()
        return accept_rounded(
            lambda path: engine.open(path, 0, precision),
            eval_cache.choice(engine, precision),
            lambda: eval_cache.test(engine, precision),
            draft,
            engine=engine.title,
            precision=precision,
            bound=bound,
            remedies=remedies(eval_cache.run, precision, eval_cache.calibration),
        )


def slow_blocks(quantizer: Quantizer, engine: Engine, input_shape: ImageShape) -> tuple[str, ...]:
    """Return the leading blocks that int8 does not make faster on one core of this machine.

    Files with the first 0, 1, 2, ... blocks in float are timed alternately with batch size 1; among those within 2% of
    the fastest, the file with the fewest float blocks is chosen. At most four blocks and at most half of all blocks are
    tried, and none if the quantizer takes long to write a file.

    Args:
        quantizer: The quantizer of the model.
        engine: The engine that runs the files.
        input_shape: Channels, height and width of an image.
    """
    if not quantizer.is_quick:
        return ()
    image = np.random.default_rng(0).standard_normal((1, *input_shape), dtype=np.float32)
    max_float = min(MAX_LEADING_FLOAT_BLOCKS, len(quantizer.blocks) // 2)
    with tempfile.TemporaryDirectory() as folder, pinned_to_cores(1):
        calls = []
        for number in range(max_float + 1):
            file = Path(folder) / f"{number}{engine.suffix}"
            quantizer.write(quantizer.blocks[:number], file)
            calls.append(partial(engine.open(file, 1), image))
        times, _ = time_alternately(calls, TRIAL_ROUNDS, TRIAL_SECONDS)
    # Ratios within a round cancel changes of the machine's speed between rounds.
    return tuple(quantizer.blocks[: first_tied(np.median(times / times[:, :1], axis=0))])


def first_tied(times: NDArray[np.float64]) -> int:
    """Return the index of the first time that is within 2% of the shortest."""
    return int(np.argmax(times <= TIED_RATIO * times.min()))
