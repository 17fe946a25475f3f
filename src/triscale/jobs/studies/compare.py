"""The paper's central experiment for any baseline and any images: which way to scale pays at equal real cost."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from PIL import Image

from triscale.data.images.decode import decode
from triscale.data.images.transforms import eval_transform, normalize
from triscale.data.pipeline.split import Sample, Split
from triscale.data.sources.store import open_store
from triscale.explain.cam import overlay, to_png
from triscale.jobs.core.networks import count_of, fit_any
from triscale.jobs.core.progress import ProgressReporter
from triscale.jobs.core.run import Run
from triscale.jobs.inference.explain import SHOWN_SIDE, maps_of
from triscale.jobs.reports.comparison_report import write_comparison_report
from triscale.jobs.studies.trials import SPLIT, Hands, StudyRequest, Trainings, open_study, prepare_split, settings_of
from triscale.jobs.training.prepare import for_classes
from triscale.record import write_atomic
from triscale.results.explanation import ComparisonMaps, ImageMaps, NetworkMap
from triscale.scaling.law import EFFICIENTNET, Law
from triscale.search.compare.contenders import equal_cost
from triscale.search.compare.results import ComparisonResult, compare_trained
from triscale.search.study.trial import Job, Proxy

MAPPED_IMAGES = 6


class ComparisonRequest(StudyRequest):
    """What was asked of a comparison; networks are tested on the test images."""

    kind_name: ClassVar[str] = "compare"

    times: float = 4.0
    law: Law = EFFICIENTNET
    phi: float = 0.0


def compare_ways(asked: ComparisonRequest, out: Path, reporter: ProgressReporter, hands: Hands) -> ComparisonResult:
    """Train the baseline and the four scaled networks; everything lies in ``out``, and the same request goes on.

    ``compared.json`` holds the result, ``report.html`` shows it, ``trials`` holds a Run for each training, ``maps`` the
    class activation maps.

    Raises:
        UserError: images that cannot be trained on, a baseline that does not grow in one of the ways, or a folder that
            holds something else.
        Interrupted: ``should_stop`` answered true; what has ended is written down.
        JobError: a training that cannot be carried out.
    """
    split = prepare_split(asked, out, hands, reporter)
    baseline = for_classes(asked.baseline, len(split.classes), asked.recipe)
    comparison = equal_cost(baseline, asked.times, law=asked.law, phi=asked.phi, fit=fit_any, count=count_of)
    comparison.save(out / "comparison.json")
    proxy = Proxy(epochs=asked.recipe.epochs, images=len(split.train), seeds=asked.seeds)
    work = Trainings(asked.images, asked.recipe, out / SPLIT, str(hands.device), hands.threads).tested
    name, settings = f"comparison of {baseline.name}", settings_of(asked, split)
    with open_study(name, settings, comparison.baseline, work, out, hands, reporter) as study:
        compared = compare_trained(comparison, proxy, study.evaluate, images=asked.images, count=len(split.test))
    compared.save(out / "compared.json")
    maps = map_networks(compared, split, out, reporter)
    write_comparison_report(compared, out, asked, maps)
    return compared


def map_networks(
    compared: ComparisonResult, split: Split, out: Path, reporter: ProgressReporter
) -> ComparisonMaps | None:
    """Draw where the networks of the first seed look, on test images of as many classes as there are maps.

    Returns:
        None where some of them were trained on other machines, into folders of their own.
    """
    seed = compared.proxy.seeds[0]
    runs = {
        contender.way: Run(out / "trials" / Job(contender.network, seed, 0, compared.proxy.epochs).key)
        for contender in compared.comparison.contenders
    }
    elsewhere = sorted(way for way, run in runs.items() if not run.weights_file.is_file())
    if elsewhere:
        reporter.note(
            f"no maps are drawn: the networks of {', '.join(elsewhere)} were trained on other machines; give all "
            "machines one folder that they share as --out"
        )
        return None
    samples = _one_of_each_class(split)
    folder = out / "maps"
    folder.mkdir(exist_ok=True)
    store = open_store(split.root)
    pictures = [decode(store.read(sample.path)) for sample in samples]
    network_maps: list[list[NetworkMap]] = [[] for _ in samples]
    reporter.begin("explain", len(runs))
    for number, (way, run) in enumerate(runs.items()):
        model, preprocessing = run.model(), run.spec.preprocessing
        transform = eval_transform(preprocessing)
        for row, picture in enumerate(pictures):
            inputs = transform(picture)
            heat, predicted, confidence = maps_of(model, normalize(inputs[None], preprocessing))
            name = f"{row:02d}-{way}.png"
            shown = Image.fromarray(inputs.permute(1, 2, 0).numpy())
            large = shown.resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
            write_atomic(folder / name, to_png(overlay(large, heat)))
            network_maps[row].append(
                NetworkMap(way=way, predicted=split.classes[predicted], confidence=confidence, overlay=name)
            )
        reporter.advance(number + 1)
    found = []
    for row, (sample, picture) in enumerate(zip(samples, pictures, strict=True)):
        side = min(picture.size)
        square = picture.crop(
            ((picture.width - side) // 2, (picture.height - side) // 2, (picture.width + side) // 2,
             (picture.height + side) // 2)
        ).resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)  # fmt: skip
        write_atomic(folder / f"{row:02d}-image.png", to_png(square))
        found.append(
            ImageMaps(
                file=sample.path,
                truth=split.classes[sample.label],
                image=f"{row:02d}-image.png",
                network_maps=tuple(network_maps[row]),
            )
        )
    maps = ComparisonMaps(seed=seed, images=tuple(found))
    maps.save(folder / "maps.json")
    return maps


def _one_of_each_class(split: Split) -> list[Sample]:
    """Return the first test image of every class, in the order of classes, as many as are shown."""
    first: dict[int, Sample] = {}
    for sample in split.test:
        first.setdefault(sample.label, sample)
    labels = sorted(first)
    stride = max(1, len(labels) / MAPPED_IMAGES)
    chosen = [labels[int(number * stride)] for number in range(min(MAPPED_IMAGES, len(labels)))]
    return [first[label] for label in chosen]
