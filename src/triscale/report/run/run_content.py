"""Everything that a page can show, as frozen records; every section is optional."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from triscale.record import Record

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
# What no page and no XML text may hold: control characters other than tab and newline, and half a surrogate pair, which
# is how Python reads a file name that is not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def _printable(value: object) -> object:
    return _UNPRINTABLE.sub("\ufffd", value) if isinstance(value, str) else value


def _png(value: object) -> object:
    value = _decoded(value, "PNG")
    if isinstance(value, bytes) and not value.startswith(PNG_SIGNATURE):
        raise ValueError("expected a PNG image")
    return value


def _raster(value: object) -> object:
    value = _decoded(value, "PNG or JPEG")
    if isinstance(value, bytes) and not value.startswith((PNG_SIGNATURE, JPEG_SIGNATURE)):
        raise ValueError("expected a PNG or JPEG image")
    return value


def _decoded(value: object, formats: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"expected a {formats} image in base64") from error


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


Text = Annotated[str, BeforeValidator(_printable)]
"""Any text, such as a class or file name; what cannot be shown becomes U+FFFD."""

Png = Annotated[bytes, BeforeValidator(_png), PlainSerializer(_base64, return_type=str, when_used="json")]
"""The bytes of a PNG file; base64 in the JSON form."""

Raster = Annotated[bytes, BeforeValidator(_raster), PlainSerializer(_base64, return_type=str, when_used="json")]
"""The bytes of a PNG or JPEG file; base64 in the JSON form."""

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


class NamedValue(Record):
    """A name and what belongs to it."""

    name: Text
    value: Text


class LimitRow(Record):
    """One limit of the budget: what was asked, what came out, and the share of the limit that is used.

    ``note`` says where the figure is from, if it was not counted.
    """

    name: Text
    asked: Text
    achieved: Text
    used: Amount
    binding: bool = False
    note: Text = ""


class ScalingFacts(Record):
    """How the network was scaled from its baseline; the multipliers are relative to the baseline."""

    baseline: Text
    law: Text
    phi: float
    depth: Amount
    width: Amount
    resolution: Amount
    notes: tuple[Text, ...] = ()


class StageRow(Record):
    """One stage of the network with its cost; ``side`` is the side of its output in pixels."""

    name: Text
    block: Text
    repeats: Count
    width: Count
    stride: Count
    side: Count
    params: Count
    macs: Count
    activations: Count


class NetworkFacts(Record):
    """The network and its cost; ``convention`` says what its figures count."""

    name: Text
    resolution: Count
    classes: Count
    params: Count
    macs: Count
    activations: Count
    size_bytes: Count | None = None
    convention: Text = ""
    stages: tuple[StageRow, ...] = ()


class FamilyPoint(Record):
    """A published network to compare with; ``top1`` is its accuracy on ImageNet as its authors published it."""

    family: Text
    name: Text
    params: Annotated[int, Field(gt=0)]
    macs: Annotated[int, Field(gt=0)]
    top1: Share | None = None


class ClassCount(Record):
    """How many images of a class each split holds."""

    name: Text
    train: Count
    val: Count
    test: Count


class BadFileRow(Record):
    """A file that was left out, and why."""

    path: Text
    reason: Text


class DataFacts(Record):
    """The images and how they were split."""

    root: Text
    classes: tuple[ClassCount, ...] = ()
    how: Text = ""
    bad: tuple[BadFileRow, ...] = ()
    seed: int | None = None


class CurvePoint(Record):
    """One epoch of the training; ``None`` where nothing was measured or the value is not a finite number."""

    epoch: Amount
    train_loss: float | None
    val_loss: float | None = None
    val_top1: Share | None = None
    learning_rate: float | None = None
    images_per_second: Amount | None = None


class ClassMetric(Record):
    """Precision, recall and F1 of a class; ``None`` where the quotient has no denominator."""

    name: Text
    count: Count
    precision: Share | None
    recall: Share | None
    f1: Share | None


class ReliabilityBin(Record):
    """Predictions with a confidence between ``low`` and ``high``: mean confidence, share right, how many."""

    low: Share
    high: Share
    confidence: Share
    accuracy: Share
    count: Count


class MetricFacts(Record):
    """The evaluation on one split; ``top1_low`` and ``top1_high`` are the 95 % Wilson interval.

    ``confusion[i][j]`` counts the images of class ``i`` that were taken for class ``j``, in the order of ``per_class``.
    """

    split: Text
    count: Count
    top1: Share
    top1_low: Share
    top1_high: Share
    top5: Share | None = None
    mean_class_accuracy: Share | None = None
    loss: float | None = None
    calibration_error: Share | None = None
    per_class: tuple[ClassMetric, ...] = ()
    confusion: tuple[tuple[Count, ...], ...] = ()
    reliability: tuple[ReliabilityBin, ...] = ()

    @model_validator(mode="after")
    def _check_confusion(self) -> Self:
        size = len(self.confusion)
        if size and (any(len(row) != size for row in self.confusion) or size != len(self.per_class)):
            raise ValueError(f"confusion needs {len(self.per_class)} rows and columns, one for each entry of per_class")
        return self


class MapCard(Record):
    """An image beside the same image with its class activation map laid over it."""

    file: Text
    truth: Text
    predicted: Text
    confidence: Share
    right: bool
    image: Raster
    overlay: Raster


class WrongImage(Record):
    """A test image that was taken for another class, with its class activation map where there is one.

    ``image`` is absent where the file could not be read any more.
    """

    file: Text
    truth: Text
    predicted: Text
    confidence: Share
    image: Raster | None = None
    overlay: Raster | None = None


class LatencyRow(Record):
    """A measured latency with its spread, in milliseconds for one batch.

    ``low_ms`` and ``high_ms`` are the 95 % interval of the median, ``device`` is where it was taken, ``noisy`` says
    why the figure is not to be trusted.
    """

    engine: Text
    batch: Count
    threads: Count
    resolution: Count
    median_ms: Amount
    lower_quartile_ms: Amount
    upper_quartile_ms: Amount
    samples: Count
    note: Text = ""
    low_ms: Amount | None = None
    high_ms: Amount | None = None
    peak_bytes: Count | None = None
    device: Text = ""
    noisy: Text = ""


class ExportFacts(Record):
    """The exported file and how well it computes what the model computes; None where its engine does not run here."""

    file: Text
    size_bytes: Count
    max_error: Amount | None
    agreement: Share | None
    images: Count
    engine: Text


class DeployedRow(Record):
    """One way to run the network, and why it was taken or left; ``milliseconds`` are for one image."""

    engine: Text
    precision: Text
    size_bytes: Count | None = None
    accuracy: Share | None = None
    milliseconds: Amount | None = None
    verdict: Text
    chosen: bool = False


class DeployedFacts(Record):
    """The file that was chosen for a device, and what it was chosen from; times are ``predicted`` by a profile or not.

    ``kept_float`` names the blocks of the chosen int8 file that stay float for accuracy, ``faster_in_float`` those that
    do for speed.
    """

    file: Text
    device: Text
    threads: Count
    predicted: bool = False
    rows: tuple[DeployedRow, ...]
    kept_float: tuple[Text, ...] = ()
    faster_in_float: tuple[Text, ...] = ()


class Content(Record):
    """Everything that one page shows; a page that is renewed loads itself again after ``refresh_seconds``.

    ``images`` names the images that ``metrics`` are of; ``wrong`` begins, for each class, with the image about which
    the network was surest; ``measure`` is the command that measures a latency, where none was recorded.
    """

    kind_name: ClassVar[str] = "report"

    title: Text
    verdict: Text = ""
    created: Text = ""
    warnings: tuple[Text, ...] = ()
    asked: tuple[LimitRow, ...] = ()
    scaling: ScalingFacts | None = None
    network: NetworkFacts | None = None
    families: tuple[FamilyPoint, ...] = ()
    data: DataFacts | None = None
    recipe: tuple[NamedValue, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    images: Text = ""
    metrics: MetricFacts | None = None
    wrong: tuple[WrongImage, ...] = ()
    maps: tuple[MapCard, ...] = ()
    latency: tuple[LatencyRow, ...] = ()
    measure: Text = ""
    exported: ExportFacts | None = None
    deployed: DeployedFacts | None = None
    environment: tuple[NamedValue, ...] = ()
    repeat: tuple[Text, ...] = ()
    files: tuple[NamedValue, ...] = ()
    refresh_seconds: int | None = None
