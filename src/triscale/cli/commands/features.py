"""The command ``features``."""

from __future__ import annotations

from pathlib import Path

from triscale.cli.support.data_options import DATA_DEFAULTS, DataFlags
from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json, Offline, Out, SourceArgument
from triscale.cli.support.terminal import console, print_json
from triscale.errors import UserError

POOLED = "pooled"


def features(
    source: SourceArgument,
    /,
    *images: str,
    out: Out,
    reduction: str = POOLED,
    batch: int = 64,
    device: str = "auto",
    workers: int = 0,
    offline: Offline = False,
    data: DataFlags = DATA_DEFAULTS,
    json: Json = False,
) -> None:
    """Write the embeddings of images, the inputs of the classifier, with one row per image.

    Parameters
    ----------
    images
        A data set in any supported layout, a folder of image files without classes, or image files and folders of
        them.
    out
        A .parquet file with the columns file, label, split, features; or a .npy file, with a .csv file of the rest.
    reduction
        Use the global average of the last feature map with this reduction, such as 16, instead of the classifier's
        input.
    batch
        Batch size.
    device
        auto, cpu, cuda, xpu or mps.
    workers
        Processes that decode images.
    """
    from triscale.data.sources.named import is_named
    from triscale.jobs.inference.feature_file import check_feature_file, write_features
    from triscale.jobs.inference.features import features_of
    from triscale.jobs.run_source import open_source

    if reduction != POOLED and not reduction.isdecimal():
        raise UserError(f"--reduction {reduction}: give {POOLED} or a whole number such as 16")
    if batch < 1 or workers < 0:
        raise UserError(f"--batch {batch} --workers {workers}: give a batch size of 1 or more and 0 or more workers")
    if not images:
        raise UserError("no images given; give a data set, or files and folders of images, after the run")
    for path in images:
        check_feature_file(out, None if is_named(path) or Path(path).is_file() else path)
    with (
        execution(device, workers=workers) as context,
        open_source(source, context, offline=offline) as opened,
    ):
        stream = features_of(
            opened.run,
            images[0] if len(images) == 1 else images,
            context,
            reduction=None if reduction == POOLED else int(reduction),
            batch=batch,
            data=data.options(),
        )
        written = write_features(stream, out)
    if json:
        print_json(written)
        return
    for file in written.bad:
        console.print(f"unreadable: {file.path}: {file.reason}", markup=False)
    console.print(
        f"embeddings of {written.images} images with {written.channels} channels written to "
        f"{' and '.join(written.files)}",
        markup=False,
        soft_wrap=True,
    )
