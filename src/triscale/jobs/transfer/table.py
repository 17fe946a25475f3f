"""Fine-tuning one network on many sets: the paper's Table 5 for any weights, and a custom model sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from triscale.data.sources.named import is_named
from triscale.errors import RecipeError, RunError
from triscale.jobs.core.output import refuse_output_in_images
from triscale.jobs.transfer.datasets import MissingDataset, TransferDataset
from triscale.jobs.transfer.protocol import TransferRequest, TransferRow, TransferTable
from triscale.jobs.transfer.row import SetTrainings
from triscale.measure.device import machine
from triscale.training.context import ExecutionContext
from triscale.version import __version__

REQUEST, TABLE = "transfer.json", "table.json"


def make_table(
    asked: TransferRequest,
    sets: Sequence[TransferDataset],
    absent: Sequence[MissingDataset],
    out: Path,
    context: ExecutionContext,
    *,
    allow_leak: bool = False,
) -> TransferTable:
    """Choose learning rate and weight decay for each set, train on all its training images, test once.

    Everything lies in ``out``: ``table.json``, written again after each set, and in a folder for each set a run for
    each
    training: ``grid`` and ``final``. The same request resumes where it stopped, also with other sets.

    Args:
        asked: the request.
        sets: the rows, in their order.
        absent: sets that are named in the record as not there.
        out: the folder.
        context: Device, workers, progress and stop flag.
        allow_leak: whether copies of training images may be tested on.

    Raises:
        UserError: images that cannot be trained on, weights that do not fit the network, a recipe that cannot be
            followed, or a folder that holds something else.
        Interrupted: ``context.should_stop`` returned true; everything is saved.
        JobError: no combination of a grid could be trained, or the training on all images could not.
    """
    if asked.recipe.patience is not None:
        raise RecipeError("a transfer table trains to the last epoch, which patience would end; leave patience out")
    _take_up(asked, sets, out)
    jobs = [SetTrainings(asked, source, out / source.name) for source in sets]
    for job in jobs:
        job.prepare(context, allow_leak=allow_leak)
    rows: list[TransferRow] = []
    for job in jobs:
        rows.append(job.row(context))
        table = TransferTable(
            version=__version__,
            network=asked.network.name,
            resolution=asked.network.resolution,
            weights=asked.start.run,
            sha256=asked.start.sha256,
            recipe=asked.recipe,
            learning_rates=asked.learning_rates,
            weight_decays=asked.weight_decays,
            steps=asked.steps,
            seeds=asked.seeds,
            share=asked.share,
            rows=tuple(rows),
            absent=tuple(absent),
            machine=machine(),
        )
        table.save(out / TABLE)
    return table


def _take_up(asked: TransferRequest, sets: Sequence[TransferDataset], out: Path) -> None:
    """Write the request down, or make sure that the folder is of the same one and not among any images."""
    for source in sets:
        refuse_output_in_images(out, source.images.partition(":")[2] if is_named(source.images) else source.images)
    file = out / REQUEST
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise RunError(f"{out} is not empty and holds no transfer table; give a new folder with --out")
        asked.save(file)
    elif TransferRequest.load(file) != asked:
        raise RunError(
            f"{out} holds a transfer table of another request; give another --out, or the same options but for --sets"
        )
