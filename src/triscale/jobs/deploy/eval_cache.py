"""Images, labels and reference outputs by which files of lower precision are chosen and measured.

A file is chosen on validation images; without enough of them on training images. Test images are only measured on, once
a file has been chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from triscale.data.pipeline.loader import label_array
from triscale.data.pipeline.split import Sample
from triscale.deploy.engines import Engine, Precision
from triscale.deploy.exportable import Exportable
from triscale.deploy.parity import logits_of_model
from triscale.deploy.quantize.guard import MIN_IMAGES, Call, LabeledImages
from triscale.deploy.quantize.judge import Judge, Logits, TopOne
from triscale.errors import Interrupted, RunError, UserError
from triscale.jobs.core.run import RunFolder, how_to_add_images, named_in_messages
from triscale.jobs.deploy.label_ranking import LabelRanking
from triscale.jobs.deploy.run_images import BATCH, batches_of, evenly_spaced, images_of
from triscale.progress import NO_PROGRESS, ProgressReporter
from triscale.results.deployment import SplitName

CALIBRATION = 300
"""Default number of calibration images; also the default of NNCF."""
PROBES = 64
"""Number of images that measure the quantization noise of each block."""
MIN_CHOICE = 100
"""Fewer validation images do not decide between files: one of them is a whole percentage point."""
MAX_CHOICE, MAX_CHOICE_BYTES = 1000, 400_000_000
"""Maximum number of images of the choice, and maximum memory for them: 664 images of 224 px."""


@dataclass(frozen=True)
class QuantizationEvalCache:
    """What is needed to quantize a run and to evaluate its files; computed once for all engines.

    Attributes:
        run: A trained run.
        subject: Its model.
        calibration: Number of training images to calibrate with.
        should_stop: Polled before each batch of an evaluation.
        progress: Follows each evaluation.
    """

    run: RunFolder
    subject: Exportable
    calibration: int = CALIBRATION
    should_stop: Callable[[], bool] = lambda: False
    progress: ProgressReporter = field(default=NO_PROGRESS)

    def check_test(self) -> None:
        """Check that there are test images.

        Raises:
            RunError: There are none.
        """
        if not self.run.split.test:
            raise RunError(
                f"{named_in_messages(self.run)} has no test images, so the accuracy of a file of lower precision "
                f"cannot be evaluated{how_to_add_images(self.run.spec)}"
            )

    def check_calibration(self) -> None:
        """Check that there are enough images to calibrate int8.

        Raises:
            UserError: There are too few.
        """
        available = len(self.run.split.train)
        if self.calibration < MIN_IMAGES or available < MIN_IMAGES:
            raise UserError(
                f"{min(self.calibration, available)} images are too few to calibrate int8; at least "
                f"{MIN_IMAGES} are needed, and {named_in_messages(self.run)} has {available} for it"
                f"{how_to_add_images(self.run.spec)}"
            )

    @cached_property
    def calibration_images(self) -> NDArray[np.float32]:
        """Normalized training images ``[N, 3, S, S]`` to calibrate with."""
        self.progress.begin("load calibration images")
        return images_of(self.run, self._calibration_samples)

    @property
    def _calibration_samples(self) -> tuple[Sample, ...]:
        return evenly_spaced(self.run.split.train, self.calibration)

    @property
    def probes(self) -> NDArray[np.float32]:
        """Normalized images ``[N, 3, S, S]`` of the choice that measure the quantization noise of each block."""
        return self._choice_images[:PROBES]

    @cached_property
    def _choice(self) -> tuple[SplitName, tuple[Sample, ...]]:
        """The images of the choice, in a random order, since an evaluation may end after a part of them.

        Raises:
            RunError: There are none.
        """
        split = self.run.split
        seen = {sample.path for sample in self._calibration_samples}
        unseen = tuple(sample for sample in split.train if sample.path not in seen)
        choices: tuple[tuple[SplitName, tuple[Sample, ...]], ...] = (
            ("validation", split.val),
            ("training", unseen),
            ("calibration", self._calibration_samples),
        )
        name, samples = next((one for one in choices if len(one[1]) >= MIN_CHOICE), choices[-1])
        if not samples:
            raise RunError(f"{named_in_messages(self.run)} has no validation or training images to choose a file by")
        if name != "validation":
            self.progress.note(
                f"the run has {len(split.val)} validation images, and a choice needs {MIN_CHOICE}: files of lower "
                f"precision are chosen by {name} images"
            )
        image_bytes = 4 * int(np.prod(self.run.spec.preprocessing.input_shape))
        number = max(MIN_CHOICE, min(MAX_CHOICE, MAX_CHOICE_BYTES // image_bytes))
        order = np.random.default_rng(0).permutation(len(samples))[:number]
        return name, tuple(samples[index] for index in order)

    @cached_property
    def _choice_images(self) -> NDArray[np.float32]:
        name, samples = self._choice
        if name == "calibration":
            places = {sample.path: index for index, sample in enumerate(self._calibration_samples)}
            return self.calibration_images[[places[sample.path] for sample in samples]]
        self.progress.begin(f"load {name} images")
        return images_of(self.run, samples)

    @cached_property
    def _choice_judge(self) -> Judge:
        images = self._choice_images
        parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        exact = np.concatenate(list(self._run_batches("evaluate the float model", len(images), parts, self._model)))
        return _judge(exact, self._choice[1])

    @cached_property
    def test_judge(self) -> Judge:
        """Compares the outputs of a file for the test images with those of the float model."""
        samples = self.run.split.test
        batches = batches_of(self.run, samples)
        title = "evaluate the float model on test images"
        return _judge(np.concatenate(list(self._run_batches(title, len(samples), batches, self._model))), samples)

    def _model(self, images: NDArray[np.float32]) -> Logits:
        return logits_of_model(self.subject.model, images)

    def choice(self, engine: Engine, precision: Precision) -> LabeledImages:
        """Return the images by which files of an engine and a precision are chosen."""

        def outputs(call: Call) -> Iterator[Logits]:
            images, title = self._choice_images, f"evaluate {engine.title}, {precision}"
            parts = (images[start : start + BATCH] for start in range(0, len(images), BATCH))
            return self._run_batches(title, len(images), parts, call)

        return LabeledImages(self._choice[0], self._choice_judge, outputs)

    def test(self, engine: Engine, precision: Precision) -> LabeledImages:
        """Return the test images for a file of an engine and a precision."""
        samples = self.run.split.test

        def outputs(call: Call) -> Iterator[Logits]:
            title = f"evaluate {engine.title}, {precision}, on test images"
            return self._run_batches(title, len(samples), batches_of(self.run, samples), call)

        return LabeledImages("test", self.test_judge, outputs)

    def _run_batches(
        self,
        title: str,
        total: int,
        batches: Iterable[NDArray[np.float32]],
        call: Call,
    ) -> Iterator[Logits]:
        """Yield the logits of a function, batch by batch.

        Raises:
            Interrupted: ``should_stop`` returned true.
        """
        self.progress.begin(title, total)
        done = 0
        for images in batches:
            if self.should_stop():
                raise Interrupted("stopped; no file of lower precision was written; run the same command again")
            yield call(images)
            done += len(images)
            self.progress.advance(done)


def _judge(exact: Logits, samples: tuple[Sample, ...]) -> Judge:
    labels = label_array(samples)
    return TopOne(exact, labels) if labels.ndim == 1 else LabelRanking(exact, labels)
