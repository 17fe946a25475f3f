"""Quantize a run to int8: calibrate on training images, evaluate on test images, keep sensitive blocks in float."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches, label_array
from triscale.data.pipeline.split import Sample
from triscale.deploy.engines import Engine
from triscale.deploy.exportable import Exportable
from triscale.deploy.parity import logits_of_model
from triscale.deploy.quantize import get_quantizer
from triscale.deploy.quantize.guard import BOUND, MIN_IMAGES, quantize
from triscale.deploy.quantize.judge import Judge, TopOne
from triscale.deploy.quantize.quantizer import Quantizer
from triscale.errors import Interrupted, RunError, UserError
from triscale.jobs.core.run import RunFolder, how_to_add_images
from triscale.jobs.deploy.label_ranking import LabelRanking
from triscale.measurement.latency import pinned_to_cores
from triscale.measurement.versus import time_alternately
from triscale.network.input_size import ImageShape
from triscale.results.deployment import Quantized
from triscale.training.context import ExecutionContext

CALIBRATION = 300
"""Default number of calibration images; also the default of NNCF."""
PROBES = 64
"""Number of test images that measure the quantization noise of each block."""
BATCH = 8
MAX_LEADING_FLOAT_BLOCKS = 4
"""Number of leading blocks that may stay in float for speed: with large maps and few channels, int8 gains little."""
TRIAL_ROUNDS, TRIAL_SECONDS = 15, 0.1
TIED_RATIO = 1.02
"""Latencies within this ratio are tied; the file with fewer float blocks is chosen."""


@dataclass(frozen=True)
class QuantizationEvalCache:
    """Images, labels and reference logits to quantize a run and evaluate int8 files; computed once for all engines.

    Attributes:
        run: A trained run.
        subject: Its model.
        calibration: Number of training images to calibrate with.
        should_stop: Polled before each batch of an evaluation.
    """

    run: RunFolder
    subject: Exportable
    calibration: int = CALIBRATION
    should_stop: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Check that there are enough images.

        Raises:
            UserError: There are too few calibration images.
            RunError: There are no test images.
        """
        split = self.run.split
        if self.calibration < MIN_IMAGES or len(split.train) < MIN_IMAGES:
            raise UserError(
                f"{min(self.calibration, len(split.train))} images are too few to calibrate int8; at least "
                f"{MIN_IMAGES} are needed, and {self.run.folder} has {len(split.train)} for it"
                f"{how_to_add_images(self.run.spec)}"
            )
        if not split.test:
            raise RunError(
                f"{self.run.folder} has no test images, so the accuracy of int8 cannot be evaluated"
                f"{how_to_add_images(self.run.spec)}"
            )

    @cached_property
    def calibration_images(self) -> NDArray[np.float32]:
        """Normalized training images ``[N, 3, S, S]`` to calibrate with."""
        return images_of(self.run, evenly_spaced(self.run.split.train, self.calibration))

    @cached_property
    def probes(self) -> NDArray[np.float32]:
        """Normalized test images ``[N, 3, S, S]`` that measure the quantization noise of each block."""
        return images_of(self.run, evenly_spaced(self.run.split.test, PROBES))

    @cached_property
    def judge(self) -> Judge:
        """Compares the outputs of a file for the test images with those of the float model."""
        labels = label_array(self.run.split.test)
        return TopOne(self.float_logits, labels) if labels.ndim == 1 else LabelRanking(self.float_logits, labels)

    @cached_property
    def float_logits(self) -> NDArray[np.float32]:
        """Logits of the float model for the test images."""
        return self.logits(lambda images: logits_of_model(self.subject.model, images))

    def logits(self, call: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return the logits that a function computes for the test images.

        Raises:
            Interrupted: ``should_stop`` returned true.
        """
        logits = []
        for images in batches_of(self.run, self.run.split.test):
            if self.should_stop():
                raise Interrupted("stopped; no int8 file was written; run the same command again to restart")
            logits.append(call(images))
        return np.concatenate(logits)


def quantize_run(
    eval_cache: QuantizationEvalCache, engine: Engine, file: Path, context: ExecutionContext, bound: float = BOUND
) -> Quantized:
    """Write an int8 file of a run that loses at most ``bound`` percentage points of test accuracy.

    Leading blocks stay in float if int8 does not make them faster on this machine; other blocks stay in float if
    quantization harms the accuracy.

    Args:
        eval_cache: Images and reference logits of the run.
        engine: The engine that will run the file.
        file: Path of the file.
        context: Device, workers, progress and stop flag.
        bound: Maximum loss of test accuracy in percentage points.

    Returns:
        The record of the quantization.

    Raises:
        QuantizationError: int8 loses more accuracy than ``bound``.
        UserError: The engine has no quantizer, or there are too few calibration images.
        RunError: The run has no test images.
        Interrupted: ``eval_cache.should_stop`` returned true.
    """
    make = get_quantizer(engine)
    eval_cache.check()
    quantizer = make(eval_cache.subject, eval_cache.calibration_images)
    slow = slow_blocks(quantizer, engine, eval_cache.subject.input_shape)
    if slow:
        context.progress.note(
            f"{engine.title}, int8: {', '.join(slow)} stay in float, since int8 does not make them faster"
        )
    return quantize(
        quantizer,
        lambda draft: eval_cache.logits(engine.open(draft, 0)),
        eval_cache.judge,
        eval_cache.probes,
        file,
        engine=engine.title,
        calibration_images=len(eval_cache.calibration_images),
        slow=slow,
        bound=bound,
        on_message=lambda message: context.progress.note(f"{engine.title}, int8: {message}"),
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


def evenly_spaced(samples: tuple[Sample, ...], number: int) -> tuple[Sample, ...]:
    """Return up to ``number`` samples at even intervals."""
    stride = max(1, len(samples) // number)
    return samples[::stride][:number]


def images_of(run: RunFolder, samples: tuple[Sample, ...]) -> NDArray[np.float32]:
    """Return normalized images of a run ``[N, 3, S, S]``; N may be 0."""
    none = np.zeros((0, *run.spec.preprocessing.input_shape), dtype=np.float32)
    return np.concatenate([none, *batches_of(run, samples)])


def batches_of(run: RunFolder, samples: tuple[Sample, ...]) -> Iterator[NDArray[np.float32]]:
    """Yield batches of normalized images of a run, each ``[N, 3, S, S]``."""
    spec = run.spec
    for batch in eval_batches(samples, run.split.root, spec.preprocessing, batch=BATCH):
        with torch.inference_mode():
            yield normalize(batch.images, spec.preprocessing).numpy()
