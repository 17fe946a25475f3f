"""The command ``features``."""

from __future__ import annotations

from pathlib import Path

from triscale.cli.support.data_options import DATA_DEFAULTS, DataFlags
from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json, Out
from triscale.cli.support.terminal import console, print_json
from triscale.errors import UserError

POOLED = "pooled"


def features(
    run: Path,
    images: str,
    /,
    *,
    out: Out,
    reduction: str = POOLED,
    batch: int = 64,
    device: str = "auto",
    workers: int = 0,
    data: DataFlags = DATA_DEFAULTS,
    json: Json = False,
) -> None:
    """Write the embeddings of images, the inputs of the classifier, with one row per image.

    Parameters
    ----------
    run
        Folder of a run.
    images
        A data set in any supported layout, or a folder of image files without classes.
    out
        A .parquet file with the columns file, label, split, features; or a .npy file, with a .csv file of the rest.
    reduction
        Use the global average of the last feature map with this reduction, such as 16, instead of the classifier's
        input.
    batch
        Batch size.
    device
        auto, cpu or cuda.
    workers
        Processes that decode images.
    """
    from triscale.data.sources.named import is_named
    from triscale.jobs.core.run import RunFolder
    from triscale.jobs.inference.feature_file import check_feature_file, write_features
    from triscale.jobs.inference.features import features_of

    if reduction != POOLED and not reduction.isdecimal():
        raise UserError(f"--reduction {reduction}: give {POOLED} or a whole number such as 16")
    if batch < 1 or workers < 0:
        raise UserError(f"--batch {batch} --workers {workers}: give a batch size of 1 or more and 0 or more workers")
    check_feature_file(out, None if is_named(images) else images)
    with execution(device, workers=workers) as context:
        stream = features_of(
            RunFolder.open(run),
            images,
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
