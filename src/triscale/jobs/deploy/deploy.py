"""Which file to run: every engine and precision that is installed, tried, judged and timed in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from triscale.deploy.engines import ENGINES, Engine
from triscale.deploy.export import atomic_output, copy_exported, remove
from triscale.deploy.quantize.guard import BOUND
from triscale.errors import BudgetError, ExportError, Interrupted, JobError, UserError
from triscale.jobs.core.run import Run
from triscale.jobs.deploy.export import Precision, export_for, exportable
from triscale.jobs.deploy.quantize import CALIBRATION, QuantizationEvalCache
from triscale.measure.device import machine
from triscale.measure.latency import held_to_cores, torch_threads
from triscale.measure.versus import in_turns, judge
from triscale.network.latency import Predictor, predict
from triscale.network.spec import Network
from triscale.results.deployment import Deployment, DeploymentCandidate, Exported, Quantized
from triscale.results.latency import TimedNetwork
from triscale.results.metrics import Metrics
from triscale.scaling.budget import Budget
from triscale.training.context import ExecutionContext

ALIKE = 1.03
"""Files whose times differ by less than this ratio are as fast as each other: the more accurate is taken."""
FOLDER = "deployed"


@dataclass(frozen=True, slots=True)
class _Made:
    """A candidate with its file."""

    candidate: DeploymentCandidate
    engine: Engine | None = None
    file: Path | None = None
    quantized: Quantized | None = None


def deploy_run(
    run: Run,
    context: ExecutionContext,
    *,
    predictors: Sequence[Predictor] = (),
    budget: Budget | None = None,
    bound: float = BOUND,
    calibration: int = CALIBRATION,
    precisions: Sequence[Precision] = ("float32", "int8"),
    threads: int = 1,
) -> Deployment:
    """Choose the fastest file that keeps the budget and the accuracy, and put it into the run.

    On this device each is timed in turns with one image. For another device only what its profile is about can be
    judged: the float32 file of the profile's engine. Several profiles of one device, one for each engine, are compared.

    Args:
        run: trained.
        context: Progress and stop flag.
        predictors: of the device, from profiles; this machine where there are none.
        budget: time and size that the file must keep.
        bound: points of test accuracy that int8 may lose.
        calibration: images that int8 is calibrated with.
        precisions: that are tried.
        threads: of each engine, on as many cores.

    Raises:
        BudgetError: the budget limits something else, or no file keeps it; names the nearest.
        UserError: a profile is of an engine, or the run of a network, that nothing is predicted for; or the profiles
            are of several devices or of one engine.
        Interrupted: ``context.should_stop`` returned true.
    """
    if budget is not None and set(budget.limits) - {"latency", "size"}:
        raise BudgetError(f"a file is deployed within a time or a size, such as 20ms or 5MB, not {budget}")
    with tempfile.TemporaryDirectory(dir=run.folder, prefix=".deploy-") as aside:
        if not predictors:
            made = _make_all(run, context, Path(aside), precisions, bound, calibration)
            made = _timed(run, made, threads, context)
        else:
            made = _predicted(run, context, Path(aside), predictors)
        judged = _judge(made, budget)
        best = next((one for one in judged if one.candidate.chosen), None)
        if best is None:
            raise BudgetError(_nothing(judged, budget))
        assert best.file is not None
        file = run.folder / FOLDER / best.file.name
        former = run.folder / Deployment.load(run.deploy_file).file if run.deploy_file.is_file() else file
        with atomic_output(file) as draft:
            copy_exported(best.file, draft)
    made_of = Deployment(
        file=f"{FOLDER}/{file.name}",
        device=predictors[0].processor if predictors else machine().processor,
        threads=predictors[0].threads if predictors else threads,
        predicted=bool(predictors),
        budget=budget,
        bound_points=bound,
        candidates=tuple(one.candidate for one in judged),
        quantized=best.quantized,
        machine=machine(),
    )
    made_of.save(run.deploy_file)
    if former != file:
        remove(former)
    return made_of


def _make_all(
    run: Run,
    context: ExecutionContext,
    folder: Path,
    precisions: Sequence[Precision],
    bound: float,
    calibration: int,
) -> list[_Made]:
    """Make a file for each engine that runs here in each precision; what cannot be made says why."""
    made, exam = [], QuantizationEvalCache(run, exportable(run), calibration, context.should_stop)
    for precision in precisions:
        for engine in ENGINES.values():
            if precision not in engine.precisions:
                continue
            if not engine.runs_here():
                continue
            if context.should_stop():
                raise Interrupted("stopped; nothing was deployed, the same command begins again")
            candidate = DeploymentCandidate(engine=engine.title, precision=precision)
            file = folder / f"model{'.int8' if precision == 'int8' else ''}{engine.suffix}"
            try:
                exported = export_for(
                    run, context, engine, precision, file, bound=bound, exam=exam, timed=False
                )  # fmt: skip
            except Interrupted:
                raise
            except (JobError, ExportError, UserError) as error:
                made.append(_Made(candidate.replace(verdict=str(error))))
                continue
            made.append(_Made(candidate.replace(**_facts(run, exported)), engine, file, exported.quantized))
    return made


def _facts(run: Run, exported: Exported) -> dict[str, object]:
    accuracy = _test_accuracy(run) if exported.quantized is None else exported.quantized.accuracy
    return {"size_bytes": exported.export.size_bytes, "accuracy": accuracy}


def _timed(run: Run, made: Sequence[_Made], threads: int, context: ExecutionContext) -> list[_Made]:
    """Time all files in turns, and torch beside them."""
    side = run.spec.preprocessing.resolution
    image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
    running = [one for one in made if one.file is not None]
    with held_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode():
        context.progress.begin("time in turns")
        calls: list[Callable[[], object]] = []
        for one in running:
            assert one.engine is not None
            assert one.file is not None
            calls.append(partial(one.engine.open(one.file, threads), image))
        model = exportable(run).model.to(memory_format=torch.channels_last)
        tensor = torch.from_numpy(image).contiguous(memory_format=torch.channels_last)
        calls.append(lambda: model(tensor))
        times, counts = in_turns(calls, should_stop=context.should_stop)
    named = [(one.candidate.engine, one.candidate.engine, one.candidate.precision, side) for one in running]
    versus = judge([*named, ("torch", "torch", "float32", side)], times, counts, batch=1, threads=threads, cores=cores)
    found = iter(versus.networks)
    result = [
        one if one.file is None else replace(one, candidate=_with_time(one.candidate, next(found))) for one in made
    ]
    torch_row = DeploymentCandidate(engine="torch", precision="float32", accuracy=_test_accuracy(run), deployable=False)
    return [*result, _Made(_with_time(torch_row, next(found)))]


def _with_time(candidate: DeploymentCandidate, one: TimedNetwork) -> DeploymentCandidate:
    return candidate.replace(milliseconds=one.median_ms, ratio=one.ratio, low=one.low, high=one.high)


def _predicted(run: Run, context: ExecutionContext, folder: Path, predictors: Sequence[Predictor]) -> list[_Made]:
    """Make the files that profiles are about, with the times that they predict."""
    network = run.spec.network
    if not isinstance(network, Network):
        raise UserError(f"{network.name} is a function, whose time cannot be predicted; deploy it on the device itself")
    devices = {f"{one.processor} with {one.threads} of its cores": None for one in predictors}
    if len(devices) > 1:
        raise UserError(f"the profiles are of {' and of '.join(devices)}; give those of one device")
    if len({one.engine for one in predictors}) < len(predictors):
        raise UserError(f"two profiles are of {predictors[0].engine}; give one for each engine")
    made = []
    for predictor in predictors:
        engine = next((one for one in ENGINES.values() if one.title == predictor.engine), None)
        if engine is None:
            raise UserError(
                f"the profile is of {predictor.engine}, which runs no file; make one of ONNX Runtime with triscale "
                "profile"
            )
        file = folder / f"model{engine.suffix}"
        exported = export_for(run, context, engine, "float32", file, timed=False)
        candidate = DeploymentCandidate(
            engine=engine.title, precision="float32", milliseconds=predict(predictor, network)
        )
        made.append(_Made(candidate.replace(**_facts(run, exported)), engine, file))
    return made


def _judge(made: Sequence[_Made], budget: Budget | None) -> list[_Made]:
    """Say of each why it is taken or left."""
    kept = [one for one in made if one.file is not None and not _breaks(one.candidate, budget)]
    best = None
    if kept:
        fastest = min(one.candidate.milliseconds or 0.0 for one in kept)
        alike = [one for one in kept if (one.candidate.milliseconds or 0.0) <= ALIKE * fastest]
        best = min(alike, key=lambda one: (-(one.candidate.accuracy or 0.0), one.candidate.size_bytes or 0))
    judged = []
    for one in made:
        candidate = one.candidate
        if one.file is None:
            verdict = candidate.verdict or "needs Python and torch"
        elif one is best:
            verdict = "taken: the fastest" + (" that keeps the budget" if budget is not None else "")
            if candidate.milliseconds != fastest:
                verdict = "taken: as fast as the fastest, and more accurate or smaller"
        else:
            verdict = _breaks(candidate, budget) or _slower(candidate, best)
        judged.append(replace(one, candidate=candidate.replace(verdict=verdict, chosen=one is best)))
    return judged


def _breaks(candidate: DeploymentCandidate, budget: Budget | None) -> str:
    """Say which limit a file breaks, if any."""
    if budget is None:
        return ""
    time, size = candidate.milliseconds, candidate.size_bytes
    if budget.latency is not None and time is not None and time > budget.latency:
        return f"too slow for {budget.latency:g} ms"
    if budget.size is not None and size is not None and size > budget.size:
        return "too large"
    return ""


def _slower(candidate: DeploymentCandidate, best: _Made | None) -> str:
    assert best is not None
    ratio = (candidate.milliseconds or 0.0) / (best.candidate.milliseconds or 1.0)
    return f"takes {ratio:.2f} x as long" if ratio > ALIKE else "as fast, but less accurate or larger"


def _nothing(judged: Sequence[_Made], budget: Budget | None) -> str:
    files = [one.candidate for one in judged if one.file is not None]
    if not files:
        reasons = "; ".join(
            f"{one.candidate.engine}, {one.candidate.precision}: {one.candidate.verdict}" for one in judged
        )
        return f"no file could be made: {reasons}"
    fastest = min(files, key=lambda one: one.milliseconds or 0.0)
    smallest = min(files, key=lambda one: one.size_bytes or 0)
    return (
        f"no file keeps {budget}; the fastest is {fastest.engine} in {fastest.precision} with "
        f"{fastest.milliseconds:.3g} ms, the smallest {smallest.engine} in {smallest.precision} with "
        f"{smallest.size_bytes} bytes; allow more, or train a smaller network"
    )


def _test_accuracy(run: Run) -> float | None:
    return Metrics.load(run.metrics_file).top1 if run.metrics_file.is_file() else None
