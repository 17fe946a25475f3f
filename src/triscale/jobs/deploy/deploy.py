"""Choose the file to deploy: export to each installed engine and precision, evaluate and time all files."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from triscale.deploy.engines import DEPLOYED, ENGINES, Precision, file_name, title_of
from triscale.deploy.export import atomic_output, copy_exported, remove
from triscale.deploy.quantize.guard import BOUND
from triscale.errors import BudgetError, RecordError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.candidates import (
    TIED_RATIO,
    CandidateFile,
    CandidateMaker,
    CandidateOptions,
    exceeded,
    noise_image,
    open_candidate,
    reserve,
    size_and_accuracy,
    test_accuracy,
)
from triscale.jobs.deploy.deadline import Deadline
from triscale.jobs.deploy.eval_cache import CALIBRATION, QuantizationEvalCache
from triscale.jobs.deploy.export import export_for, exportable
from triscale.measurement.device import machine
from triscale.measurement.latency import pinned_to_cores, torch_threads
from triscale.measurement.versus import paired_timing, time_alternately
from triscale.network.latency import Predictor, predict
from triscale.network.spec import Network
from triscale.results.deployment import Deployment, DeploymentCandidate
from triscale.results.latency import TimedNetwork
from triscale.scaling.budget import Budget
from triscale.training.context import ExecutionContext

FOLDER = "deployed"


def deploy_run(
    run: RunFolder,
    context: ExecutionContext,
    *,
    predictors: Sequence[Predictor] = (),
    budget: Budget | None = None,
    bound: float = BOUND,
    calibration: int = CALIBRATION,
    precisions: Sequence[Precision] = DEPLOYED,
    threads: int = 1,
    time_limit: float | None = None,
    started: float | None = None,
) -> Deployment:
    """Choose the fastest file that meets the budget and the accuracy bound, and copy it into the run.

    On this machine all files are timed alternately with batch size 1. int8 is only made for an engine if a draft of its
    file is faster than the best file so far. For another device, given by its profiles, only the float32 files of the
    profiled engines are candidates, with predicted latencies.

    Args:
        run: A trained run.
        context: Progress and stop flag.
        predictors: Latency predictors of another device, one per engine; empty for this machine.
        budget: Limits on latency and file size.
        bound: Maximum loss of accuracy of files below float32 in percentage points.
        calibration: Number of calibration images for int8.
        precisions: Precisions to try.
        threads: Threads of each engine, on as many cores.
        time_limit: Seconds after which no further candidate is begun; those that were not tried say so. A conversion
            that has begun ends, but the evaluation of a file of lower precision is stopped: at least one file is sure
            only with float32 among ``precisions``.
        started: When the time began, on the clock of ``time.monotonic``; by default now.

    Returns:
        The chosen file and all candidates; also saved in the run.

    Raises:
        BudgetError: The budget limits something other than latency and size, or no file meets it.
        UserError: Latency prediction does not support the network, the profiled engine or the precisions, or the
            profiles belong to several devices or twice to one engine.
        Interrupted: ``context.should_stop`` returned true.
    """
    if budget is not None and set(budget.limits) - {"latency", "size"}:
        raise BudgetError(f"a deployment budget limits latency or file size, such as 20ms or 5MB, not {budget}")
    if predictors and set(precisions) not in (set(DEPLOYED), {"float32"}):
        raise UserError(
            f"profiles predict the latency of float32 files, not of {' and '.join(precisions)}; leave the precisions "
            "out, or deploy on the device itself"
        )
    deadline = Deadline(time_limit, time.monotonic() if started is None else started)
    options = CandidateOptions(precisions=precisions, bound=bound, budget=budget, threads=threads, deadline=deadline)
    with tempfile.TemporaryDirectory(dir=run.folder, prefix=".deploy-") as temporary:
        if not predictors:
            files = _make_all(run, context, Path(temporary), options, calibration)
            files = _with_latency(run, files, threads, context)
        else:
            files = _export_profiled(run, context, Path(temporary), predictors)
        judged = _judge(files, budget, bound)
        best = next((one for one in judged if one.candidate.chosen), None)
        if best is None:
            raise BudgetError(_no_file_message(judged, budget))
        assert best.file is not None
        file = run.folder / FOLDER / best.file.name
        previous = _previous_file(run, file)
        with atomic_output(file) as draft:
            copy_exported(best.file, draft)
    deployment = Deployment(
        file=f"{FOLDER}/{file.name}",
        device=predictors[0].processor if predictors else machine().processor,
        threads=predictors[0].threads if predictors else threads,
        predicted=bool(predictors),
        budget=budget,
        bound_points=bound,
        candidates=tuple(one.candidate for one in judged),
        quantized=best.quantized,
        open_with="" if best.engine is None else best.engine.open_with(best.precision).replace("FILE", file.name),
        time_limit=time_limit,
        machine=machine(),
    )
    deployment.save(run.deploy_file)
    if previous != file:
        remove(previous)
    return deployment


def _previous_file(run: RunFolder, file: Path) -> Path:
    """Return the file of an earlier deployment; the new one if there is none, or another version recorded it."""
    try:
        return run.folder / Deployment.load(run.deploy_file).file if run.deploy_file.is_file() else file
    except RecordError:
        return file


def _make_all(
    run: RunFolder, context: ExecutionContext, folder: Path, options: CandidateOptions, calibration: int
) -> list[CandidateFile]:
    """Make the candidates for this machine within the time."""

    def should_stop() -> bool:
        return context.should_stop() or options.deadline.passed(reserve(1))

    eval_cache = QuantizationEvalCache(run, exportable(run), calibration, should_stop, context.progress)
    return CandidateMaker(run, context, folder, eval_cache, options).make()


def _with_latency(
    run: RunFolder, files: Sequence[CandidateFile], threads: int, context: ExecutionContext
) -> list[CandidateFile]:
    """Time all files alternately, and torch eager mode for comparison."""
    shape, image = run.spec.preprocessing.input_shape, noise_image(run)
    running = [one for one in files if one.file is not None]
    with pinned_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode():
        context.progress.begin("measure latency")
        calls: list[Callable[[], object]] = [partial(open_candidate(one, threads), image) for one in running]
        model = exportable(run).model.to(memory_format=torch.channels_last)
        tensor = torch.from_numpy(image).contiguous(memory_format=torch.channels_last)
        calls.append(lambda: model(tensor))
        times, counts = time_alternately(calls, should_stop=context.should_stop)
    named = [(one.candidate.engine, one.candidate.engine, one.candidate.precision, shape) for one in running]
    versus = paired_timing(
        [*named, ("torch", "torch", "float32", shape)], times, counts, batch=1, threads=threads, cores=cores
    )
    timings = iter(versus.networks)
    result = [
        one if one.file is None else replace(one, candidate=_set_time(one.candidate, next(timings))) for one in files
    ]
    torch_row = DeploymentCandidate(engine="torch", precision="float32", accuracy=test_accuracy(run), deployable=False)
    return [*result, CandidateFile(_set_time(torch_row, next(timings)))]


def _set_time(candidate: DeploymentCandidate, timed: TimedNetwork) -> DeploymentCandidate:
    return candidate.replace(milliseconds=timed.median_ms, ratio=timed.ratio, low=timed.low, high=timed.high)


def _export_profiled(
    run: RunFolder, context: ExecutionContext, folder: Path, predictors: Sequence[Predictor]
) -> list[CandidateFile]:
    """Export the float32 file of each profiled engine, with its predicted latency."""
    network = run.spec.network
    if not isinstance(network, Network):
        raise UserError(
            f"latency prediction does not support custom models such as {network.name}; run triscale deploy on the "
            "device itself"
        )
    devices = {f"{one.processor} with {one.threads} of its cores": None for one in predictors}
    if len(devices) > 1:
        raise UserError(
            f"the profiles belong to different devices: {' and '.join(devices)}; give profiles of one device"
        )
    if len({one.engine for one in predictors}) < len(predictors):
        raise UserError(f"two profiles belong to {title_of(predictors[0].engine)}; give one profile per engine")
    files = []
    for predictor in predictors:
        engine = ENGINES.get(predictor.engine)
        if engine is None:
            raise UserError(
                f"the profile belongs to {predictor.engine}, which does not run exported files; profile ONNX Runtime "
                "with: triscale profile"
            )
        file = folder / file_name(engine, "float32")
        exported = export_for(run, context, engine, "float32", file, timed=False)
        candidate = DeploymentCandidate(
            engine=engine.title, precision="float32", milliseconds=predict(predictor, network)
        )
        files.append(CandidateFile(candidate.replace(**size_and_accuracy(run, exported)), engine, file))
    return files


def _judge(files: Sequence[CandidateFile], budget: Budget | None, bound: float = BOUND) -> list[CandidateFile]:
    """Choose a candidate, and state for each candidate why it was or was not chosen.

    Test accuracies have no part in it: of tied files, that with the smallest loss on the images of the choice is taken.
    """
    feasible = [one for one in files if one.file is not None and not exceeded(one.candidate, budget)]
    best = None
    if feasible:
        fastest = min(one.candidate.milliseconds or 0.0 for one in feasible)
        tied = [one for one in feasible if (one.candidate.milliseconds or 0.0) <= TIED_RATIO * fastest]
        best = min(tied, key=lambda one: (_chosen_loss(one.candidate), one.candidate.size_bytes or 0))
    judged = []
    for one in files:
        candidate = one.candidate
        if one.file is None:
            verdict = candidate.verdict or "requires Python and torch"
        elif one is best:
            verdict = "chosen: the fastest" + (" within the budget" if budget is not None else "")
            if candidate.milliseconds != fastest:
                verdict = "chosen: tied with the fastest, and loses less accuracy or is smaller"
        else:
            verdict = exceeded(candidate, budget) or _slower(candidate, best)
        verdict += _beyond_bound(candidate, bound)
        judged.append(replace(one, candidate=candidate.replace(verdict=verdict, chosen=one is best)))
    return judged


def _chosen_loss(candidate: DeploymentCandidate) -> float:
    """Return the loss on the images of the choice; a gain counts as none, since it is noise."""
    return 0.0 if candidate.loss is None else max(0.0, candidate.loss.chosen_points)


def _beyond_bound(candidate: DeploymentCandidate, bound: float) -> str:
    """Return a warning if a file within the bound on the images of the choice loses more on the test images."""
    if candidate.loss is None or candidate.loss.points <= bound:
        return ""
    return f"; loses {candidate.loss.points:.2f} points on the test images, where {bound:g} are allowed"


def _slower(candidate: DeploymentCandidate, best: CandidateFile | None) -> str:
    assert best is not None
    ratio = (candidate.milliseconds or 0.0) / (best.candidate.milliseconds or 1.0)
    return (
        f"takes {ratio:.2f} times as long"
        if ratio > TIED_RATIO
        else "tied in speed, but loses more accuracy or is larger"
    )


def _no_file_message(judged: Sequence[CandidateFile], budget: Budget | None) -> str:
    files = [one.candidate for one in judged if one.file is not None]
    if not files:
        reasons = "; ".join(
            f"{one.candidate.engine}, {one.candidate.precision}: {one.candidate.verdict}"
            for one in judged
            if one.candidate.deployable
        )
        return f"no file could be made: {reasons}"
    fastest = min(files, key=lambda one: one.milliseconds or 0.0)
    smallest = min(files, key=lambda one: one.size_bytes or 0)
    return (
        f"no file is within {budget}; the fastest is {fastest.engine} in {fastest.precision} with "
        f"{fastest.milliseconds:.3g} ms, the smallest is {smallest.engine} in {smallest.precision} with "
        f"{smallest.size_bytes} bytes; raise the budget, or train a smaller network"
    )
