"""A run: one directory with everything that one job made, enough to resume it or to repeat it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import safetensors.torch
from torch import Tensor, nn

from triscale.data.pipeline.split import Split
from triscale.errors import RunError
from triscale.locks import LockedError, exclusive_lock
from triscale.network.contract import Preprocessing
from triscale.network.custom import AnyNetwork
from triscale.network.latency import Predictor
from triscale.nn.build import build
from triscale.record import Record, write_atomic
from triscale.results.machine import Machine
from triscale.scaling.budget import Budget
from triscale.scaling.fit import Fit
from triscale.scaling.law import Law
from triscale.training.recipe import Recipe

LOCK = ".lock"


class InitialWeights(Record):
    """The weights that a training starts from.

    Attributes:
        run: folder of a run, a file of weights or a published name.
        sha256: of the run's weights, or of all tensors of the others.
        inherits: whether the network to be trained is of another size.
        network: that the weights belong to.
        preprocessing: with which they were trained, if known.
    """

    run: str
    sha256: str
    inherits: bool = False
    network: AnyNetwork
    preprocessing: Preprocessing | None = None


class Request(Record):
    """What was asked of a run: the same request resumes it, another one is refused.

    ``network`` is trained as it is, or is the baseline that is scaled by ``law`` to ``budget``. The first weights are
    those of ``start``, or chance. ``predictor`` predicts the latency, where the budget limits that.
    """

    images: str
    network: AnyNetwork
    budget: Budget | None
    law: Law | None
    recipe: Recipe
    seed: int
    test_share: float
    start: InitialWeights | None = None
    predictor: Predictor | None = None


class RunSpec(Record):
    """What a run trains: the request, and the network that came of it."""

    kind_name: ClassVar[str] = "run"
    schema_number: ClassVar[int] = 2

    version: str
    request: Request
    network: AnyNetwork
    fit: Fit | None
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    split: str
    machine: Machine
    command: tuple[str, ...] = ()


class Artifact(Record):
    """A file of a finished run."""

    name: str
    size_bytes: int
    sha256: str


class RunManifest(Record):
    """The files of a run when its job ended; written last."""

    kind_name: ClassVar[str] = "manifest"

    files: tuple[Artifact, ...]


class Run:
    """The files of one run by their names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec_file = folder / "run.json"
        self.split_file = folder / "split.json"
        self.network_file = folder / "network.json"
        self.data_file = folder / "data.json"
        self.history_file = folder / "history.jsonl"
        self.checkpoints = folder / "checkpoints"
        self.tensorboard = folder / "tensorboard"
        self.weights_file = folder / "model.safetensors"
        self.metrics_file = folder / "metrics.json"
        self.predictions_file = folder / "predictions.csv"
        self.onnx_file = folder / "model.onnx"
        self.export_file = folder / "export.json"
        self.exports_file = folder / "exports.json"
        self.deploy_file = folder / "deploy.json"
        self.latency_file = folder / "latency.json"
        self.maps_folder = folder / "explain"
        self.maps_file = folder / "explain" / "maps.json"
        self.report_file = folder / "report.html"
        self.manifest_file = folder / "manifest.json"

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open an existing run.

        Raises:
            RunError: the folder holds none.
        """
        run = cls(folder)
        if not run.spec_file.is_file():
            raise RunError(f"{folder} holds no run (no run.json); give the folder that --out named when it was made")
        return run

    @property
    def spec(self) -> RunSpec:
        """What the run trains."""
        return RunSpec.load(self.spec_file)

    @property
    def split(self) -> Split:
        """Which images are for what."""
        return Split.load(self.split_file)

    def model(self) -> nn.Module:
        """Return the trained module, in evaluation mode, on the CPU.

        Raises:
            RunError: the training has not finished.
        """
        if not self.weights_file.is_file():
            raise RunError(f"the training in {self.folder} has not finished; give the same command again to resume it")
        model = build(self.spec.network)
        model.load_state_dict(safetensors.torch.load(self.weights_file.read_bytes()))
        return model.eval()

    def save_weights(self, tensors: dict[str, Tensor]) -> None:
        """Write the trained weights, durably."""
        write_atomic(self.weights_file, safetensors.torch.save(tensors, metadata={"triscale": "weights"}))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only writer of the run; the lock goes with the process, also when it is killed.

        Raises:
            RunError: another process writes to it, or the folder cannot be made or written.
        """
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
            yield

    @contextmanager
    def update(self) -> Iterator[None]:
        """Be the only writer of a run whose job has finished, and write its manifest again afterwards.

        Raises:
            RunError: another process writes to it.
        """
        with self.lock():
            yield
            if self.manifest_file.is_file():
                self.commit()

    def refuse_other(self, request: Request) -> None:
        """Make sure that the folder is free for a request: empty, or a run of the same.

        Raises:
            RunError: it holds something else.
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
        known = json.loads(self.spec.request.to_json())
        asked = json.loads(request.to_json())
        if known != asked:
            differing = ", ".join(_differences(known, asked))
            raise RunError(
                f"{self.folder} already holds a run of another request (it differs in {differing}); give "
                "another folder with --out, or the same options to resume it"
            )

    def commit(self) -> None:
        """Write the manifest of all files, last."""
        files = []
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            if path.is_file() and not name.startswith((".", "checkpoints/")) and path != self.manifest_file:
                content = path.read_bytes()
                files.append(Artifact(name=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()))
        RunManifest(files=tuple(files)).save(self.manifest_file)


def _differences(known: object, asked: object, place: str = "") -> list[str]:
    """Name the fields in which two plain records differ, with both values where they are short."""
    if isinstance(known, dict) and isinstance(asked, dict):
        found = []
        for key in known | asked:
            found += _differences(known.get(key), asked.get(key), f"{place}.{key}" if place else key)
        return found
    if known == asked:
        return []
    shown = f" ({known} there, {asked} asked)" if not isinstance(known, dict | list | None) else ""
    return [f"{place}{shown}"]
