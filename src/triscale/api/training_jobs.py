"""What the public functions ``fit`` and ``train`` share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from triscale.api.arguments import AnyNetworkLike, BudgetLike, LawLike, as_budget, as_law, as_seconds
from triscale.api.cross_validation import CrossValidation
from triscale.api.data_options import DataOptionsLike, as_data_options
from triscale.api.run import Run
from triscale.errors import Interrupted
from triscale.families.find import as_network
from triscale.jobs import fit as jobs
from triscale.jobs.core.execution import training_execution
from triscale.jobs.core.run import Request
from triscale.jobs.cross_validation import cross_validate
from triscale.jobs.training.request import choose_training, choose_workers, default_folder, make_request
from triscale.network.input_size import parse_size
from triscale.network.latency import load_predictor
from triscale.training.context import EngineName, limit_threads
from triscale.training.recipe import Recipe


def build_request(
    images: str | Path,
    network: AnyNetworkLike | None,
    budget: BudgetLike | None,
    law: LawLike,
    lite: bool,
    profile: str | Path | None,
    weights: str | Path | Run | None,
    from_scratch: bool,
    teacher: str | Path | Run | None,
    keep_head: bool,
    class_names: Mapping[str, str] | None,
    resolution: int | str | None,
    recipe: str | Path | Recipe | None,
    fields: Mapping[str, object],
    flip: bool | None,
    settings: Mapping[str, Any] | None,
    seed: int,
    test_share: float,
    offline: bool,
    data: DataOptionsLike | None,
    time_limit: str | float | None,
    max_seconds: float | None,
) -> Request:
    """Return the request of a training that the arguments of a public function ask for."""
    start = None if weights is None else _source(weights)
    return make_request(
        str(images),
        None if network is None else as_network(network),
        recipe=choose_training(
            recipe,
            weights=start,
            from_scratch=from_scratch,
            settings=settings or {},
            fields=fields,
            flip=flip,
            time_limit=as_seconds("time_limit", time_limit),
            max_seconds=max_seconds,
        ),
        budget=None if budget is None else as_budget(budget),
        law=as_law(law),
        predictor=None if profile is None else load_predictor(Path(profile)),
        lite=lite,
        weights=start,
        offline=offline,
        seed=seed,
        test_share=test_share,
        data=as_data_options(data),
        teacher=None if teacher is None else _source(teacher),
        keep_head=keep_head,
        class_names=class_names or {},
        size=None if resolution is None else parse_size(str(resolution), "resolution"),
    )


def _source(weights: str | Path | Run) -> str:
    return str(weights.weights or weights.path if isinstance(weights, Run) else weights)


def run_training(
    request: Request,
    images: str | Path,
    budget: BudgetLike | None,
    out: str | Path | None,
    device: str,
    workers: int | None,
    threads: int | Literal["auto"] | None,
    max_seconds: float | None,
    compile: bool,
    engine: EngineName,
    progress: bool,
    options: jobs.RunOptions,
    folds: int | None,
    *,
    everything: bool,
) -> Run | CrossValidation:
    """Train, or cross-validate if there are folds, and return the result."""
    limits = [part.strip() for part in str(budget or "").split(",") if part.strip()]  # the same name as the command's
    folder = Path(out) if out is not None else default_folder(str(images), request.network.name, limits, folds)
    limit_threads(None if threads == "auto" else threads)
    job = jobs.fit if everything else jobs.train
    with training_execution(
        device,
        workers=choose_workers(workers),
        compile=compile,
        max_seconds=max_seconds,
        progress=progress,
        chooses_threads=threads == "auto",
        engine=engine,
    ) as context:
        try:
            if folds is not None:
                return CrossValidation(folder, cross_validate(request, folds, folder, context, options))
            job(request, folder, context, options)
        except Interrupted as stopped:
            raise Interrupted(f"{stopped} (out={str(folder)!r})") from None
    return Run.open(folder)
