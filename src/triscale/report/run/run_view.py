"""Values that the report of a run derives from its records: sections, headline figures, sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from triscale.network.cost import StageCost
from triscale.network.describe import PartDescription, describe_parts
from triscale.network.spec import Network
from triscale.report.draw.format import TIMES, grouped, milliseconds, share, si, size, unbroken
from triscale.report.run.class_view import class_cards, most_frequent_confusions
from triscale.report.run.cost_figures import Panel, PlotPoint
from triscale.report.run.run_content import FamilyPoint, ImageCard, RunContent
from triscale.results.data_summary import DataSummary
from triscale.results.deployment import Deployment, DeploymentCandidate
from triscale.results.latency import Measurement
from triscale.results.metrics import Metrics, MultiLabelMetrics
from triscale.results.robustness import ClassRobustness, Robustness
from triscale.scaling.fit import Limit

__all__ = ["class_cards", "most_frequent_confusions"]

CONVENTION = (
    "MACs: multiply-accumulates of convolutions, squeeze-excite and classifier for one image, no bias, no batch norm; "
    "parameters without batch-norm statistics; size: both as float32"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline figure."""

    name: str
    value: str
    detail: str


def sections(content: RunContent) -> tuple[tuple[str, str], ...]:
    """Return the sections with content, as pairs of template name and heading."""
    evaluated = isinstance(content.metrics, Metrics) and content.cost is not None and content.cost.macs > 0
    candidates = (
        ("results", "Results", isinstance(content.metrics, Metrics)),
        ("results_labels", "Results", isinstance(content.metrics, MultiLabelMetrics)),
        ("confidence", "Confidence", content.calibration is not None),
        ("robustness", "Robustness", content.robustness is not None),
        ("maps", "Class activation maps", bool(content.maps)),
        ("budget", "Budget", content.fit is not None),
        ("cost", "Accuracy against cost", any(point.top1 is not None for point in content.families) or evaluated),
        ("device", "Deployment", bool(content.latency or content.exported or content.deployed or content.measure)),
        ("training", "Training", content.data is not None or bool(content.history) or bool(content.recipe)),
        ("network", "Network", content.network is not None or bool(content.families)),
        ("repeat", "Reproduce this run", bool(content.repeat) or bool(content.environment) or bool(content.files)),
    )
    return tuple((name, title) for name, title, present in candidates if present)


def headline(content: RunContent) -> tuple[Tile, ...]:
    """Return the headline figures: accuracy, cost, latency and the size of the exported file."""
    tiles = []
    if metrics := content.metrics:
        low, high = (unbroken(share(end)) for end in metrics.interval)
        name = "Top-1 accuracy" if isinstance(metrics, Metrics) else "Mean average precision"
        tiles.append(Tile(name, share(metrics.score), f"{low} to {high}, {grouped(metrics.count)} images"))
        if isinstance(metrics, Metrics) and metrics.is_imbalanced:
            tiles.append(
                Tile("Balanced accuracy", share(metrics.mean_class_accuracy), "mean over the imbalanced classes")
            )
    if (network := content.network) and (cost := content.cost):
        tiles.append(Tile("MACs", si(cost.macs), f"at {network.size.width} {TIMES} {network.size.height} pixels"))
        tiles.append(Tile("Parameters", si(cost.params), network.name))
    if content.latency:
        row = content.latency[0]
        noisy = ", noisy measurement" if row.noise else ""
        tiles.append(Tile("Latency", milliseconds(row.median_ms), f"{conditions(row)}{noisy}"))
    if content.exported:
        tiles.append(Tile("Exported file", size(content.exported.size_bytes), content.exported.file))
    return tuple(tiles)


def conditions(item: Measurement) -> str:
    """Return how a latency was measured: engine, batch size and number of threads."""
    return f"{item.engine}, batch {item.batch}, {item.threads} thread{'s' if item.threads != 1 else ''}"


def limit_note(content: RunContent, limit: Limit) -> str:
    """Return how the achieved value of a limit was determined, if it was not counted."""
    if limit.name != "latency":
        return ""
    row = content.latency[0] if content.latency else None
    measured = "" if row is None else f", measured {milliseconds(row.median_ms)} in {row.engine}"
    return f"predicted by the device profile{measured}"


def scaling_notes(content: RunContent) -> tuple[str, ...]:
    """Return the differences between the network and the exact result of its scaling coefficients."""
    notes, fit = [], content.fit
    if fit and content.network and fit.scale.resolution != 1:
        notes.append(f"resolution {content.network.size} px, rounded from the value of the scaling law")
    if fit and fit.steps:
        notes.append(f"extra channels or layers that use up the remaining budget: {', '.join(fit.steps)}")
    return tuple(notes)


def stages(content: RunContent) -> tuple[tuple[StageCost, PartDescription], ...]:
    """Return stem, stages and head with their cost; those of a custom model have no description."""
    if content.cost is None:
        return ()
    unknown = (PartDescription("", 1, 1),) * len(content.cost.stages)
    described = describe_parts(content.network) if isinstance(content.network, Network) else unknown
    return tuple(zip(content.cost.stages, described, strict=True))


def own_point(content: RunContent) -> FamilyPoint | None:
    """Return the network as a point of the figure of published families; None without a counted cost."""
    network, cost = content.network, content.cost
    if network is None or cost is None or not (cost.params and cost.macs):
        return None
    return FamilyPoint(family="", name=network.name, params=cost.params, macs=cost.macs)


def published(points: Sequence[FamilyPoint]) -> tuple[FamilyPoint, ...]:
    """Return the networks with a published accuracy, by their MACs."""
    return tuple(sorted((point for point in points if point.top1 is not None), key=lambda p: (p.macs, p.name)))


def split_sentence(data: DataSummary) -> str:
    """Return a sentence with the number of images in total and in each split."""
    if not data.classes:
        return "Images"
    train, val, test = (sum(getattr(row, split) for row in data.classes) for split in ("train", "val", "test"))
    return (
        f"{grouped(train + val + test)} images of {grouped(len(data.classes))} classes ({grouped(train)} for training, "
        f"{grouped(val)} for validation, {grouped(test)} for testing)"
    )


def devices(rows: Sequence[Measurement]) -> tuple[str, ...]:
    """Return the processors that latencies were measured on, each once."""
    return tuple(dict.fromkeys(row.machine.processor for row in rows if row.machine.processor))


def noise_of(rows: Sequence[Measurement]) -> tuple[str, ...]:
    """Return the noisy measurements, as engine and reason."""
    return tuple(f"{row.engine}: {row.noise}" for row in rows if row.noise)


def candidates(deployment: Deployment) -> tuple[DeploymentCandidate, ...]:
    """Return the files that were compared for a device, the fastest first."""
    return tuple(sorted(deployment.candidates, key=lambda one: one.milliseconds or math.inf))


def float_blocks(deployment: Deployment, *, for_speed: bool) -> tuple[str, ...]:
    """Return the blocks of the chosen int8 file that stay in float, for speed or else for accuracy."""
    blocks = deployment.quantized.blocks if deployment.quantized is not None else ()
    return tuple(
        block.name for block in blocks if (block.for_speed if for_speed else block.kept_float and not block.for_speed)
    )


def panels(content: RunContent) -> tuple[Panel, ...]:
    """Return the one panel of measured accuracy against cost: the trained network."""
    if content.network is None or content.cost is None or not isinstance(content.metrics, Metrics):
        return ()
    network, cost, metrics = content.network, content.cost, content.metrics
    images = f"{grouped(metrics.count)} {metrics.split} images"
    title = f"{content.images}, {images}" if content.images else images
    point = PlotPoint.of(network.name, cost.macs, cost.params, metrics, title)
    return (Panel(title, (point,)),)


def cost_caption(content: RunContent) -> str:
    """Return the caption of the figure of accuracy against cost."""
    sentences = []
    if panels(content):
        sentences.append("Above: this network (star) with its 95% interval.")
    if published(content.families):
        sentences.append("Below, on a separate scale: published networks on ImageNet.")
        if sentences[1:]:
            sentences.append("The dashed line marks the cost of this network.")
    return " ".join(sentences)


def is_right(card: ImageCard) -> bool:
    """Return whether an image was classified correctly."""
    return card.prediction.predicted == card.prediction.truth


def ordered_maps(cards: Sequence[ImageCard]) -> tuple[ImageCard, ...]:
    """Return the class activation maps, those of misclassified images first, then by confidence."""
    return tuple(sorted(cards, key=lambda card: (is_right(card), -card.prediction.confidence)))


def maps_sentence(cards: Sequence[ImageCard]) -> str:
    """Return a sentence with the number of misclassified images among those with a map."""
    wrong = sum(not is_right(card) for card in cards)
    if not wrong:
        return "All of these images are classified correctly."
    order = ", shown first" if wrong < len(cards) else ""
    return f"{wrong} of these {len(cards)} images {'is' if wrong == 1 else 'are'} misclassified{order}."


def weakest_first(result: Robustness) -> tuple[ClassRobustness, ...]:
    """Return the classes with images, those with the lowest recall on corrupted images first."""
    present = [row for row in result.classes if row.clean is not None]
    return tuple(sorted(present, key=lambda row: (sum(one.value for one in row.corrupted), row.name)))


def chance(content: RunContent) -> float | None:
    """Return the accuracy of always predicting the most frequent class of the test images; None without it."""
    return content.metrics.majority_share if isinstance(content.metrics, Metrics) else None
