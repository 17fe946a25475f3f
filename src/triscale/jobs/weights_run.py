"""Make a run of weights without training, so that everything that takes a run takes published and imported weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from triscale.data.checks.duplicates import find_duplicates
from triscale.data.options import DEFAULT_DATA, DataOptions
from triscale.data.pipeline.leaks import find_leaks
from triscale.data.pipeline.split import Sample, Split, first_duplicates
from triscale.data.sources.named import absolute_images
from triscale.data.sources.scanned import Scan, ScannedImage
from triscale.deploy.quantize.guard import MIN_IMAGES
from triscale.errors import DataError, NetworkError, WeightsError
from triscale.jobs.core.bill_of_materials import write_bill_of_materials
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.core.run import InitialWeights, Request, RunFolder, RunSpec
from triscale.jobs.data.moved_images import contents_of, reattach_moved_images
from triscale.jobs.data.scanning import scan_with_progress
from triscale.jobs.deploy.quantize import CALIBRATION
from triscale.jobs.inference.evaluate import evaluate_run
from triscale.jobs.reports.run_report import write_run_report
from triscale.jobs.training.initial_weights import INHERIT, find_initial_weights, read_initial_weights
from triscale.jobs.training.prepare import summary_of
from triscale.jobs.training.request import DEFAULT_TEST_SHARE, match_channels
from triscale.measurement.device import machine
from triscale.network.contract import Preprocessing
from triscale.network.custom import CustomNetwork
from triscale.network.spec import RGB
from triscale.results.metrics import AnyMetrics
from triscale.training.context import ExecutionContext
from triscale.training.recipe import FINETUNE
from triscale.version import __version__
from triscale.weights.class_match import NO_NAMES, match_classes
from triscale.weights.rules import HEAD

CALIBRATION_SHARE = 5
"""One in this many images is kept for the calibration of int8, if nothing says which."""


def make_run_of_weights(
    weights: str,
    images: str | None,
    out: Path,
    context: ExecutionContext,
    *,
    data: DataOptions = DEFAULT_DATA,
    seed: int = 0,
    offline: bool = False,
    class_names: Mapping[str, str] = NO_NAMES,
    command: tuple[str, ...] = (),
) -> AnyMetrics | None:
    """Write a run that holds weights as they are, and evaluate them if there are images.

    Args:
        weights: A published name, an imported file or a run.
        images: A data set whose class folders are named by the classes of the weights, or by wnids; None for none.
        out: The folder of the run.
        context: Device, workers, progress and stop flag.
        data: How the images are read, and what is tolerated.
        seed: Chooses the images for calibration.
        offline: Whether to use only the cache for published weights.
        class_names: The class of each class folder that is named otherwise.
        command: The command line, recorded in the run.

    Returns:
        The metrics on the images, over all classes of the weights; None without images.

    Raises:
        WeightsError: The weights are unknown, have no classifier, or the class folders do not match their classes.
        DataError: There are no images.
        RunError: The folder holds other files or another run.
        Interrupted: ``context.should_stop`` returned true; the same call begins again.
    """
    if images is not None:
        refuse_output_in_images(out, images)
    request = request_of_weights(weights, images, data=data, seed=seed, offline=offline, class_names=class_names)
    run = RunFolder(out)
    with run.lock():
        reattach_moved_images(run, request, context)
        run.refuse_other(request)
        if not run.weights_file.is_file():
            write_run_of_weights(run, request, context, command)
        metrics = evaluate_run(run, context) if run.split.test else None
        write_run_report(run)
        run.commit()
    return metrics


def request_of_weights(
    weights: str,
    images: str | None,
    *,
    data: DataOptions = DEFAULT_DATA,
    seed: int = 0,
    offline: bool = False,
    class_names: Mapping[str, str] = NO_NAMES,
) -> Request:
    """Return the request of a run that holds weights as they are.

    The arguments are those of :func:`make_run_of_weights`.

    Raises:
        WeightsError: The weights are unknown, or do not take images of the given channels.
    """
    if weights.startswith(INHERIT):
        raise WeightsError(f"{weights}: a network of another size must be trained; leave out the prefix {INHERIT}")
    start = find_initial_weights(weights, offline=offline)
    _, matched = match_channels(start.network, data)
    channels = start.network.in_channels
    if (matched.channels or RGB) != channels:
        raise WeightsError(
            f"{start.run} takes images of {channels} channels, not {data.channels}; leave out --channels, or train for "
            f"these: triscale train IMAGES --weights {start.run} --channels {data.channels}"
        )
    return Request(
        images="" if images is None else absolute_images(images),
        network=start.network,
        budget=None,
        law=None,
        # A decided flip, since a request that leaves it open depends on the class names.
        recipe=FINETUNE.replace(augmentation=FINETUNE.augmentation.replace(flip=False)),
        seed=seed,
        test_share=DEFAULT_TEST_SHARE,
        start=start,
        data=matched,
        trains=False,
        class_names=dict(class_names),
    )


def write_run_of_weights(
    run: RunFolder, request: Request, context: ExecutionContext, command: tuple[str, ...] = ()
) -> None:
    """Write everything but the results into a run; the weights come last, since they mark it as complete.

    Args:
        run: A new run.
        request: See :func:`request_of_weights`.
        context: Progress and stop flag.
        command: The command line, recorded in the run.

    Raises:
        WeightsError: The weights have no classifier, or the class folders do not match their classes.
        DataError: There are no images.
        Interrupted: ``context.should_stop`` returned true; the run has no weights yet.
    """
    start = request.start
    assert start is not None
    tensors, network, names = read_initial_weights(start)
    if not any(name.startswith(HEAD) for name in tensors) and not isinstance(network, CustomNetwork):
        raise WeightsError(
            f"{start.run} has no classifier, so it cannot classify; train one with: triscale train IMAGES --weights "
            f"{start.run}"
        )
    classes = names or tuple(str(number) for number in range(network.classes))
    for note in unknown_facts(start, names):
        context.progress.note(note)
    split = Split(root="", classes=classes, train=(), val=(), test=(), seed=request.seed, how="there are no images")
    if request.images:
        scanned = scan_with_progress(
            request.images,
            context,
            "stopped while scanning the images; nothing was written",
            request.data,
            strict=False,
        )
        for problem in scanned.problems:
            context.progress.note(problem)
        split = _split(scanned, classes, request, named=names is not None)
        copies = find_duplicates(scanned)
        leaks = find_leaks(split, copies, scanned.groups)
        summary_of(scanned, split, copies, leaks).save(run.data_file)
        contents_of(scanned).save(run.contents_file)
        context.progress.note(
            f"{len(split.test)} images of {len(scanned.classes)} classes to evaluate over all {len(classes)} classes, "
            f"{len(split.train)} for calibration"
        )
    split.save(run.split_file)
    network.save(run.network_file)
    write_bill_of_materials(run, request)
    RunSpec(
        version=__version__,
        request=request,
        network=network,
        fit=None,
        preprocessing=_preprocessing(start, split),
        classes=classes,
        split=split.digest,
        machine=machine(),
        command=command,
    ).save(run.spec_file)
    run.save_weights({name: tensor.contiguous() for name, tensor in tensors.items()})
    try:
        run.model()
    except RuntimeError as error:
        run.weights_file.unlink()
        raise NetworkError(f"the weights of {start.run} are not those of {network.name}: {error}") from error


def _split(scanned: Scan, classes: tuple[str, ...], request: Request, *, named: bool) -> Split:
    """Return all images for the test, apart from some for calibration, with the labels of the weights."""
    assert request.start is not None
    whose, seed = request.start.run, request.seed
    if scanned.multi_label:
        raise DataError(
            f"the images of {scanned.root} have any number of labels, and {whose} gives one class; give images with "
            "one class each"
        )
    if not named:
        raise WeightsError(
            f"the class names of {whose} are not known, so images cannot be matched with them; import the weights with "
            "--classes FILE, or leave out the images"
        )
    outputs = match_classes(
        scanned.classes, classes, whose, request.class_names,
        or_else=f"say which class each is: triscale weights run {whose} IMAGES --class-names FILE --out RUN",
    )  # fmt: skip
    given, how = scanned.test or scanned.val, "test and calibration (train) as given by the folders"
    test, train = given, scanned.train
    if not given or not train:
        everything = given or scanned.unsplit or scanned.train
        train, test = _hold_out(scanned, everything, seed)
        how = (
            f"{len(train)} images for calibration (train), chosen by seed {seed} and file name; all others for the test"
        )
    if not test:
        raise DataError(f"there are no images in {scanned.root} to evaluate {whose} on; give more images")
    return Split(
        root=scanned.root,
        classes=classes,
        train=_samples(train, outputs),
        val=(),
        test=_samples(test, outputs),
        seed=seed,
        how=f"the weights were not trained on these images; {how}",
        bit_depth=scanned.bit_depth,
    )


def _hold_out(
    scanned: Scan, images: tuple[ScannedImage, ...], seed: int
) -> tuple[tuple[ScannedImage, ...], tuple[ScannedImage, ...]]:
    """Divide images at random into some for calibration and the rest; copies of an image stay together."""
    number = min(CALIBRATION, max(MIN_IMAGES, len(images) // CALIBRATION_SHARE), len(images) // 2)
    same = first_duplicates(scanned)

    def key(image: ScannedImage) -> tuple[str, str]:
        first = same.get(image.path, image.path)
        return hashlib.sha256(f"{seed}/{first}".encode(errors="surrogateescape")).hexdigest(), image.path

    ordered = sorted(images, key=key)
    while 0 < number < len(ordered) and key(ordered[number - 1])[0] == key(ordered[number])[0]:
        number += 1
    return tuple(ordered[:number]), tuple(ordered[number:])


def _samples(images: tuple[ScannedImage, ...], outputs: tuple[int, ...]) -> tuple[Sample, ...]:
    ordered = sorted(images, key=lambda image: image.path)
    return tuple(Sample(image.path, outputs[image.labels[0]]) for image in ordered)


def unknown_facts(start: InitialWeights, names: tuple[str, ...] | None) -> list[str]:
    """Return a sentence for each fact that weights do not tell, though predictions depend on it.

    Args:
        start: The weights.
        names: Their class names; None if unknown.
    """
    notes = []
    if names is None:
        notes.append(
            f"the class names of {start.run} are not known, so they are 0 to {start.network.classes - 1}; to give "
            "them, import the weights with --classes FILE"
        )
    if start.preprocessing is None:
        notes.append(
            f"the preprocessing of {start.run} is not known, so it is the usual one; accuracy depends on it: import "
            "the weights with --mean, --std, --interpolation and --crop"
        )
    return notes


def _preprocessing(start: InitialWeights, split: Split) -> Preprocessing:
    """Return the preprocessing of the weights for these images."""
    shape = start.network.input_shape
    if start.preprocessing is None:
        return Preprocessing.usual(shape, bit_depth=split.bit_depth)
    _, height, width = shape
    return start.preprocessing.replace(resolution=height, aspect_ratio=(width, height), bit_depth=split.bit_depth)
