"""A trained run as an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal
from weakref import finalize

from torch import nn

from triscale.api.arguments import BudgetLike
from triscale.api.deploying import DeployOptions, deploy_opened
from triscale.api.display import display_run
from triscale.api.image_inputs import ImageLike, predict_inputs
from triscale.api.run_documents import RunDocuments
from triscale.api.transforms import ImageTransform, transforms
from triscale.deploy.apps import get_app
from triscale.deploy.engines import DEPLOYED, Precision, get_engine
from triscale.errors import UserError
from triscale.jobs.app_jobs import export_apps
from triscale.jobs.core.execution import execution
from triscale.jobs.inference.calibrate import COVERAGE, KEPT
from triscale.jobs.inference.explain import Method, explain_images
from triscale.jobs.inference.predict import ImageClassifier, Prediction
from triscale.jobs.inference.robustness import LIMIT
from triscale.jobs.run_source import open_source
from triscale.jobs.source_jobs import (
    calibrate_source,
    evaluate_source,
    explain_source,
    export_source,
    robustness_of_source,
)
from triscale.jobs.training.train import read_evaluated, read_history
from triscale.jobs.weights_run import make_run_of_weights
from triscale.network.custom import AnyNetwork
from triscale.results.confidence import Calibration
from triscale.results.deployment import Deployment, Exported
from triscale.results.explanation import ExplainedImages, Explanation
from triscale.results.history import Epoch
from triscale.results.metrics import GUESSING, AnyMetrics, guessing_note, load_metrics
from triscale.results.robustness import Robustness
from triscale.scaling.fit import Fit


class Run(RunDocuments):
    """A directory with everything that one training produced, or weights that are used as they are.

    :func:`triscale.fit` and :func:`triscale.train` return one; :meth:`open` opens an existing one, or weights. All
    methods do the same jobs as the commands of the same names.

    Attributes:
        path: The directory; for weights, one that belongs to the cache or is removed with the object.

    Example:
        >>> run = Run.open("runs/photos")
        >>> run.predict("photos/red/000.png").classes[0].name
        'red'
    """

    def __init__(
        self, path: str | Path, images: str | Path | None = None, *, offline: bool = False, progress: bool = True
    ) -> None:
        stack = ExitStack()
        self._close = finalize(self, stack.close)
        with execution(progress=progress) as context:
            self._source = stack.enter_context(
                open_source(str(path), context, images=None if images is None else str(images), offline=offline)
            )
        self._folder = self._source.run
        self._classifier: ImageClassifier | None = None
        self._metrics: AnyMetrics | None = None

    @classmethod
    def open(
        cls, path: str | Path, images: str | Path | None = None, *, offline: bool = False, progress: bool = True
    ) -> Run:
        """Open the directory of a run, or weights.

        Args:
            path: What ``out`` or ``--out`` named when it was trained; or a file of weights, or a published name.
            images: For a run, where its images are now, if they have moved. For weights, images to evaluate them on and
                to calibrate int8 with, in class folders that are named by their classes or by wnids.
            offline: Whether to use only the cache for published weights.
            progress: Whether progress is shown on standard error.

        Raises:
            RunError: There is no run in the directory, or the images are not those of the run.
            WeightsError: The weights are unknown, have no classifier, or do not have the classes of the images.
        """
        return cls(path, images, offline=offline, progress=progress)

    @classmethod
    def of_weights(
        cls, weights: str | Path, images: str | Path | None = None, *, out: str | Path, device: str = "auto",
        seed: int = 0, offline: bool = False, class_names: Mapping[str, str] | None = None, progress: bool = True,
    ) -> Run:  # fmt: skip
        """Make a run of weights without training; ``triscale weights run`` does the same.

        Args:
            weights: A published name, an imported file or a run.
            images: A data set to evaluate the weights on and to calibrate int8 with; its class folders are matched with
                the classes by name, or by wnid for ImageNet.
            out: The directory of the run.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
            seed: Seed of the choice of images for calibration.
            offline: Whether to use only the cache for published weights.
            class_names: The class of each class folder that is named otherwise.
            progress: Whether to show progress.

        Raises:
            WeightsError: The weights are unknown, have no classifier, or do not have the classes of the images.
        """
        with execution(device, progress=progress) as context:
            make_run_of_weights(
                str(weights), None if images is None else str(images), Path(out), context, seed=seed, offline=offline,
                class_names=class_names or {},
            )  # fmt: skip
        return cls(out)

    @property
    def path(self) -> Path:
        """The directory."""
        return self._folder.folder

    @property
    def weights(self) -> str | None:
        """The weights that were opened, as they were given; None for the directory of a run."""
        return None if self._source.weights is None else self._source.reference

    @property
    def network(self) -> AnyNetwork:
        """The trained network as data."""
        return self._folder.spec.network

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the outputs."""
        return self._folder.spec.classes

    @property
    def budget_fit(self) -> Fit | None:
        """How the network was fitted to a budget; None if it was trained as it is."""
        return self._folder.spec.fit

    @property
    def finished(self) -> bool:
        """Whether the training has finished."""
        return self._folder.weights_file.is_file()

    @property
    def metrics(self) -> AnyMetrics | None:
        """The metrics on the test split; None before the first evaluation, for weights the first of this object."""
        file = self._folder.metrics_file
        return load_metrics(file) if file.is_file() else self._metrics

    @property
    def calibration(self) -> Calibration | None:
        """The calibration by the validation images; None before it."""
        return self._folder.calibration

    @property
    def history(self) -> tuple[Epoch, ...]:
        """The metrics of each epoch so far."""
        return read_history(self._folder)

    def model(self) -> nn.Module:
        """Return the trained module in evaluation mode on the CPU: ``[N, 3, H, W]`` to logits ``[N, classes]``.

        Raises:
            RunError: The training has not finished.
        """
        return self._folder.model()

    def transform(self, *, train: bool = False) -> ImageTransform:
        """Return the transform from a PIL image to the network's input; see :func:`triscale.transforms`."""
        spec = self._folder.spec
        return transforms(spec.preprocessing, train=train, augmentation=spec.request.recipe.augmentation)

    def predict(self, images: ImageLike | Sequence[ImageLike], *, top: int = 5) -> Prediction | list[Prediction]:
        """Classify images.

        Args:
            images: A file, its content as bytes, a PIL image, a uint8 array ``[H, W, channels]``; or a folder, or
                a list.
            top: Number of classes per image.

        Returns:
            The most probable classes of an image; for a folder or a list, a list of them in order. An image that
            cannot be read has an ``error`` instead of classes.

        Raises:
            DataError: A file does not exist, or an object is not an image.
            RunError: The training has not finished.
        """
        if top < 1:
            raise UserError(f"top={top}: give 1 or more classes")
        if self._classifier is None:
            self._classifier = ImageClassifier.open(self.path)
        return predict_inputs(self._classifier, images, top)

    def calibrate(
        self, coverage: float = COVERAGE, *, kept: float = KEPT, unknown_images: str | Path | None = None,
        device: str = "auto", progress: bool = True,
    ) -> Calibration:  # fmt: skip
        """Fit temperature, prediction sets and the threshold of unknown images to the validation images.

        :func:`triscale.fit` and :func:`triscale.train` do it with the defaults. The run keeps the result, and is
        evaluated on its test images again.

        Args:
            coverage: Share of images whose prediction set is to contain the class, or all labels.
            kept: Share of images like the validation images that are not to be called unknown.
            unknown_images: A folder of images of other things, to measure how many of them are called unknown.
            device: ``auto``, ``cpu`` or ``cuda``.
            progress: Whether progress is shown on standard error.

        Raises:
            UserError: A share is not between 0 and 1, or the other images are those of the run.
            RunError: The training has not finished, or there are no validation images.
            WeightsError: These are weights without a training.
            Interrupted: Ctrl-C or SIGTERM was received.
        """
        folder = None if unknown_images is None else Path(unknown_images)
        with execution(device, progress=progress) as context:
            calibration, _ = calibrate_source(
                self._source, context, coverage=coverage, kept=kept, unknown_images=folder
            )
        self._classifier = None  # it was opened with the calibration before
        return calibration

    def evaluate(self, split: Literal["train", "val", "test"] = "test", *, device: str = "auto",
                 progress: bool = True) -> AnyMetrics:  # fmt: skip
        """Evaluate on one split; the metrics of the test split are saved in the run, or of weights in this object.

        Args:
            split: ``test``, ``val`` or ``train``.
            device: ``auto``, ``cpu`` or ``cuda``.
            progress: Whether progress is shown on standard error.

        Raises:
            RunError: The training has not finished, or there is no such split.
            Interrupted: Ctrl-C or SIGTERM was received.
        """
        with execution(device, progress=progress) as context:
            metrics = evaluate_source(self._source, context, split)
        if split == "test" and self._source.weights is not None:
            self._metrics = metrics
        return metrics

    def robustness(self, limit: int = LIMIT, *, seed: int = 0, device: str = "auto",
                   progress: bool = True) -> Robustness:  # fmt: skip
        """Measure the accuracy on test images with corruptions at five strengths; a run keeps the result.

        Args:
            limit: Maximum number of test images, chosen at random; each is classified 26 times.
            seed: Seed of the sample, and of everything random in the corruptions.
            device: ``auto``, ``cpu`` or ``cuda``.
            progress: Whether progress is shown on standard error.

        Raises:
            RunError: The training has not finished, there are no test images, or images have any number of labels.
            Interrupted: Ctrl-C or SIGTERM was received.
        """
        with execution(device, progress=progress) as context:
            return robustness_of_source(self._source, context, limit=limit, seed=seed)

    def explain(
        self, images: str | Path | Sequence[str | Path] | None = None, *, out: str | Path = "explained",
        method: Method = "auto", label: str | None = None, curves: bool = False, progress: bool = True,
    ) -> Explanation | ExplainedImages:  # fmt: skip
        """Draw class activation maps.

        Args:
            images: Image files or folders; by default misclassified and correct test images, drawn into the run.
            out: Folder for the overlays, if images are given.
            method: ``cam`` is exact for a head of global average pooling and a linear layer, ``grad-cam`` works for
                any network.
            label: Class to explain; by default the predicted class. Only with images.
            curves: Whether to compute deletion and insertion curves. Only with images.
            progress: Whether progress is shown on standard error.

        Raises:
            DataError: There are no images.
            RunError: The training has not finished, or there is no such class.
            Interrupted: Ctrl-C or SIGTERM was received.
        """
        if images is None:
            if label is not None or curves:
                raise UserError("label and curves require images; give files or folders")
            with execution(progress=progress) as context:
                folder = None if self._source.weights is None else Path(out)
                return explain_source(self._source, context, method, folder)[0]
        given = [images] if isinstance(images, str | Path) else list(images)
        with execution(progress=progress) as context:
            return explain_images(
                self._folder, [Path(one) for one in given], Path(out), context, method=method, label=label,
                curves=curves,
            )  # fmt: skip

    def export(
        self,
        engine: str = "onnxruntime",
        *,
        precision: Precision = "float32",
        out: str | Path | None = None,
        progress: bool = True,
    ) -> Exported:
        """Export to a file for an inference engine, check it against the model, and measure its latency.

        Args:
            engine: ``onnxruntime`` or ``onnx``, ``openvino``, ``executorch``, ``coreml`` or ``litert``.
            precision: ``float32``, ``float16`` (half the size), ``bfloat16`` (OpenVINO) or ``int8``.
            out: The file; by default in the run, or for weights in the current folder, by their name.
            progress: Whether progress is shown on standard error.

        Raises:
            UserError: The engine is unknown or not installed, or does not support the precision.
            ParityError: The outputs of the file differ from those of the model.
            QuantizationError: A file below float32 loses more accuracy than half a percentage point.
        """
        chosen = get_engine("onnxruntime" if engine == "onnx" else engine)
        path = None if out is None else Path(out)
        if path is not None and path.suffix != chosen.suffix:
            raise UserError(f"out={str(path)!r}: files for {chosen.title} must end in {chosen.suffix}")
        path = self._source.export_file(chosen, precision, path)
        with execution(progress=progress) as context:
            return export_source(self._source, context, chosen, precision, path)

    def export_app(
        self,
        app: str,
        *,
        precision: Precision = "float32",
        out: str | Path | None = None,
        progress: bool = True,
    ) -> Path:
        """Write an example project with the model, and return its folder; files that you added to it are kept.

        Args:
            app: ``web``, ``python``, ``cpp``, ``android`` or ``ios``.
            precision: ``float32``, or ``int8`` where the engine of the project has it.
            out: The folder in which the project has a folder of its name; by default ``apps`` in the run, and for
                weights ``NAME-apps`` in the current folder.
            progress: Whether progress is shown on standard error.

        Raises:
            UserError: The app is unknown, or its engine is not installed or does not support the precision.
            ExportError: The model does not classify photos.
            RunError: The folder of the project holds other files, or files of the project that were changed.
        """
        chosen = get_app(app)
        with execution(progress=progress) as context:
            ((_, folder),) = export_apps(self._source, context, [chosen], precision, None if out is None else Path(out))
        return folder

    def deploy(
        self, budget: BudgetLike | None = None, *, profiles: str | Path | Sequence[str | Path] = (),
        precisions: Sequence[Precision] = DEPLOYED, threads: int = 1, time_limit: str | float | None = None,
        out: str | Path | None = None, progress: bool = True,
    ) -> Deployment:  # fmt: skip
        """Choose the fastest file for a device: export for each engine and precision, evaluate and time the files.

        Args:
            budget: Limits on latency or file size, such as ``"20ms"``.
            profiles: Profiles of another device, one per engine; by default this machine.
            precisions: Precisions to try; for another device only float32 is.
            threads: Threads of each engine.
            time_limit: Begin no further file so that everything ends within this time: seconds, or ``"5m"``.
            out: Folder for the file of weights; by default ``deployed``. The file of a run is written into the run.
            progress: Whether progress is shown on standard error.

        Raises:
            BudgetError: No file is within the budget.
            RunError: The training has not finished.
        """
        options = DeployOptions(budget, profiles, precisions, threads, time_limit)
        return deploy_opened(self._source, options, None if out is None else Path(out), progress=progress)

    def _repr_html_(self) -> str:
        """Return the result with its figures, for notebooks."""
        return display_run(repr(self), self.metrics, read_evaluated(self._folder))

    def __repr__(self) -> str:
        """Return path, network and result in short form."""
        metrics = self.metrics
        result = "not finished" if not self.finished else "not evaluated"
        if metrics is not None:
            result = metrics.summary + (f", {GUESSING}" if guessing_note(metrics) else "")
        return f"Run({str(self.path)!r}, {self.network.name}, {len(self.classes)} classes, {result})"
