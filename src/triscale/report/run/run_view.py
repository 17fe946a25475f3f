"""What a page shows in which order: sections, headline figures, the weakest first. Nothing here is recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triscale.report.draw.format import TIMES, grouped, milliseconds, share, si, size, unbroken
from triscale.report.draw.svg import Picture
from triscale.report.run import curve_figures
from triscale.report.run import quality_figures as quality
from triscale.report.run import stage_figures as figures
from triscale.report.run.class_view import ClassCard, arrange_classes
from triscale.report.run.cost_figures import Panel, PlotPoint, accuracy_against_cost
from triscale.report.run.image import Image, to_image
from triscale.report.run.run_content import (
    Content,
    CurvePoint,
    DataFacts,
    FamilyPoint,
    MapCard,
    MetricFacts,
    NetworkFacts,
)

SHOWN_MISTAKES = 6


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the page: the name of its template and anchor, and its heading."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline figure."""

    name: str
    value: str
    detail: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """How often a class was taken for another one, of how many images of it."""

    truth: str
    predicted: str
    count: int
    total: int


@dataclass(frozen=True, slots=True)
class Card:
    """A class activation map, ready for the page."""

    file: str
    truth: str
    predicted: str
    confidence: float
    right: bool
    image: Image
    overlay: Image


@dataclass(frozen=True, slots=True)
class View:
    """What the templates read besides the content itself."""

    sections: tuple[Section, ...]
    headline: tuple[Tile, ...]
    has_binding: bool
    data_sentence: str
    classes: tuple[ClassCard, ...]
    devices: tuple[str, ...]
    noisy: tuple[str, ...]
    confusions: tuple[Mistake, ...]
    maps: tuple[Card, ...]
    maps_sentence: str
    latency_intervals: bool
    latency_peaks: bool
    published: tuple[FamilyPoint, ...]
    cost_caption: str
    against_cost: Picture | None
    families: Picture | None
    stage_bars: Picture | None
    loss_curve: Picture | None
    accuracy_curve: Picture | None
    confusion: Picture | None
    reliability: Picture | None
    latency_bars: Picture | None


def arrange(content: Content) -> View:
    """Choose and order what a page shows of its content."""
    network, metrics, curve = content.network, content.metrics, content.curve
    return View(
        sections=_sections(content),
        headline=_headline(content),
        has_binding=any(row.binding for row in content.asked),
        data_sentence=_data_sentence(content.data) if content.data else "",
        classes=arrange_classes(metrics, content.wrong) if metrics else (),
        devices=tuple(dict.fromkeys(row.device for row in content.latency if row.device)),
        noisy=tuple(f"{row.engine}: {row.noisy}" for row in content.latency if row.noisy),
        confusions=_mistakes(metrics) if metrics else (),
        maps=tuple(_card(card) for card in sorted(content.maps, key=lambda card: (card.right, -card.confidence))),
        maps_sentence=_maps_sentence(content.maps),
        latency_intervals=any(row.low_ms is not None for row in content.latency),
        latency_peaks=any(row.peak_bytes is not None for row in content.latency),
        published=tuple(sorted((p for p in content.families if p.top1 is not None), key=lambda p: (p.macs, p.name))),
        cost_caption=_cost_caption(content),
        against_cost=accuracy_against_cost(_panels(content), content.families),
        families=figures.families(content.families, network) if content.families else None,
        stage_bars=figures.stage_bars(network.stages) if network and network.stages else None,
        loss_curve=curve_figures.loss_curve(curve) if _has_loss(curve) else None,
        accuracy_curve=curve_figures.accuracy_curve(curve) if any(p.val_top1 is not None for p in curve) else None,
        confusion=_confusion(metrics) if metrics else None,
        reliability=quality.reliability_diagram(metrics.reliability) if metrics and metrics.reliability else None,
        latency_bars=figures.latency_bars(content.latency) if len(content.latency) > 1 else None,
    )


def _sections(content: Content) -> tuple[Section, ...]:
    judged = content.metrics is not None and content.network is not None and content.network.macs > 0
    candidates = (
        ("budget", "Budget", bool(content.asked) or content.scaling is not None),
        ("cost", "Accuracy against cost", any(point.top1 is not None for point in content.families) or judged),
        ("results", "Results", content.metrics is not None),
        ("maps", "Where it looks", bool(content.maps)),
        ("device", "On the device", bool(content.latency or content.exported or content.deployed or content.measure)),
        ("training", "Training", content.data is not None or bool(content.curve) or bool(content.recipe)),
        ("network", "The network", content.network is not None or bool(content.families)),
        ("repeat", "How to repeat it", bool(content.repeat) or bool(content.environment) or bool(content.files)),
    )
    return tuple(Section(name, title) for name, title, present in candidates if present)


def _headline(content: Content) -> tuple[Tile, ...]:
    tiles = []
    if metrics := content.metrics:
        low, high = unbroken(share(metrics.top1_low)), unbroken(share(metrics.top1_high))
        tiles.append(Tile("Top-1 accuracy", share(metrics.top1), f"{low} to {high}, {grouped(metrics.count)} images"))
    if network := content.network:
        tiles.append(Tile("MACs", si(network.macs), f"at {network.resolution} {TIMES} {network.resolution} pixels"))
        tiles.append(Tile("Parameters", si(network.params), network.name))
    if content.latency:
        row = content.latency[0]
        plural = "s" if row.threads != 1 else ""
        doubt = ", on a restless machine" if row.noisy else ""
        detail = f"{row.engine}, batch {row.batch}, {row.threads} thread{plural}{doubt}"
        tiles.append(Tile("Latency", milliseconds(row.median_ms), detail))
    if content.exported:
        tiles.append(Tile("Exported file", size(content.exported.size_bytes), content.exported.file))
    return tuple(tiles)


def _data_sentence(data: DataFacts) -> str:
    if not data.classes:
        return "Images"
    train, val, test = (sum(getattr(row, split) for row in data.classes) for split in ("train", "val", "test"))
    return (
        f"{grouped(train + val + test)} images of {grouped(len(data.classes))} classes ({grouped(train)} for training, "
        f"{grouped(val)} for validation, {grouped(test)} for the test)"
    )


def _panels(content: Content) -> tuple[Panel, ...]:
    network, metrics = content.network, content.metrics
    if network is None or metrics is None:
        return ()
    images = f"{grouped(metrics.count)} {metrics.split} images"
    title = f"{content.images}, {images}" if content.images else images
    return (Panel(title, (_point(network, metrics, title),)),)


def _cost_caption(content: Content) -> str:
    parts = []
    if content.metrics is not None and content.network is not None:
        parts.append("Above: this network (star) with its 95 % interval.")
    if any(point.top1 is not None for point in content.families):
        parts.append("Below, on a scale of its own: published networks on ImageNet.")
        if parts[1:]:
            parts.append("The dashed line is what this network costs.")
    return " ".join(parts)


def _point(network: NetworkFacts, metrics: MetricFacts, images: str) -> PlotPoint:
    interval = f"{share(metrics.top1_low)} to {share(metrics.top1_high)}"
    return PlotPoint(
        name=network.name,
        macs=network.macs,
        top1=metrics.top1,
        low=metrics.top1_low,
        high=metrics.top1_high,
        text=f"{network.name}: {share(metrics.top1)} of {images} right (95 % interval {interval}), "
        f"{si(network.macs)} MACs, {si(network.params)} parameters",
    )


def _mistakes(metrics: MetricFacts) -> tuple[Mistake, ...]:
    names = [item.name for item in metrics.per_class]
    found = [
        Mistake(names[row], names[column], times, sum(counts))
        for row, counts in enumerate(metrics.confusion)
        for column, times in enumerate(counts)
        if times and row != column
    ]
    return tuple(sorted(found, key=lambda item: (-item.count, -item.count / item.total))[:SHOWN_MISTAKES])


def _confusion(metrics: MetricFacts) -> Picture | None:
    names = [item.name for item in metrics.per_class]
    return quality.confusion_matrix(names, metrics.confusion) if metrics.confusion else None


def _has_loss(curve: Sequence[CurvePoint]) -> bool:
    return any(point.train_loss is not None or point.val_loss is not None for point in curve)


def _maps_sentence(cards: Sequence[MapCard]) -> str:
    wrong = sum(not card.right for card in cards)
    if not wrong:
        return "All of these are right."
    order = ", shown first" if wrong < len(cards) else ""
    return f"{wrong} of these {len(cards)} images {'is' if wrong == 1 else 'are'} wrong{order}."


def _card(card: MapCard) -> Card:
    return Card(
        file=card.file,
        truth=card.truth,
        predicted=card.predicted,
        confidence=card.confidence,
        right=card.right,
        image=to_image(card.image),
        overlay=to_image(card.overlay),
    )
