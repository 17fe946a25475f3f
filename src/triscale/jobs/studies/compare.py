"""Compare scaling methods at equal realized cost: the paper's central experiment for any baseline and data set."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from triscale.data.images.bands import as_picture, from_array
from triscale.data.images.decode import NO_LIMITS, decode
from triscale.data.images.transforms import eval_transform, normalize
from triscale.data.pipeline.split import Sample, Split
from triscale.data.sources.labels import shown_label
from triscale.data.sources.store import open_store
from triscale.explain.cam import overlay, to_png
from triscale.jobs.core.networks import count_of, fit_any
from triscale.jobs.core.run import RunFolder
from triscale.jobs.inference.explain import SHOWN_SIDE, maps_of
from triscale.jobs.studies.requests import ComparisonRequest, StudyOptions
from triscale.jobs.studies.trials import SPLIT, Trainings, open_study, prepare_split, settings_of
from triscale.jobs.training.resolve import for_classes
from triscale.record import write_atomic
from triscale.results.explanation import ComparisonMaps, ImageMaps, NetworkMap
from triscale.search.compare.results import ComparisonResult, compare_trained
from triscale.search.study.trial import Job, Proxy
from triscale.training.context import ExecutionContext

RESULT = "compared.json"
MAPS = Path("maps") / "maps.json"
MAPPED_IMAGES = 6


def compare_scaling(
    request: ComparisonRequest, out: Path, context: ExecutionContext, options: StudyOptions
) -> ComparisonResult:
    """Train and test the baseline and the scaled networks; the same request resumes an interrupted comparison.

    ``compared.json`` in ``out`` holds the result, ``trials`` holds a run for each training, ``maps`` the class
    activation maps.

    Args:
        request: Images, baseline, cost ratio and law.
        out: Directory of the comparison.
        context: Device, workers, progress and stop flag.
        options: Storage of the study, and whether leaks are allowed.

    Returns:
        The result.

    Raises:
        UserError: The images cannot be trained on, the baseline cannot be scaled in one of the dimensions, or the
            directory holds other files.
        Interrupted: ``context.should_stop`` returned true; finished trials are saved.
        JobError: A training failed.
    """
    split = prepare_split(request, out, context, options)
    baseline = for_classes(request.baseline, len(split.classes), request.recipe)
    comparison = request.networks(baseline, fit_any, count_of)
    comparison.save(out / "comparison.json")
    proxy = Proxy(epochs=request.recipe.epochs, images=len(split.train), seeds=request.seeds)
    work = Trainings(request.images, request.recipe, out / SPLIT, str(context.device), context.threads).test
    name, settings = f"comparison of {baseline.name}", settings_of(request, split)
    with open_study(name, settings, comparison.baseline, work, out, context, options) as study:
        compared = compare_trained(comparison, proxy, study.evaluate, images=request.images, count=len(split.test))
    compared.save(out / RESULT)
    map_networks(compared, split, out, context)
    return compared


def map_networks(
    compared: ComparisonResult, split: Split, out: Path, context: ExecutionContext
) -> ComparisonMaps | None:
    """Draw class activation maps of the networks of the first seed, on one test image per class.

    Returns:
        The maps; None if some networks were trained on other machines that do not share the directory.
    """
    seed = compared.proxy.seeds[0]
    runs = {
        contender.way: RunFolder(out / "trials" / Job(contender.network, seed, 0, compared.proxy.epochs).key)
        for contender in compared.comparison.contenders
    }
    elsewhere = sorted(way for way, run in runs.items() if not run.weights_file.is_file())
    if elsewhere:
        context.progress.note(
            f"no class activation maps are drawn, since the networks of {', '.join(elsewhere)} were trained on other "
            "machines; to get maps, give the same shared folder as --out on all machines"
        )
        return None
    samples = _one_of_each_class(split)
    folder = out / MAPS.parent
    folder.mkdir(exist_ok=True)
    store = open_store(split.root)
    channels = next(iter(runs.values())).spec.preprocessing.channels
    pictures = [decode(store.read(sample.path, NO_LIMITS), NO_LIMITS, split.bit_depth, channels) for sample in samples]
    network_maps: list[list[NetworkMap]] = [[] for _ in samples]
    context.progress.begin("explain", len(runs))
    for number, (way, run) in enumerate(runs.items()):
        model, preprocessing = run.model(), run.spec.preprocessing
        transform = eval_transform(preprocessing)
        for row, picture in enumerate(pictures):
            inputs = transform(picture)
            heat, predicted, confidence = maps_of(model, normalize(inputs[None], preprocessing))
            name = f"{row:02d}-{way}.png"
            shown = as_picture(from_array(inputs.permute(1, 2, 0).numpy()))
            large = shown.resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
            write_atomic(folder / name, to_png(overlay(large, heat)))
            network_maps[row].append(
                NetworkMap(way=way, predicted=split.classes[predicted], confidence=confidence, overlay=name)
            )
        context.progress.advance(number + 1)
    image_maps = []
    for row, (sample, picture) in enumerate(zip(samples, pictures, strict=True)):
        side = min(picture.size)
        square = picture.crop(
            ((picture.width - side) // 2, (picture.height - side) // 2, (picture.width + side) // 2,
             (picture.height + side) // 2)
        ).resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)  # fmt: skip
        write_atomic(folder / f"{row:02d}-image.png", to_png(as_picture(square)))
        image_maps.append(
            ImageMaps(
                file=sample.path,
                truth=shown_label(sample.label, split.classes),
                image=f"{row:02d}-image.png",
                network_maps=tuple(network_maps[row]),
            )
        )
    maps = ComparisonMaps(seed=seed, images=tuple(image_maps))
    maps.save(out / MAPS)
    return maps


def _one_of_each_class(split: Split) -> list[Sample]:
    """Return the first test image of up to ``MAPPED_IMAGES`` classes, evenly spaced in the order of classes."""
    first: dict[int, Sample] = {}
    for sample in split.test:
        first.setdefault(sample.labels[0], sample)
    labels = sorted(first)
    stride = max(1, len(labels) / MAPPED_IMAGES)
    chosen = [labels[int(number * stride)] for number in range(min(MAPPED_IMAGES, len(labels)))]
    return [first[label] for label in chosen]
