"""Choose the file to deploy: export to each installed engine and precision, evaluate and time all files."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from triscale.deploy.engines import ENGINES, Engine, title_of
from triscale.deploy.export import atomic_output, copy_exported, remove
from triscale.deploy.quantize.guard import BOUND
from triscale.errors import BudgetError, ExportError, Interrupted, JobError, UserError
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.export import Precision, export_for, exportable
from triscale.jobs.deploy.quantize import CALIBRATION, QuantizationEvalCache
from triscale.measurement.device import machine
from triscale.measurement.latency import pinned_to_cores, torch_threads
from triscale.measurement.versus import paired_timing, time_alternately
from triscale.network.latency import Predictor, predict
from triscale.network.spec import Network
from triscale.results.deployment import Deployment, DeploymentCandidate, Exported, Quantized
from triscale.results.latency import TimedNetwork
from triscale.results.metrics import load_metrics
from triscale.scaling.budget import Budget
from triscale.training.context import ExecutionContext

TIED_RATIO = 1.03
"""Latencies within this ratio are tied; the more accurate file is chosen."""
FOLDER = "deployed"


@dataclass(frozen=True, slots=True)
class _CandidateFile:
    """A candidate with its file; ``engine`` and ``file`` are None if no file could be made."""

    candidate: DeploymentCandidate
    engine: Engine | None = None
    file: Path | None = None
    quantized: Quantized | None = None


def deploy_run(
    run: RunFolder,
    context: ExecutionContext,
    *,
    predictors: Sequence[Predictor] = (),
    budget: Budget | None = None,
    bound: float = BOUND,
    calibration: int = CALIBRATION,
    precisions: Sequence[Precision] = ("float32", "int8"),
    threads: int = 1,
) -> Deployment:
    """Choose the fastest file that meets the budget and the accuracy bound, and copy it into the run.

    On this machine all files are timed alternately with batch size 1. For another device, given by its profiles, only
    the float32 files of the profiled engines are candidates, with predicted latencies.

    Args:
        run: A trained run.
        context: Progress and stop flag.
        predictors: Latency predictors of another device, one per engine; empty for this machine.
        budget: Limits on latency and file size.
        bound: Maximum loss of test accuracy of int8 in percentage points.
        calibration: Number of calibration images for int8.
        precisions: Precisions to try.
        threads: Threads of each engine, on as many cores.

    Returns:
        The chosen file and all candidates; also saved in the run.

    Raises:
        BudgetError: The budget limits something other than latency and size, or no file meets it.
        UserError: Latency prediction does not support the network or the profiled engine, or the profiles belong to
            several devices or twice to one engine.
        Interrupted: ``context.should_stop`` returned true.
    """
    if budget is not None and set(budget.limits) - {"latency", "size"}:
        raise BudgetError(f"a deployment budget limits latency or file size, such as 20ms or 5MB, not {budget}")
    with tempfile.TemporaryDirectory(dir=run.folder, prefix=".deploy-") as temporary:
        if not predictors:
            files = _export_all(run, context, Path(temporary), precisions, bound, calibration)
            files = _with_latency(run, files, threads, context)
        else:
            files = _export_profiled(run, context, Path(temporary), predictors)
        judged = _judge(files, budget)
        best = next((one for one in judged if one.candidate.chosen), None)
        if best is None:
            raise BudgetError(_no_file_message(judged, budget))
        assert best.file is not None
        file = run.folder / FOLDER / best.file.name
        previous = run.folder / Deployment.load(run.deploy_file).file if run.deploy_file.is_file() else file
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
        machine=machine(),
    )
    deployment.save(run.deploy_file)
    if previous != file:
        remove(previous)
    return deployment


def _export_all(
    run: RunFolder,
    context: ExecutionContext,
    folder: Path,
    precisions: Sequence[Precision],
    bound: float,
    calibration: int,
) -> list[_CandidateFile]:
    """Export a file for each engine that runs here in each precision; failures are recorded as verdicts."""
    files, eval_cache = [], QuantizationEvalCache(run, exportable(run), calibration, context.should_stop)
    for precision in precisions:
        for engine in ENGINES.values():
            if precision not in engine.precisions:
                continue
            if not engine.runs_here():
                continue
            if context.should_stop():
                raise Interrupted("stopped; nothing was deployed; run the same command again to restart")
            candidate = DeploymentCandidate(engine=engine.title, precision=precision)
            file = folder / f"model{'.int8' if precision == 'int8' else ''}{engine.suffix}"
            try:
                exported = export_for(
                    run, context, engine, precision, file, bound=bound, eval_cache=eval_cache, timed=False
                )  # fmt: skip
            except Interrupted:
                raise
            except (JobError, ExportError, UserError) as error:
                files.append(_CandidateFile(candidate.replace(verdict=str(error))))
                continue
            candidate = candidate.replace(**_size_and_accuracy(run, exported))
            files.append(_CandidateFile(candidate, engine, file, exported.quantized))
    return files


def _size_and_accuracy(run: RunFolder, exported: Exported) -> dict[str, object]:
    accuracy = _test_accuracy(run) if exported.quantized is None else exported.quantized.accuracy
    return {"size_bytes": exported.export.size_bytes, "accuracy": accuracy}


def _with_latency(
    run: RunFolder, files: Sequence[_CandidateFile], threads: int, context: ExecutionContext
) -> list[_CandidateFile]:
    """Time all files alternately, and torch eager mode for comparison."""
    shape = run.spec.preprocessing.input_shape
    image = np.random.default_rng(0).standard_normal((1, *shape), dtype=np.float32)
    running = [one for one in files if one.file is not None]
    with pinned_to_cores(threads) as cores, torch_threads(threads), torch.inference_mode():
        context.progress.begin("measure latency")
        calls: list[Callable[[], object]] = []
        for one in running:
            assert one.engine is not None
            assert one.file is not None
            calls.append(partial(one.engine.open(one.file, threads), image))
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
    torch_row = DeploymentCandidate(engine="torch", precision="float32", accuracy=_test_accuracy(run), deployable=False)
    return [*result, _CandidateFile(_set_time(torch_row, next(timings)))]


def _set_time(candidate: DeploymentCandidate, timed: TimedNetwork) -> DeploymentCandidate:
    return candidate.replace(milliseconds=timed.median_ms, ratio=timed.ratio, low=timed.low, high=timed.high)


def _export_profiled(
    run: RunFolder, context: ExecutionContext, folder: Path, predictors: Sequence[Predictor]
) -> list[_CandidateFile]:
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
        file = folder / f"model{engine.suffix}"
        exported = export_for(run, context, engine, "float32", file, timed=False)
        candidate = DeploymentCandidate(
            engine=engine.title, precision="float32", milliseconds=predict(predictor, network)
        )
        files.append(_CandidateFile(candidate.replace(**_size_and_accuracy(run, exported)), engine, file))
    return files


def _judge(files: Sequence[_CandidateFile], budget: Budget | None) -> list[_CandidateFile]:
    """Choose a candidate, and state for each candidate why it was or was not chosen."""
    feasible = [one for one in files if one.file is not None and not _exceeded(one.candidate, budget)]
    best = None
    if feasible:
        fastest = min(one.candidate.milliseconds or 0.0 for one in feasible)
        tied = [one for one in feasible if (one.candidate.milliseconds or 0.0) <= TIED_RATIO * fastest]
        best = min(tied, key=lambda one: (-(one.candidate.accuracy or 0.0), one.candidate.size_bytes or 0))
    judged = []
    for one in files:
        candidate = one.candidate
        if one.file is None:
            verdict = candidate.verdict or "requires Python and torch"
        elif one is best:
            verdict = "chosen: the fastest" + (" within the budget" if budget is not None else "")
            if candidate.milliseconds != fastest:
                verdict = "chosen: tied with the fastest, and more accurate or smaller"
        else:
            verdict = _exceeded(candidate, budget) or _slower(candidate, best)
        judged.append(replace(one, candidate=candidate.replace(verdict=verdict, chosen=one is best)))
    return judged


def _exceeded(candidate: DeploymentCandidate, budget: Budget | None) -> str:
    """Return the limit that a file exceeds; empty if it meets the budget."""
    if budget is None:
        return ""
    time, size = candidate.milliseconds, candidate.size_bytes
    if budget.latency is not None and time is not None and time > budget.latency:
        return f"slower than {budget.latency:g} ms"
    if budget.size is not None and size is not None and size > budget.size:
        return "larger than the budget"
    return ""


def _slower(candidate: DeploymentCandidate, best: _CandidateFile | None) -> str:
    assert best is not None
    ratio = (candidate.milliseconds or 0.0) / (best.candidate.milliseconds or 1.0)
    return f"takes {ratio:.2f} times as long" if ratio > TIED_RATIO else "tied in speed, but less accurate or larger"


def _no_file_message(judged: Sequence[_CandidateFile], budget: Budget | None) -> str:
    files = [one.candidate for one in judged if one.file is not None]
    if not files:
        reasons = "; ".join(
            f"{one.candidate.engine}, {one.candidate.precision}: {one.candidate.verdict}" for one in judged
        )
        return f"no file could be made: {reasons}"
    fastest = min(files, key=lambda one: one.milliseconds or 0.0)
    smallest = min(files, key=lambda one: one.size_bytes or 0)
    return (
        f"no file is within {budget}; the fastest is {fastest.engine} in {fastest.precision} with "
        f"{fastest.milliseconds:.3g} ms, the smallest is {smallest.engine} in {smallest.precision} with "
        f"{smallest.size_bytes} bytes; raise the budget, or train a smaller network"
    )


def _test_accuracy(run: RunFolder) -> float | None:
    return load_metrics(run.metrics_file).score if run.metrics_file.is_file() else None
