"""The command that writes embeddings."""

from __future__ import annotations

from pathlib import Path

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json
from triscale.cli.support.terminal import console, print_json
from triscale.errors import UserError

POOLED = "pooled"


def features(
    run: Path,
    images: str,
    /,
    *,
    out: Path,
    reduction: str = POOLED,
    batch: int = 64,
    device: str = "auto",
    workers: int = 0,
    json: Json = False,
) -> None:
    """Write the embeddings of images: what the classifier reads of each, one row an image.

    Parameters
    ----------
    run
        Folder of a run.
    images
        Images in any layout that a fit takes, or a folder of image files without classes.
    out
        A .parquet file (columns file, label, part, features), or a .npy file, with a .csv of the files beside it.
    reduction
        8, 16, 32 or another of the network's: the mean over the last map at it, instead of the classifier's input.
    batch
        Images at a time.
    device
        auto, cpu or cuda.
    workers
        Processes that decode images.
    """
    from triscale.data.sources.named import is_named
    from triscale.jobs.core.run import Run
    from triscale.jobs.inference.feature_file import check_feature_file, write_features
    from triscale.jobs.inference.features import features_of

    if reduction != POOLED and not reduction.isdecimal():
        raise UserError(f"--reduction {reduction} is neither {POOLED} nor a whole number such as 16")
    if batch < 1 or workers < 0:
        raise UserError(f"--batch {batch} --workers {workers}: give 1 or more images and 0 or more processes")
    check_feature_file(out, None if is_named(images) else images)
    with execution(device, workers=workers) as context:
        stream = features_of(
            Run.open(run),
            images,
            context,
            reduction=None if reduction == POOLED else int(reduction),
            batch=batch,
        )
        made = write_features(stream, out)
    if json:
        print_json(made)
        return
    for file in made.bad:
        console.print(f"not read: {file.path}: {file.reason}", markup=False)
    console.print(
        f"{made.images} images, {made.channels} numbers each: {' and '.join(made.files)}", markup=False, soft_wrap=True
    )
