"""The commands ``demo``, ``fit`` and ``train``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.messages import announce, print_estimate, print_measured, summarize
from triscale.cli.support.options import (
    DEFAULT_LAW,
    DEFAULTS,
    ImagesArgument,
    Json,
    LawOption,
    LiteOption,
    ProfileOption,
    TrainOptions,
    choose_network,
    root_of,
)
from triscale.cli.support.terminal import console, print_json, progress_reporter
from triscale.errors import UserError
from triscale.families.find import find_law
from triscale.families.lite import lite as lite_of
from triscale.network.latency import load_predictor
from triscale.scaling.budget import Budget

if TYPE_CHECKING:
    from triscale.jobs.core.run import Request
    from triscale.training.recipe import Recipe

Budgets = Annotated[list[str] | None, Parameter(name="--budget", negative="")]


def demo(
    *,
    out: Path = Path("demo"),
    only_data: Annotated[bool, Parameter(negative="")] = False,
    seed: int = 0,
    epochs: int | None = None,
    json: Json = False,
) -> None:
    """Fit a network to real handwritten digits, in under two minutes on two cores.

    Parameters
    ----------
    out
        Folder for the images and the run.
    only_data
        Only write the digits as a folder of images.
    seed
        Seed of the split, the initial weights, the order of images and the augmentation.
    epochs
        Number of epochs; overrides the default of the demo.
    """
    from triscale.jobs.demo import demo_request, write_images

    images = write_images(out)
    if only_data:
        print(images)
        return
    run = out / "run"
    # So small a network gains little from a second thread, and becomes much slower if another process uses the core.
    _run_job(demo_request(images, seed, epochs), run, TrainOptions(threads=1), everything=True, json=json)
    if not json:
        console.print("\nNext, use your own images, in a folder with one subfolder per class:", style="bold")
        for line in (
            "triscale fit IMAGES --budget 30M",
            f"triscale predict {run} IMAGE_OR_FOLDER",
            "triscale scale efficientnet_b0 --budget 400M",
        ):
            console.print(f"  {line}", markup=False)


def fit(
    images: ImagesArgument,
    /,
    *,
    budget: Budgets = None,
    baseline: str | None = None,
    law: LawOption = DEFAULT_LAW,
    lite: LiteOption = False,
    profile: ProfileOption = None,
    options: TrainOptions = DEFAULTS,
    json: Json = False,
) -> None:
    """Turn images and a budget into a trained, evaluated, exported, explained network with a report.

    Parameters
    ----------
    budget
        Limits such as 400M (MACs), "5M params", 20MB or, with a profile, 20ms; the network meets all of them.
    baseline
        The network to scale: a published name, a JSON file or package.module:function; by default the network of
        --weights, or efficientnet_b0.
    options
        Training options.
    """
    if not budget:
        raise UserError(f"triscale fit requires a budget; for example: triscale fit {images} --budget 400M")
    if baseline is None and options.weights is None:
        baseline = "efficientnet_b0"
    request = _request(images, baseline, law, budget, options, profile, lite=lite)
    out = options.out or _default_out(images, _network_name(baseline, request, lite=lite), budget)
    _run_job(request, out, options, everything=True, json=json)


def train(
    images: ImagesArgument,
    /,
    *,
    network: str | None = None,
    budget: Budgets = None,
    law: LawOption = DEFAULT_LAW,
    lite: LiteOption = False,
    profile: ProfileOption = None,
    options: TrainOptions = DEFAULTS,
    json: Json = False,
) -> None:
    """Train a network, scaled to a budget if one is given; evaluate it and write a report.

    Parameters
    ----------
    network
        A published name, a JSON file or package.module:function; by default the network of --weights.
    budget
        Scale the network to limits such as 400M (MACs), "5M params", 20MB or, with a profile, 20ms.
    options
        Training options.
    """
    if network is None and options.weights is None:
        raise UserError(
            f"triscale train requires a network; for example: triscale train {images} --network efficientnet_b0"
        )
    request = _request(images, network, law, budget, options, profile, lite=lite)
    out = options.out or _default_out(images, _network_name(network, request, lite=lite), budget or [])
    _run_job(request, out, options, everything=False, json=json)


def _request(
    images: str,
    network: str | None,
    law: str,
    budget: list[str] | None,
    options: TrainOptions,
    profile: Path | None,
    *,
    lite: bool,
) -> Request:
    from triscale.jobs.core.run import Request
    from triscale.jobs.training.initial_weights import find_initial_weights

    limits = Budget.of(*budget) if budget else None
    predictor = None if profile is None else load_predictor(profile)
    if predictor is not None and (limits is None or limits.latency is None):
        raise UserError("--profile requires a latency budget; give one such as --budget 20ms, or leave --profile out")
    start = None if options.weights is None else find_initial_weights(options.weights, offline=options.offline)
    if network is not None:
        resolved = choose_network(network, lite=lite)
    else:
        assert start is not None
        resolved = lite_of(start.network) if lite else start.network
    return Request(
        images=root_of(images),
        network=resolved,
        budget=limits,
        law=find_law(law) if budget else None,
        recipe=_recipe(options),
        seed=options.seed,
        test_share=options.test_share,
        start=start,
        predictor=predictor,
    )


def _recipe(options: TrainOptions) -> Recipe:
    from triscale.jobs.training.initial_weights import for_finetuning
    from triscale.training.changes import changed, find_recipe
    from triscale.training.recipe import FINETUNE, Recipe

    default = "small" if options.weights is None else FINETUNE.name
    recipe = find_recipe(options.recipe or default)
    if options.weights is not None:
        recipe = for_finetuning(recipe)
    recipe = changed(recipe, options.settings)
    changes = {
        name: value
        for name, value in (
            ("epochs", options.epochs),
            ("batch", options.batch),
            ("learning_rate", options.learning_rate),
            ("val_share", options.val_share),
        )
        if value is not None
    }
    fields = {name: getattr(recipe, name) for name in type(recipe).model_fields} | changes
    if options.flip is not None:
        fields["augmentation"] = recipe.augmentation.replace(flip=options.flip)
    return Recipe.parse(fields, "the recipe with the given options")


def _network_name(argument: str | None, request: Request, *, lite: bool) -> str:
    return request.network.name if argument is None or lite else argument


def _default_out(images: str, network: str, budget: list[str]) -> Path:
    parts = [Path(root_of(images)).name, Path(network).stem.replace(":", "-"), *budget]
    return Path("runs") / "-".join("".join(c for c in part if c.isalnum() or c in "_.+") for part in parts)


def _run_job(request: Request, out: Path, options: TrainOptions, *, everything: bool, json: bool) -> None:
    from triscale.cli.support.amounts import seconds_of
    from triscale.jobs import fit as job
    from triscale.progress import NO_PROGRESS, stop_on_signals, with_deadline
    from triscale.training.context import ExecutionContext, choose_device, limit_threads
    from triscale.training.distributed.group import join

    max_seconds = None if options.max_time is None else seconds_of("--max-time", options.max_time)
    limit_threads(options.threads)
    if options.dry_run:
        print_estimate(request, options.device, _workers(options.workers), json=json)
        return
    device = choose_device(options.device, int(os.environ.get("LOCAL_RANK", "0")))
    with stop_on_signals() as stopped, join(device) as group, progress_reporter() as reporter:
        context = ExecutionContext(
            device=device,
            workers=_workers(options.workers),
            group=group,
            compile=options.compile,
            should_stop=with_deadline(stopped, max_seconds),
            progress=reporter if group.is_writer else NO_PROGRESS,
        )
        recorded = job.RunOptions(
            command=("triscale", *sys.argv[1:]),
            allow_leak=options.allow_leak,
            tensorboard=options.tensorboard,
            on_network=lambda spec: announce(spec, str(device)),
        )
        metrics = (job.fit if everything else job.train)(request, out, context, recorded)
    if metrics is None:
        return
    if json:
        print_json(metrics)
    else:
        summarize(metrics, out, request.images)
        if everything:
            print_measured(out)


def _workers(requested: int | None) -> int:
    if requested is not None:
        if requested < 0:
            raise UserError(f"--workers {requested} is negative; give 0 or more")
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if cores <= 2 else min(8, cores - 1)
