"""Fine-tune one network on several data sets: the paper's Table 5 for any weights, and for custom data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triscale.data.sources.named import is_named
from triscale.errors import RecipeError, RunError
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.transfer.datasets import MissingDataset, TransferDataset
from triscale.jobs.transfer.protocol import TransferRequest, TransferRow, TransferTable
from triscale.jobs.transfer.row import SetTrainings
from triscale.measurement.device import machine
from triscale.training.context import ExecutionContext
from triscale.version import __version__

REQUEST, TABLE = "transfer.json", "table.json"


def make_table(
    request: TransferRequest,
    sets: Sequence[TransferDataset],
    missing: Sequence[MissingDataset],
    out: Path,
    context: ExecutionContext,
    *,
    allow_leak: bool = False,
) -> TransferTable:
    """Select learning rate and weight decay for each data set, train on all its training images, and test once.

    ``out`` holds ``table.json``, written again after each data set, and for each data set a folder with a run for each
    training, in ``grid`` and ``final``. The same request resumes an interrupted table; data sets may be added.

    Args:
        request: The request.
        sets: The data sets in the order of rows.
        missing: Data sets without a local copy, which are listed in the table.
        out: Folder of the table.
        context: Device, workers, progress and stop flag.
        allow_leak: Whether to accept test images that are copies of training images.

    Returns:
        The table.

    Raises:
        UserError: The images cannot be trained on, the weights do not fit the network, the recipe is not supported, or
            the folder holds other files.
        Interrupted: ``context.should_stop`` returned true; everything is saved.
        JobError: No combination of a grid could be trained, or a final training failed.
    """
    if request.recipe.patience is not None:
        raise RecipeError("a transfer table does not support early stopping; leave patience out of the recipe")
    _save_or_check_request(request, sets, out)
    jobs = [SetTrainings(request, source, out / source.name) for source in sets]
    for job in jobs:
        job.prepare(context, allow_leak=allow_leak)
    rows: list[TransferRow] = []
    for job in jobs:
        rows.append(job.row(context))
        table = TransferTable(
            version=__version__,
            network=request.network.name,
            resolution=request.network.resolution,
            weights=request.start.run,
            sha256=request.start.sha256,
            recipe=request.recipe,
            learning_rates=request.learning_rates,
            weight_decays=request.weight_decays,
            steps=request.steps,
            seeds=request.seeds,
            share=request.share,
            rows=tuple(rows),
            missing=tuple(missing),
            machine=machine(),
        )
        table.save(out / TABLE)
    return table


def _save_or_check_request(request: TransferRequest, sets: Sequence[TransferDataset], out: Path) -> None:
    """Save the request in a new folder, or check that the folder holds the same request; refuse image folders."""
    for source in sets:
        refuse_output_in_images(out, source.images.partition(":")[2] if is_named(source.images) else source.images)
    file = out / REQUEST
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise RunError(f"{out} is not empty and holds no transfer table; give a new folder with --out")
        request.save(file)
    elif TransferRequest.load(file) != request:
        raise RunError(
            f"{out} holds a transfer table with a different request; give another folder with --out, or the same "
            "options as before, except for --sets"
        )
