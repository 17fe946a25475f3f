"""Everything that the page of a comparison of ways to scale can show, as frozen records."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from triscale.record import Record
from triscale.report.run.run_content import Amount, Count, NamedValue, Png, Share, Text
from triscale.report.search.search_content import Multipliers


class ScalingMethodRow(Record):
    """One network of the comparison: how it was scaled, what it costs, and what it came to on the test images.

    ``asked`` is the limit of its MACs, None for the baseline. ``low`` and ``high`` are the 95 % interval of the mean
    accuracy, ``seeds`` the single accuracies; ``gain`` is the mean over the baseline's.
    """

    way: Text
    asked: Count | None
    macs: Annotated[int, Field(gt=0)]
    params: Count
    place: Multipliers
    pixels: Count
    blocks: Count | None
    accuracy: Share
    low: Share
    high: Share
    seeds: tuple[Share, ...]
    gain: float
    best: bool
    tied: bool


class PublishedGainRow(Record):
    """What was published for one way: cost as stated, top-1 as a share, and the gain over the baseline's."""

    way: Text
    macs: Text
    top1: Share
    gain: float


class NetworkMapCell(Record):
    """What the network of one way says of an image, and the image with its class activation map laid over it."""

    way: Text
    predicted: Text
    confidence: Share
    overlay: Png


class ImageMapRow(Record):
    """An image and what each network makes of it."""

    file: Text
    truth: Text
    image: Png
    network_maps: tuple[NetworkMapCell, ...]


class ComparisonContent(Record):
    """Everything that the page of a comparison shows; the first of ``ways`` is the baseline.

    ``times``: how many times the baseline's MACs were allowed. ``count``: how many test images. Maps are of the
    networks of the first of ``seeds``. ``spent``: compute of all trainings in MACs.
    """

    kind_name: ClassVar[str] = "comparison_report"

    title: Text
    verdict: Text
    created: Text = ""
    warnings: tuple[Text, ...] = ()
    baseline: Text
    times: Amount
    law: Text
    count: Count
    epochs: Count
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    spent: Count
    ways: Annotated[tuple[ScalingMethodRow, ...], Field(min_length=2)]
    published: tuple[PublishedGainRow, ...] = ()
    source: Text = ""
    beside: tuple[ImageMapRow, ...] = ()
    limitations: tuple[Text, ...] = ()
    settings: tuple[NamedValue, ...] = ()
    environment: tuple[NamedValue, ...] = ()
    repeat: tuple[Text, ...] = ()
    go_on: tuple[Text, ...] = ()
    files: tuple[NamedValue, ...] = ()
    refresh_seconds: int | None = None
