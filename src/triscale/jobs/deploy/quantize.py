"""int8 of a run: calibrated with its training images, judged on its test images, in float where int8 does not pay."""

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
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.deploy.engines import Engine
from triscale.deploy.exportable import Exportable
from triscale.deploy.parity import logits_of_model
from triscale.deploy.quantize import get_quantizer
from triscale.deploy.quantize.guard import BOUND, MIN_IMAGES, quantize
from triscale.deploy.quantize.quantizer import Quantizer
from triscale.errors import Interrupted, RunError, UserError
from triscale.jobs.core.run import Run
from triscale.measure.latency import held_to_cores
from triscale.measure.versus import in_turns
from triscale.results.deployment import Quantized
from triscale.training.context import ExecutionContext

CALIBRATION = 300
"""Images of the training split; NNCF's own number."""
PROBES = 64
BATCH = 8
LEADING = 4
"""How many of the first blocks are tried in float for speed: their maps are large and their channels few."""
TRIAL_ROUNDS, TRIAL_SECONDS = 15, 0.1
AS_FAST = 1.02
"""Files whose times differ by less than this ratio are as fast as each other: the one with fewer blocks in float."""


@dataclass(frozen=True)
class QuantizationEvalCache:
    """What int8 files of a run are made with and judged by, read and computed once for all engines.

    Attributes:
        run: trained.
        subject: its model.
        calibration: images of the training split to calibrate with.
    """

    run: Run
    subject: Exportable
    calibration: int = CALIBRATION
    should_stop: Callable[[], bool] = lambda: False

    def check(self) -> None:
        """Raise UserError where there are too few images to calibrate with, RunError where there are none to judge."""
        split = self.run.split
        if self.calibration < MIN_IMAGES or len(split.train) < MIN_IMAGES:
            raise UserError(
                f"{min(self.calibration, len(split.train))} images are too few to calibrate int8 with; give "
                f"{MIN_IMAGES} or more, of the {len(split.train)} that {self.run.folder} was trained on"
            )
        if not split.test:
            raise RunError(f"{self.run.folder} holds no test images, so that nobody knows what int8 loses")

    @cached_property
    def calibrating(self) -> NDArray[np.float32]:
        """Normalized images of the training split."""
        return images_of(self.run, spread(self.run.split.train, self.calibration))

    @cached_property
    def probes(self) -> NDArray[np.float32]:
        """Normalized images of the test split, for the noise of blocks."""
        return images_of(self.run, spread(self.run.split.test, PROBES))

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Of the test split."""
        return np.array([sample.label for sample in self.run.split.test])

    @cached_property
    def exact(self) -> NDArray[np.float32]:
        """The model's own logits for the test split."""
        return self.logits(lambda images: logits_of_model(self.subject.model, images))

    def logits(self, call: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return what is message of the test split.

        Raises:
            Interrupted: ``context.should_stop`` returned true.
        """
        found = []
        for images in batches_of(self.run, self.run.split.test):
            if self.should_stop():
                raise Interrupted("stopped; no int8 file was made, the same command begins again")
            found.append(call(images))
        return np.concatenate(found)


def quantize_run(
    exam: QuantizationEvalCache, engine: Engine, file: Path, context: ExecutionContext, bound: float = BOUND
) -> Quantized:
    """Write an int8 file of a run that loses at most ``bound`` points of test accuracy.

    The first blocks stay float as far as int8 makes them no faster on this machine, others where they break.

    Args:
        exam: of the run.
        engine: that the file is for.
        file: to be written.
        context: Device, workers, progress and stop flag.
        bound: in points.

    Raises:
        QuantizationError: int8 loses more than is allowed.
        UserError: nothing quantizes for the engine, or there are too few images to calibrate with.
        RunError: the run has no test images.
        Interrupted: ``exam.should_stop`` returned true.
    """
    make = get_quantizer(engine)
    exam.check()
    tool = make(exam.subject, exam.calibrating)
    slow = slow_blocks(tool, engine, exam.subject.side)
    if slow:
        context.progress.note(f"{engine.title}, int8: as fast or faster with {', '.join(slow)} in float")
    return quantize(
        tool,
        lambda draft: exam.logits(engine.open(draft, 0)),
        exam.exact,
        exam.labels,
        exam.probes,
        file,
        engine=engine.title,
        calibration_images=len(exam.calibrating),
        slow=slow,
        bound=bound,
        on_message=lambda message: context.progress.note(f"{engine.title}, int8: {message}"),
    )


def slow_blocks(tool: Quantizer, engine: Engine, side: int) -> tuple[str, ...]:
    """Return the first blocks of a model, at most four and half of all, that int8 makes no faster on one core here.

    Files with none of them in float, the first, the first two and so on are timed in turns with one image; of those
    that come within two percent of the fastest, the one with fewest counts. Nothing is tried where files take long.

    Args:
        tool: with the model.
        engine: that runs the files.
        side: of an image in pixels.
    """
    if not tool.is_quick:
        return ()
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    most = min(LEADING, len(tool.blocks) // 2)
    with tempfile.TemporaryDirectory() as folder, held_to_cores(1):
        calls = []
        for number in range(most + 1):
            file = Path(folder) / f"{number}{engine.suffix}"
            tool.write(tool.blocks[:number], file)
            calls.append(partial(engine.open(file, 1), image))
        times, _ = in_turns(calls, TRIAL_ROUNDS, TRIAL_SECONDS)
    # Within a round, since a busy machine is faster in one and slower in another.
    return tuple(tool.blocks[: first_as_fast(np.median(times / times[:, :1], axis=0))])


def first_as_fast(times: NDArray[np.float64]) -> int:
    """Return the place of the first of some times that is within two percent of the shortest."""
    return int(np.argmax(times <= AS_FAST * times.min()))


def spread(samples: tuple[Sample, ...], number: int) -> tuple[Sample, ...]:
    """Return up to ``number`` samples, evenly spread over a part."""
    stride = max(1, len(samples) // number)
    return samples[::stride][:number]


def images_of(run: Run, samples: tuple[Sample, ...]) -> NDArray[np.float32]:
    """Return images of a run ``[N, 3, S, S]``, normalized."""
    return np.concatenate(list(batches_of(run, samples)))


def batches_of(run: Run, samples: tuple[Sample, ...]) -> Iterator[NDArray[np.float32]]:
    """Yield images of a run, normalized, in batches."""
    spec = run.spec
    for batch in eval_batches(samples, run.split.root, spec.preprocessing, batch=BATCH):
        with torch.inference_mode():
            yield normalize(batch.images, spec.preprocessing).numpy()
