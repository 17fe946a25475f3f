"""The command that fine-tunes one network on many sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import UserError
from triscale.families.find import find_network
from triscale.network.cost import si

if TYPE_CHECKING:
    from triscale.jobs.transfer.protocol import TransferRequest, TransferTable

METRICS = {"top1": "top-1", "mean_class_accuracy": "by class"}


def transfer_table(
    *,
    weights: str,
    out: Path,
    network: str | None = None,
    data: Path | None = None,
    sets: str = "",
    learning_rates: str | None = None,
    weight_decays: str | None = None,
    recipe: str | None = None,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    epochs: int | None = None,
    protocol: Annotated[bool, Parameter(negative="")] = False,
    seeds: str = "0",
    share: float = 1.0,
    device: str = "auto",
    workers: int = 0,
    threads: int | None = None,
    allow_leak: Annotated[bool, Parameter(negative="")] = False,
    max_time: str | None = None,
    json: Json = False,
) -> None:
    """Fine-tune a network on the paper's transfer sets and on your own, as its Table 5 does; resumes where it stopped.

    Learning rate and weight decay of each set are chosen on images held out of its training images; then all of these
    are trained on, and the test images are looked at once.

    Parameters
    ----------
    weights
        Where all trainings start: a finished run, or what else --weights of a training takes.
    out
        Folder of the table, its record (table.json) and all runs.
    network
        A published name, a JSON file or package.module:function; by default the network of the weights.
    data
        Folder that holds copies of the sets, each in a folder of its name, or as torchvision's loaders leave them.
    sets
        Which, with commas: names of the paper's (all eight by default), NAME:FOLDER for a copy in its authors' layout
        elsewhere, NAME=IMAGES for images of your own.
    learning_rates
        Of the grid, with commas; 0.001,0.01,0.1 by default.
    weight_decays
        Of the grid, with commas, each divided by the learning rate; 0,0.00001 by default.
    recipe
        A recipe's name or JSON file for all else; by default 30 epochs of 256 images with Nesterov momentum.
    settings
        Any other field of the recipe, as field=value.
    epochs
        Epochs of each training, instead of the recipe's.
    protocol
        The whole grid of Kornblith et al. 2019 (7 learning rates, 8 weight decays) and 20 000 steps a training.
    seeds
        Seeds of the trainings on all images, with commas; the grid has the first.
    share
        Share of the training images of each class to use.
    device
        auto, cpu or cuda.
    workers
        Processes that decode images.
    threads
        Threads that compute; by default all cores.
    allow_leak
        Go on although test images are copies of training images.
    max_time
        Save and stop after this time, such as 90s, 30m or 2h; the same command resumes.
    """
    from triscale.cli.support.amounts import seconds_of
    from triscale.jobs.training.initial_weights import find_initial_weights
    from triscale.jobs.transfer.datasets import find_sets
    from triscale.jobs.transfer.protocol import TransferRequest
    from triscale.jobs.transfer.table import make_table
    from triscale.training.context import limit_threads

    words = [word.strip() for word in sets.split(",") if word.strip()]
    here, absent = find_sets(words, data)
    start = find_initial_weights(weights)
    asked = TransferRequest.parse(
        {
            "start": start,
            "network": start.network if network is None else find_network(network),
            "seeds": _whole_numbers("--seeds", seeds),
            "share": share,
            **_grid(learning_rates, weight_decays, protocol=protocol),
            **_recipe(recipe, settings, epochs, protocol=protocol),
        },
        "the transfer table asked for",
    )
    if workers < 0:
        raise UserError(f"--workers {workers} is negative; give 0 or more")
    limit_threads(threads)
    most_seconds = None if max_time is None else seconds_of("--max-time", max_time)
    with execution(device, workers=workers, max_seconds=most_seconds) as context:
        made = make_table(asked, here, absent, out, context, allow_leak=allow_leak)
    if json:
        print_json(made)
    else:
        _print(made, asked, out)


def _grid(learning_rates: str | None, weight_decays: str | None, *, protocol: bool) -> dict[str, object]:
    from triscale.jobs.transfer.protocol import PROTOCOL_LEARNING_RATES, PROTOCOL_WEIGHT_DECAYS

    found: dict[str, object] = {}
    if protocol:
        found = {"learning_rates": PROTOCOL_LEARNING_RATES, "weight_decays": PROTOCOL_WEIGHT_DECAYS}
    if learning_rates is not None:
        found["learning_rates"] = _numbers("--learning-rates", learning_rates)
    if weight_decays is not None:
        found["weight_decays"] = _numbers("--weight-decays", weight_decays)
    return found


def _recipe(recipe: str | None, settings: tuple[str, ...], epochs: int | None, *, protocol: bool) -> dict[str, object]:
    from triscale.jobs.transfer.protocol import PROTOCOL_STEPS, TRANSFER
    from triscale.training.changes import changed, find_recipe

    if protocol and epochs is not None:
        raise UserError(f"--protocol trains for {PROTOCOL_STEPS} steps, and --epochs {epochs} says otherwise; give one")
    for name, option in (("learning_rate", "--learning-rates"), ("weight_decay", "--weight-decays")):
        if any(setting.partition("=")[0] == name for setting in settings):
            raise UserError(f"--set {name} would be overruled by the grid; give {option}")
    of_epochs = () if epochs is None else (f"epochs={epochs}",)
    chosen = changed(TRANSFER if recipe is None else find_recipe(recipe), (*settings, *of_epochs))
    return {"recipe": chosen, "steps": PROTOCOL_STEPS if protocol else None}


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        found = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text} must be numbers with commas, such as 0.001,0.01") from None
    if len(set(found)) < len(found):
        raise UserError(f"{option} {text} names a number twice; every training is done once")
    return found


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    found = _numbers(option, text)
    if any(number < 0 or number != int(number) for number in found):
        raise UserError(f"{option} {text} must be whole numbers of 0 or more with commas, such as 0,1,2")
    return tuple(map(int, found))


def _print(made: TransferTable, asked: TransferRequest, out: Path) -> None:
    table(
        ("set", "train", "test", "classes", "metric", "ours", "paper", "params", "MACs"),
        [
            (
                row.title + ("" if row.official or row.paper is None else " *"),
                str(row.train),
                str(row.test),
                str(row.classes),
                METRICS[row.metric],
                f"{row.score:.1%}" + ("" if row.spread is None else f" ±{100 * row.spread:.1f}"),
                "" if row.paper is None else f"{row.paper:.1%}",
                si(row.params),
                si(row.macs),
            )
            for row in made.rows
        ],
        title=f"{made.network} at {made.resolution} px from {made.weights}",
    )
    for missing in made.missing:
        console.print(f"not here: {missing.title} (expected in {missing.folder}, from {missing.source})", markup=False)
    chosen = ", ".join(
        f"{row.name} {row.chosen.learning_rate:.3g} and {row.chosen.weight_decay:.3g}" for row in made.rows
    )
    share = "" if made.share == 1 else f" Trained on {made.share:.0%} of the images of each class."
    starred = any(row.paper is not None and not row.official for row in made.rows)
    console.print(
        "\npaper: the best EfficientNet of Table 5 (B7, on Pets B6), pretrained on ImageNet. by class: accuracy as its "
        f"mean over classes. Learning rate and weight decay, the best of "
        f"{len(asked.learning_rates) * len(asked.weight_decays)} combinations on held-out images: {chosen}.{share}"
        + (" *: other images than the whole set, so that the two do not compare." if starred else ""),
        style="dim",
        markup=False,
    )
    console.print(f"written to {out}", markup=False, soft_wrap=True)
