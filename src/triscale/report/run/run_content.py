"""The content of a run's report: the records that the run has saved so far."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from triscale.network.cost import Cost
from triscale.network.custom import AnyNetwork
from triscale.record import Record
from triscale.report.content import NamedValue, ReportContent
from triscale.report.images import Raster
from triscale.results.confidence import Calibration
from triscale.results.data_summary import DataSummary
from triscale.results.deployment import Deployment, Export
from triscale.results.explanation import ClassifiedImage
from triscale.results.history import Epoch
from triscale.results.latency import Measurement
from triscale.results.metrics import AnyMetrics
from triscale.results.robustness import Robustness
from triscale.scaling.fit import Fit


class FamilyPoint(Record):
    """A network as a point of a figure: its cost, and its published ImageNet accuracy.

    ``top1`` is a share from 0 to 1; None if no accuracy was published.
    """

    family: str
    name: str
    params: Annotated[int, Field(gt=0)]
    macs: Annotated[int, Field(gt=0)]
    top1: Annotated[float, Field(ge=0, le=1)] | None = None


class ImageCard(Record):
    """A classified test image, with thumbnails of the image and of its class activation map if they exist."""

    prediction: ClassifiedImage
    image: Raster | None = None
    overlay: Raster | None = None


class RunContent(ReportContent):
    """Everything that the report of a run shows; sections without a record are omitted.

    Attributes:
        images: Name of the data set that ``metrics`` were measured on.
        fit: How the network was scaled to its budget.
        network: The trained network.
        cost: Its cost, stage by stage.
        families: Published networks to compare it with.
        data: Images by class and split, and the skipped files.
        split: How the images were split, as a sentence.
        seed: Seed of split and training.
        recipe: Every setting of the training.
        history: The learning curve, from epoch 0 for pretrained weights.
        kept: Whose weights are kept, as a sentence.
        metrics: The evaluation on one split.
        calibration: What was fitted to the validation images.
        robustness: The accuracy on corrupted test images.
        wrong: Misclassified images, for each class the most confident predictions first.
        maps: Class activation maps of test images.
        latency: Latencies; the first one is shown as the headline.
        measure: Command that measures the latency, if it has not been measured.
        exported: The exported file and its parity check.
        deployed: The file chosen for a device.
    """

    kind_name: ClassVar[str] = "report"
    schema_number: ClassVar[int] = 3

    images: str = ""
    fit: Fit | None = None
    network: AnyNetwork | None = None
    cost: Cost | None = None
    families: tuple[FamilyPoint, ...] = ()
    data: DataSummary | None = None
    split: str = ""
    seed: int | None = None
    recipe: tuple[NamedValue, ...] = ()
    history: tuple[Epoch, ...] = ()
    kept: str = ""
    metrics: AnyMetrics | None = None
    calibration: Calibration | None = None
    robustness: Robustness | None = None
    wrong: tuple[ImageCard, ...] = ()
    maps: tuple[ImageCard, ...] = ()
    latency: tuple[Measurement, ...] = ()
    measure: str = ""
    exported: Export | None = None
    deployed: Deployment | None = None
