"""A run: one directory with everything that a training produced, enough to resume or repeat it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import safetensors.torch
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.pipeline.folds import Fold
from triscale.data.pipeline.split import Split
from triscale.errors import RunError
from triscale.locks import LockedError, exclusive_lock
from triscale.network.contract import SOFTMAX, Decision, Preprocessing, WeightsOrigin
from triscale.network.custom import AnyNetwork
from triscale.network.latency import Predictor
from triscale.nn.build import build
from triscale.record import Record, SparseRecord, write_atomic
from triscale.results.confidence import Calibration
from triscale.results.machine import Machine
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit
from triscale.scaling.piecewise import AnyLaw
from triscale.training.mirroring import with_flip
from triscale.training.recipe import AutomaticField, Recipe

LOCK = ".lock"


class InitialWeights(SparseRecord):
    """The initial weights of a training.

    Attributes:
        run: Folder of a run, a weights file or a published name.
        sha256: Digest of a run's weights file; of all tensors for other weights.
        inherits: Whether the network to train has another size and inherits the weights.
        prunes: Whether this network is that of the weights with fewer channels, chosen by the scales of batch norm;
            left out of JSON if false.
        network: The network that the weights belong to.
        preprocessing: The preprocessing that they were trained with; None if unknown.
        origin: The published or imported weights that they are, or were trained from; None, and left out of JSON, if
            there are none, and in runs of earlier versions.
    """

    sparse: ClassVar[tuple[str, ...]] = ("origin", "prunes")

    run: str
    sha256: str
    inherits: bool = False
    prunes: bool = False
    network: AnyNetwork
    preprocessing: Preprocessing | None = None
    origin: WeightsOrigin | None = None


class OpenChoices(Record):
    """What a request leaves open: it is decided once, before training, and the decision is recorded in the run.

    Attributes:
        weights: Whether published weights of the network are used if they are cached or can be downloaded.
        fields: Fields of the recipe that follow from the number of training images.
        recipe: The recipe without published weights, before ``fields`` are decided.
        pretrained: The recipe with published weights; None if ``weights`` is false.
        time_limit: Seconds within which the whole job is to end; None for no limit.
        tests_rate: Whether a range test chooses the learning rate.
    """

    weights: bool = False
    fields: tuple[AutomaticField, ...] = ()
    recipe: Recipe
    pretrained: Recipe | None = None
    time_limit: PositiveFloat | None = None
    tests_rate: bool = False


class Request(SparseRecord):
    """The request of a run: the same request resumes the run, a different one is refused.

    Attributes:
        images: The data set.
        network: The network to train, or the baseline to scale if there is a budget.
        budget: The limits that the scaled network must meet; None to train ``network`` unscaled.
        law: The scaling law; required with a budget.
        recipe: How to train; in a run, class names have decided ``augmentation.flip`` if the recipe left it open.
        seed: Seed of split, weights, order and augmentation.
        test_share: Share of each class to hold out for the test if the images have no test split.
        start: The initial weights; None for random weights.
        predictor: Predicts latency; required if the budget limits latency.
        data: How the images are read, and what is tolerated.
        teacher: The trained network that the training also learns from; None for the labels alone.
        fold: The fold of a cross-validation whose images are tested.
        open: What was left open; in a run, ``recipe`` and ``start`` hold the decisions. Like ``teacher`` and ``fold``,
            it is left out of JSON if it is None.
        trains: Whether the network is trained; otherwise the run holds the initial weights as they are, recipe and
            shares are without effect, and the images, if any, are for evaluation and calibration. Left out of JSON if
            true.
        keeps_head: Whether the classifier begins with the rows of the initial weights for the classes of the images,
            which are matched by name. Left out of JSON if false.
        class_names: For class folders that are not named by the classes of the weights: the class of each. Left out of
            JSON if empty.
    """

    sparse: ClassVar[tuple[str, ...]] = ("teacher", "fold", "open", "trains", "keeps_head", "class_names")

    images: str
    network: AnyNetwork
    budget: Budget | None
    law: AnyLaw | None
    recipe: Recipe
    seed: int
    test_share: float
    start: InitialWeights | None = None
    predictor: Predictor | None = None
    data: DataOptions = DEFAULT_DATA
    teacher: InitialWeights | None = None
    fold: Fold | None = None
    open: OpenChoices | None = None
    trains: bool = True
    keeps_head: bool = False
    class_names: dict[str, str] = Field(default_factory=dict)

    def settled_like(self, run: Request, classes: tuple[str, ...]) -> Request:
        """Return the request with what it leaves open decided as in a run with these classes."""
        if self.open is not None and self.open.time_limit is None and run.open is None:
            # Runs of earlier versions left nothing open: they trained the default recipe as it was.
            return self.replace(recipe=_decided(self.open.recipe, run.recipe, classes), open=None)
        if self.open is None or self.open != run.open:
            return self.replace(recipe=_decided(self.recipe, run.recipe, classes))
        return self.replace(recipe=run.recipe, start=run.start if self.open.weights else self.start)


def _decided(recipe: Recipe, of_run: Recipe, classes: tuple[str, ...]) -> Recipe:
    """Return a recipe with what every run decides: mirroring by the class names, and an automatic precision."""
    recipe = with_flip(recipe, classes)
    return recipe.replace(precision=of_run.precision) if recipe.precision == "auto" else recipe


class RunSpec(Record):
    """The specification of a run: the request, and everything that was derived from it before training."""

    kind_name: ClassVar[str] = "run"
    schema_number: ClassVar[int] = 3

    version: str
    request: Request
    network: AnyNetwork
    fit: Fit | None
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    split: str
    machine: Machine
    command: tuple[str, ...] = ()


def how_to_add_images(spec: RunSpec) -> str:
    """Return the end of a sentence about images that a run does not have: what to type if it holds weights as they are.

    Args:
        spec: The specification of the run.
    """
    if spec.request.trains or spec.request.start is None:
        return ""
    return f"; make it with images: triscale weights run {spec.request.start.run} IMAGES --out RUN"


def named_in_messages(run: RunFolder) -> str:
    """Return what a user calls a run: the weights that it holds as they are, since its folder may be temporary.

    Args:
        run: A run.
    """
    request = run.spec.request
    return str(run.folder) if request.trains or request.start is None else request.start.run


class Artifact(Record):
    """A file of a finished run, with its size and digest."""

    name: str
    size_bytes: int
    sha256: str


class RunManifest(Record):
    """All files of a finished run; written last, so its presence means that the job has finished."""

    kind_name: ClassVar[str] = "manifest"

    files: tuple[Artifact, ...]


class RunFolder:
    """A run's directory, with the paths of its files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec_file = folder / "run.json"
        self.split_file = folder / "split.json"
        self.network_file = folder / "network.json"
        self.data_file = folder / "data.json"
        self.contents_file = folder / "contents.json"
        self.sbom_file = folder / "sbom.cdx.json"
        self.history_file = folder / "history.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.tensorboard = folder / "tensorboard"
        self.weights_file = folder / "model.safetensors"
        self.decision_file = folder / "decision.json"
        self.calibration_file = folder / "calibration.json"
        self.metrics_file = folder / "metrics.json"
        self.predictions_file = folder / "predictions.csv"
        self.onnx_file = folder / "model.onnx"
        self.export_file = folder / "export.json"
        self.exports_file = folder / "exports.json"
        self.deploy_file = folder / "deploy.json"
        self.robustness_file = folder / "robustness.json"
        self.latency_file = folder / "latency.json"
        self.maps_folder = folder / "explain"
        self.maps_file = folder / "explain" / "maps.json"
        self.report_file = folder / "report.html"
        self.card_file = folder / "README.md"
        self.signature_file = folder / "model.sig"
        self.manifest_file = folder / "manifest.json"

    @classmethod
    def open(cls, folder: Path) -> RunFolder:
        """Open an existing run.

        Raises:
            RunError: The folder holds no run.
        """
        run = cls(folder)
        if not run.spec_file.is_file():
            raise RunError(f"{folder} holds no run (no run.json); give the folder that was passed to --out")
        return run

    def tracker_file(self, name: str) -> Path:
        """Return the file that says which run of an experiment tracker belongs to this run."""
        return self.folder / f"{name}.json"

    @property
    def spec(self) -> RunSpec:
        """The specification of the run."""
        return RunSpec.load(self.spec_file)

    @property
    def split(self) -> Split:
        """The split of the images into training, validation and test images."""
        return Split.load(self.split_file)

    @property
    def decision(self) -> Decision:
        """How the logits of the trained network become an answer, with the calibration if there is one."""
        decision = self.uncalibrated_decision
        return decision if self.calibration is None else decision.calibrated(self.calibration.confidence)

    @property
    def uncalibrated_decision(self) -> Decision:
        """The decision that the training wrote, which a calibration does not change."""
        return Decision.load(self.decision_file) if self.decision_file.is_file() else SOFTMAX

    @property
    def calibration(self) -> Calibration | None:
        """The calibration by the validation images; None before it, and in runs of earlier versions."""
        return Calibration.load(self.calibration_file) if self.calibration_file.is_file() else None

    def model(self) -> nn.Module:
        """Return the trained module in evaluation mode on the CPU.

        Raises:
            RunError: The training has not finished.
        """
        if not self.weights_file.is_file():
            raise RunError(f"the training in {self.folder} has not finished; run the same command again to resume it")
        model = build(self.spec.network)
        model.load_state_dict(safetensors.torch.load(self.weights_file.read_bytes()))
        return model.eval()

    def save_weights(self, tensors: dict[str, Tensor]) -> None:
        """Write the trained weights atomically."""
        write_atomic(self.weights_file, safetensors.torch.save(tensors, metadata={"triscale": "weights"}))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run for exclusive writing; the lock is released when the process exits or is killed.

        If the job fails before it has written anything, the folders that were created for it are removed.

        Raises:
            RunError: Another process holds the lock, or the folder cannot be created or written.
        """
        created = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / LOCK).touch()
        except OSError as error:
            raise RunError(
                f"cannot write to {self.folder}: {error.strerror}; give another folder with --out"
            ) from error
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(self.folder / LOCK))
            except LockedError as owner:
                raise RunError(
                    f"{self.folder} is in use by {owner}; wait for it, stop it, or give another folder with --out"
                ) from None
            try:
                yield
            except BaseException:
                if created and [path.name for path in self.folder.iterdir()] == [LOCK]:
                    with contextlib.suppress(OSError):  # an open file cannot be removed on Windows
                        (self.folder / LOCK).unlink()
                        for folder in created:
                            folder.rmdir()
                raise

    @contextmanager
    def update(self) -> Iterator[None]:
        """Lock a finished run for a change of its files, and write its manifest again afterwards.

        Raises:
            RunError: Another process holds the lock.
        """
        with self.lock():
            yield
            if self.manifest_file.is_file():
                self.commit()

    def refuse_other(self, request: Request) -> None:
        """Check that the folder is empty or holds a run with the same request.

        What a request leaves open is decided as it was for the run.

        Raises:
            RunError: The folder holds other files, or a run with a different request.
        """
        if not self.spec_file.is_file():
            foreign = (
                sorted(path.name for path in self.folder.iterdir() if path.name != LOCK) if self.folder.is_dir() else []
            )
            if foreign and not (self.split_file.is_file() or self.data_file.is_file()):
                raise RunError(
                    f"{self.folder} is not empty and holds no run ({', '.join(foreign[:3])}); "
                    "give a new folder with --out"
                )
            return
        spec = self.spec
        saved = json.loads(spec.request.to_json())
        requested = json.loads(request.settled_like(spec.request, spec.classes).to_json())
        for side in (saved, requested):
            for weights in ("start", "teacher"):  # runs of earlier versions do not record where weights are from
                (side.get(weights) or {}).pop("origin", None)
        if saved != requested:
            differing = ", ".join(_differences(saved, requested))
            raise RunError(
                f"{self.folder} already holds a run with a different request ({differing}); give another folder with "
                "--out, or the same options as before to resume the run"
            )

    def commit(self) -> None:
        """Write the manifest of all files; this marks the run as finished.

        It leaves out checkpoints, the files of W&B, which ``wandb sync`` changes later, the model card, which a user
        edits, and the signature.
        """
        files, later = [], (self.manifest_file, self.card_file, self.signature_file)
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not name.startswith((".", "checkpoints/", "wandb/")) and path not in later:
                content = path.read_bytes()
                files.append(Artifact(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
        RunManifest(files=tuple(files)).save(self.manifest_file)


def _differences(saved: object, requested: object, path: str = "") -> list[str]:
    """Return the fields in which two requests differ, with both values if these are scalars."""
    if isinstance(saved, dict) and isinstance(requested, dict):
        differing = []
        for key in saved | requested:
            differing += _differences(saved.get(key), requested.get(key), f"{path}.{key}" if path else key)
        return differing
    if saved == requested:
        return []
    values = f": {saved} in the run, {requested} requested" if not isinstance(saved, dict | list | None) else ""
    return [f"{path}{values}"]
