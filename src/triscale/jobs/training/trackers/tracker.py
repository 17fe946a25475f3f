"""What an experiment tracker does, and what all trackers record of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Protocol

from triscale.jobs.core.networks import cost_of
from triscale.jobs.core.run import RunFolder, RunSpec
from triscale.record import Record
from triscale.results.history import Epoch
from triscale.results.metrics import AnyMetrics

Value = str | int | float | bool
TEST_METRICS = ("top1", "top1_low", "top1_high", "top5", "mean_class_accuracy", "mean_average_precision", "map_low",
                "map_high", "micro_f1", "macro_f1", "exact_match", "loss", "calibration_error")  # fmt: skip


class Tracker(Protocol):
    """Records one training. The constructor imports the tracker's package, and nothing else.

    A method may raise anything that the tracker's package raises: its caller keeps the training going.
    """

    def start(self, run: RunFolder, spec: RunSpec) -> str:
        """Begin the tracker's run, or continue the one that was begun for the same folder; return where it is shown.

        Raises:
            UserError: The tracker cannot be used as it is configured.
        """

    def write(self, history: tuple[Epoch, ...]) -> None:
        """Record the epochs that were not recorded before; the x-axis counts steps."""

    def finish(self, metrics: AnyMetrics) -> None:
        """Record the test metrics and the report, and end the tracker's run."""

    def stop(self, *, interrupted: bool) -> None:
        """End the tracker's run as interrupted, which the same training continues, or as failed."""


class TrackerRun(Record):
    """The run of an experiment tracker that belongs to a training.

    Attributes:
        run_id: The tracker's name for it.
        last_step: The last step that was recorded, where the tracker cannot be asked for it; -1 if none was.
        finished: Whether everything was recorded.
    """

    kind_name: ClassVar[str] = "tracker_run"

    run_id: str
    last_step: int = -1
    finished: bool = False


def load_tracker_run(file: Path) -> TrackerRun | None:
    """Return the tracker's run of an earlier process; None if there is none."""
    return TrackerRun.load(file) if file.is_file() else None


def run_name(run: RunFolder) -> str:
    """Return the name of a training in a tracker: that of its folder."""
    return run.folder.resolve().name


def parameters(run: RunFolder, spec: RunSpec) -> dict[str, Value]:
    """Return everything that determines a training, and the cost of its network, as one flat table."""
    request, cost = spec.request, cost_of(spec.network)
    values: dict[str, Any] = {
        "network": spec.network.name,
        "resolution": spec.network.resolution,
        "params": cost.params,
        "macs": cost.macs,
        "activations": cost.activations,
        # Without the query of a URL, where tokens stand.
        "images": Path(request.images.partition("?")[0]).name,
        "num_classes": len(spec.classes),
        "seed": request.seed,
        "test_share": request.test_share,
        "out": str(run.folder.resolve()),
        "version": spec.version,
    }
    if spec.fit is not None:
        values |= {"budget": str(request.budget), "baseline": spec.fit.baseline, "phi": spec.fit.phi}
    if request.start is not None:
        values["weights"] = request.start.run
    return values | flatten(request.recipe.model_dump(mode="json"), "recipe")


def flatten(value: object, name: str) -> dict[str, Value]:
    """Return nested data as one table, without None; lists become text.

    Example:
        >>> flatten({"batch": 8, "optimizer": {"kind": "sgd", "eps": None}, "crop": [1, 2]}, "recipe")
        {'recipe.batch': 8, 'recipe.optimizer.kind': 'sgd', 'recipe.crop': '1, 2'}
    """
    match value:
        case dict():
            parts = [flatten(inner, f"{name}.{key}") for key, inner in value.items()]
            return {key: inner for part in parts for key, inner in part.items()}
        case list():
            return {name: ", ".join(map(str, value))}
        case str() | int() | float():
            return {name: value}
        case _:
            return {}


def scalars(epoch: Epoch) -> dict[str, float]:
    """Return what is drawn of an epoch; epoch 0 has only validation metrics."""
    values = {
        "epoch": epoch.epoch,
        "loss/val": epoch.val_loss,
        "accuracy/val_top1" if epoch.val_map is None else "accuracy/val_map": epoch.val_score,
    }
    if epoch.train_loss is not None:
        values |= {
            "loss/train": epoch.train_loss,
            "learning_rate": epoch.learning_rate,
            "images_per_second": epoch.images_per_second,
        }
    return values


def final_scalars(metrics: AnyMetrics) -> dict[str, float]:
    """Return the test metrics, without those that do not apply."""
    values = {f"test/{name}": getattr(metrics, name, None) for name in TEST_METRICS}
    return {name: value for name, value in values.items() if value is not None}
