"""The commands ``demo``, ``fit`` and ``train``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.amounts import share_of
from triscale.cli.support.law_options import LAW_DEFAULTS, LawFlags
from triscale.cli.support.messages import announce, print_estimate, print_folds, print_measured, summarize
from triscale.cli.support.options import (
    DEFAULTS,
    ImagesArgument,
    Json,
    LiteOption,
    MarginOption,
    Out,
    ProfileOption,
    TrainOptions,
)
from triscale.cli.support.terminal import console, print_json
from triscale.errors import UserError
from triscale.families.find import find_network
from triscale.network.input_size import parse_size
from triscale.network.latency import load_predictor
from triscale.scaling.budget import Budget

if TYPE_CHECKING:
    from triscale.jobs.core.run import Request

Budgets = Annotated[list[str] | None, Parameter(name="--budget", negative="")]


def demo(
    *,
    out: Out = Path("demo"),
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
    options = TrainOptions(threads=1)
    _run_job(demo_request(images, seed, epochs), run, options, everything=True, json=json, warns=False)
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
    law: LawFlags = LAW_DEFAULTS,
    lite: LiteOption = False,
    profile: ProfileOption = None,
    margin: MarginOption = "0%",
    options: TrainOptions = DEFAULTS,
    json: Json = False,
) -> None:
    """Turn images and a budget into a trained, evaluated, exported, explained network with a report.

    Parameters
    ----------
    budget
        Limits such as 400M (MACs), "5M params", "8M activations", 20MB (weights), "30MB memory" (of inference), "4GB
        training memory", "256KB ram" and "1MB flash" (int8 on a microcontroller) or, with a profile, 20ms; the network
        meets all of them. Or a kind of device: pi, phone, browser, tablet, laptop or server.
    baseline
        The network to scale: a published name, a JSON file or package.module:function; by default the network of
        --weights, or efficientnet_b0; resnet18 with --from-scratch.
    options
        Training options.
    """
    from triscale.jobs.training.request import default_baseline, default_folder

    if not budget:
        raise UserError(f"triscale fit requires a budget; for example: triscale fit {images} --budget 400M")
    if baseline is None and options.weights is None:
        baseline = default_baseline(from_scratch=options.from_scratch, lite=lite)
    request = _request(images, baseline, law, budget, options, profile, margin, lite=lite)
    out = options.out or default_folder(images, _network_name(baseline, request, lite=lite), budget, options.folds)
    _run_job(request, out, options, everything=True, json=json)


def train(
    images: ImagesArgument,
    /,
    *,
    network: Annotated[str | None, Parameter(name=("--network", "--model"))] = None,
    budget: Budgets = None,
    law: LawFlags = LAW_DEFAULTS,
    lite: LiteOption = False,
    profile: ProfileOption = None,
    margin: MarginOption = "0%",
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
    from triscale.jobs.training.request import default_folder

    if network is None and options.weights is None:
        raise UserError(
            f"triscale train requires a network; for example: triscale train {images} --network efficientnet_b0"
        )
    request = _request(images, network, law, budget, options, profile, margin, lite=lite)
    out = options.out or default_folder(images, _network_name(network, request, lite=lite), budget or [], options.folds)
    _run_job(request, out, options, everything=False, json=json)


def _request(
    images: str,
    network: str | None,
    law: LawFlags,
    budget: list[str] | None,
    options: TrainOptions,
    profile: Path | None,
    margin: str,
    *,
    lite: bool,
) -> Request:
    from triscale.jobs.core.durations import seconds_of
    from triscale.jobs.training.request import choose_training, make_request
    from triscale.weights.class_match import read_class_names

    time_limit, max_time = options.time_limit, options.max_time
    fields = {name: getattr(options, name) for name in ("epochs", "batch", "learning_rate", "val_share")}
    return make_request(
        images,
        None if network is None else find_network(network),
        recipe=choose_training(
            options.recipe,
            weights=options.weights,
            from_scratch=options.from_scratch,
            settings=options.settings,
            fields=fields,
            flip=options.flip,
            time_limit=None if time_limit is None else seconds_of("--time-limit", time_limit),
            max_seconds=None if max_time is None else seconds_of("--max-time", max_time),
        ),
        budget=Budget.of(*budget).with_margin(share_of("--margin", margin)) if budget else None,
        law=law.chosen(),
        predictor=None if profile is None else load_predictor(profile),
        lite=lite,
        weights=options.weights,
        offline=options.offline,
        keep_head=options.keep_head,
        class_names={} if options.class_names is None else read_class_names(options.class_names),
        seed=options.seed,
        test_share=options.test_share,
        data=options.data.options(),
        teacher=options.teacher,
        size=None if options.resolution is None else parse_size(options.resolution, "--resolution"),
    )


def _network_name(argument: str | None, request: Request, *, lite: bool) -> str:
    return request.network.name if argument is None or lite else argument


def _run_job(
    request: Request, out: Path, options: TrainOptions, *, everything: bool, json: bool, warns: bool = True
) -> None:
    from triscale.jobs import fit as job
    from triscale.jobs.core.durations import seconds_of
    from triscale.jobs.core.execution import training_execution
    from triscale.jobs.cross_validation import check_folds, cross_validate
    from triscale.jobs.training.request import choose_workers
    from triscale.jobs.training.trackers.log import tracker_names
    from triscale.training.context import limit_threads

    max_seconds = None if options.max_time is None else seconds_of("--max-time", options.max_time)
    log = tracker_names(options.log)
    limit_threads(None if options.threads == "auto" else options.threads)
    workers = choose_workers(options.workers)
    if options.folds is not None:
        check_folds(options.folds)
    if options.dry_run:
        print_estimate(request, options.device, workers, options.folds, json=json, exports=everything)
        return
    with training_execution(
        options.device,
        workers=workers,
        compile=options.compile,
        max_seconds=max_seconds,
        chooses_threads=options.threads == "auto",
        engine=options.engine,
    ) as context:
        recorded = job.RunOptions(
            command=("triscale", *sys.argv[1:]),
            allow_leak=options.allow_leak,
            log=log,
            on_network=lambda spec: announce(spec, str(context.device)),
            offline=options.offline,
            warns=warns,
        )
        if options.folds is not None:
            summary = cross_validate(request, options.folds, out, context, recorded)
            print_json(summary) if json else print_folds(summary, out, everything=everything)
            return
        metrics = (job.fit if everything else job.train)(request, out, context, recorded)
    if metrics is None:
        return
    if json:
        print_json(metrics)
    else:
        summarize(metrics, out, request.images)
        if everything:
            print_measured(out)
