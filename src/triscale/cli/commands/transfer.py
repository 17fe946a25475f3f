"""The command ``transfer-table``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Items, Json, Out, joined
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
    out: Out,
    network: str | None = None,
    data: Path | None = None,
    sets: str = "",
    learning_rates: Items = (),
    weight_decays: Items = (),
    recipe: str | None = None,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    epochs: int | None = None,
    protocol: Annotated[bool, Parameter(negative="")] = False,
    seeds: Items = ("0",),
    share: float = 1.0,
    device: str = "auto",
    workers: int = 0,
    threads: int | None = None,
    allow_leak: Annotated[bool, Parameter(negative="")] = False,
    max_time: str | None = None,
    json: Json = False,
) -> None:
    """Fine-tune a network on the paper's transfer data sets and on custom ones, as in Table 5 of the paper.

    For each data set, learning rate and weight decay are selected on validation images. Then the network is trained on
    all training images and tested once. The same command resumes an interrupted table.

    Parameters
    ----------
    weights
        Initial weights of all trainings: a finished run, or any other value of --weights of triscale train.
    out
        Folder of the table (table.json) and of all runs.
    network
        A published name, a JSON file or package.module:function; by default the network of the weights.
    data
        Folder with copies of the data sets, each in a folder with its name or with the name that torchvision uses.
    sets
        Data sets separated by commas: names of the paper's data sets (by default all eight), NAME:FOLDER for a copy in
        the original layout in another folder, NAME=IMAGES for custom images.
    learning_rates
        Learning rates of the grid; by default 0.001 0.01 0.1.
    weight_decays
        Weight decays of the grid, each divided by the learning rate; by default 0 and 0.00001.
    recipe
        A recipe's name or JSON file for all other settings; by default 30 epochs, batch size 256, Nesterov momentum.
    settings
        Any other field of the recipe, as field=value.
    epochs
        Epochs of each training; overrides the recipe.
    protocol
        Use the full grid of Kornblith et al. 2019 (7 learning rates, 8 weight decays) and 20,000 steps per training.
    seeds
        Seeds of the trainings on all images; the grid uses the first.
    share
        Share of the training images of each class to use.
    device
        auto, cpu, cuda, xpu or mps.
    workers
        Number of processes that decode images.
    threads
        Threads that compute; by default all cores.
    allow_leak
        Accept test images that are copies of training images.
    max_time
        Save and stop after this time, such as 90s, 30m or 2h; the same command resumes.
    """
    from triscale.jobs.core.durations import seconds_of
    from triscale.jobs.training.initial_weights import find_initial_weights
    from triscale.jobs.transfer.datasets import find_sets
    from triscale.jobs.transfer.protocol import TransferRequest
    from triscale.jobs.transfer.table import make_table
    from triscale.training.context import limit_threads

    specs = [word.strip() for word in sets.split(",") if word.strip()]
    available, missing = find_sets(specs, data)
    start = find_initial_weights(weights)
    request = TransferRequest.parse(
        {
            "start": start,
            "network": start.network if network is None else find_network(network),
            "seeds": _whole_numbers("--seeds", joined(seeds) or "0"),
            "share": share,
            **_grid(joined(learning_rates), joined(weight_decays), protocol=protocol),
            **_recipe(recipe, settings, epochs, protocol=protocol),
        },
        "the options of the transfer table",
    )
    if workers < 0:
        raise UserError(f"--workers {workers} is negative; give 0 or more")
    limit_threads(threads)
    max_seconds = None if max_time is None else seconds_of("--max-time", max_time)
    with execution(device, workers=workers, max_seconds=max_seconds) as context:
        result = make_table(request, available, missing, out, context, allow_leak=allow_leak)
    if json:
        print_json(result)
    else:
        _print(result, request, out)


def _grid(learning_rates: str | None, weight_decays: str | None, *, protocol: bool) -> dict[str, object]:
    from triscale.jobs.transfer.protocol import PROTOCOL_LEARNING_RATES, PROTOCOL_WEIGHT_DECAYS

    grid: dict[str, object] = {}
    if protocol:
        grid = {"learning_rates": PROTOCOL_LEARNING_RATES, "weight_decays": PROTOCOL_WEIGHT_DECAYS}
    if learning_rates is not None:
        grid["learning_rates"] = _numbers("--learning-rates", learning_rates)
    if weight_decays is not None:
        grid["weight_decays"] = _numbers("--weight-decays", weight_decays)
    return grid


def _recipe(recipe: str | None, settings: tuple[str, ...], epochs: int | None, *, protocol: bool) -> dict[str, object]:
    from triscale.jobs.transfer.protocol import PROTOCOL_STEPS, TRANSFER
    from triscale.training.changes import changed, find_recipe

    if protocol and epochs is not None:
        raise UserError(f"--protocol sets {PROTOCOL_STEPS} steps, which contradicts --epochs {epochs}; give only one")
    for name, option in (("learning_rate", "--learning-rates"), ("weight_decay", "--weight-decays")):
        if any(setting.partition("=")[0] == name for setting in settings):
            raise UserError(f"the grid overrides --set {name}; give {option} instead")
    of_epochs = () if epochs is None else (f"epochs={epochs}",)
    chosen = changed(TRANSFER if recipe is None else find_recipe(recipe), (*settings, *of_epochs))
    return {"recipe": chosen, "steps": PROTOCOL_STEPS if protocol else None}


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"{option} {text}: give numbers, such as 0.001 0.01") from None
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{option} {text} contains a number twice; give each number once")
    return numbers


def _whole_numbers(option: str, text: str) -> tuple[int, ...]:
    numbers = _numbers(option, text)
    if any(number < 0 or number != int(number) for number in numbers):
        raise UserError(f"{option} {text}: give whole numbers of 0 or more, such as 0 1 2")
    return tuple(map(int, numbers))


def _print(result: TransferTable, request: TransferRequest, out: Path) -> None:
    table(
        ("data set", "train", "test", "classes", "metric", "accuracy", "paper", "params", "MACs"),
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
            for row in result.rows
        ],
        title=f"{result.network} at {result.resolution} px, weights {result.weights}",
    )
    for missing in result.missing:
        console.print(
            f"no local copy: {missing.title} (copy it to {missing.folder} from {missing.source})", markup=False
        )
    chosen = ", ".join(
        f"{row.name} {row.chosen.learning_rate:.3g} and {row.chosen.weight_decay:.3g}" for row in result.rows
    )
    share = "" if result.share == 1 else f" Trained on {result.share:.0%} of the images of each class."
    starred = any(row.paper is not None and not row.official for row in result.rows)
    console.print(
        "\npaper: the best EfficientNet of Table 5 (B7; B6 for Pets), pretrained on ImageNet. by class: mean accuracy "
        f"over classes. Learning rate and weight decay, selected from "
        f"{len(request.learning_rates) * len(request.weight_decays)} combinations on validation images: {chosen}."
        f"{share}" + (" *: not all images of the data set, so not comparable with the paper." if starred else ""),
        style="dim",
        markup=False,
    )
    console.print(f"written to {out}", markup=False, soft_wrap=True)
