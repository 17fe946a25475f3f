"""Export a trained run to files for inference engines; check, quantize and time them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triscale.data.sources.store import open_store
from triscale.deploy.contract import Contract
from triscale.deploy.engines import DEFAULT_ENGINE, Engine, Precision, file_name
from triscale.deploy.export import export, size_of
from triscale.deploy.exportable import Exportable
from triscale.deploy.parity import MIN_SCALE, logits_of, logits_of_model, parity_inputs
from triscale.deploy.quantize.guard import BOUND
from triscale.errors import DataError, RecordError
from triscale.jobs.core.origins import origins_of
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.eval_cache import CALIBRATION, QuantizationEvalCache
from triscale.jobs.deploy.quantize import quantize_run, round_run
from triscale.jobs.deploy.run_images import BATCH, evenly_spaced, images_of
from triscale.measurement.latency import measure_latency, pinned_to_cores
from triscale.network.spec import Network
from triscale.results.deployment import Export, Exported, Exports, Quantized
from triscale.results.latency import Measurement
from triscale.training.context import ExecutionContext

__all__ = ["Precision", "contract_of", "default_file", "export_for", "export_run", "exportable", "time_file"]

REAL_IMAGES = 59
"""Test images for the parity check; with the 5 synthetic images they make 64."""
TIMED_SECONDS = 0.5
"""Duration of each latency sample."""


def exportable(run: RunFolder) -> Exportable:
    """Return a run's model together with the metadata that exported files contain.

    Raises:
        RunError: The training has not finished.
    """
    network = run.spec.network
    return Exportable(run.model(), contract_of(run), network if isinstance(network, Network) else None)


def contract_of(run: RunFolder) -> Contract:
    """Return what the exported files of a run say about their use."""
    spec = run.spec
    return Contract(
        network=spec.network.name,
        preprocessing=spec.preprocessing,
        classes=spec.classes,
        decision=run.decision,
        origins=origins_of(spec.request),
    )


def default_file(run: RunFolder, engine: Engine, precision: Precision) -> Path:
    """Return the default path of a run's file for an engine and a precision."""
    return run.folder / file_name(engine, precision)


def export_run(run: RunFolder, context: ExecutionContext, path: Path | None = None) -> Export:
    """Export the model to ONNX, check the file on test images, and save the record of the check in the run.

    Raises:
        ParityError: The outputs of the file differ from those of the model.
    """
    context.progress.begin("export")
    exported = export(exportable(run), DEFAULT_ENGINE, real_images(run, context), path or run.onnx_file)
    exported.save(run.export_file)
    return exported


def export_for(
    run: RunFolder,
    context: ExecutionContext,
    engine: Engine,
    precision: Precision = "float32",
    path: Path | None = None,
    *,
    bound: float = BOUND,
    calibration: int = CALIBRATION,
    timed: bool = True,
    eval_cache: QuantizationEvalCache | None = None,
    slow: Sequence[str] | None = None,
) -> Exported:
    """Export a run for an engine, check the file, and measure its latency if the engine runs on this machine.

    Args:
        run: A trained run.
        context: Progress and stop flag.
        engine: The engine that will run the file.
        precision: ``float32`` must match the outputs of the model; the others may lose ``bound`` of
            accuracy.
        path: Path of the file. By default it is written into the run, together with its record.
        bound: Maximum loss of accuracy of files below float32 in percentage points.
        calibration: Number of training images to calibrate int8 with.
        timed: Whether to measure the latency.
        eval_cache: Images and reference outputs shared by several exports; computed from the run by default.
        slow: Blocks that int8 does not make faster; measured by default.

    Returns:
        The record of the file.

    Raises:
        ParityError: The outputs of the file differ from those of the model.
        QuantizationError: A lower precision loses more accuracy than ``bound``.
        ExportError: The engine cannot convert the model.
        UserError: The engine is not installed, or there are too few calibration images.
        RunError: There are no test images to evaluate a lower precision on.
        Interrupted: ``context.should_stop`` returned true.
    """
    subject, file = exportable(run), path or default_file(run, engine, precision)
    engine.check_makes(precision)
    context.progress.begin(f"export for {engine.title}{'' if precision == 'float32' else f', {precision}'}")
    quantized = None
    if precision == "float32":
        record = export(subject, engine, real_images(run, context), file)
        if file == run.onnx_file:
            record.save(run.export_file)
    else:
        cache = eval_cache or QuantizationEvalCache(run, subject, calibration, context.should_stop, context.progress)
        if precision == "int8":
            quantized = quantize_run(cache, engine, file, context, bound, slow)
        else:
            quantized = round_run(cache, engine, precision, file, bound)
        record = _lower_record(quantized, subject, engine, precision, file, run)
    latency = time_file(engine, file, precision) if timed else None
    exported = Exported(export=record, quantized=quantized, latency=latency)
    if path is None:
        _save_record(run, exported)
    return exported


def time_file(engine: Engine, file: Path, precision: Precision) -> Measurement | None:
    """Measure the latency of a file briefly, with batch size 1 on one core; None if it does not run here."""
    if engine.obstacle(precision):
        return None
    with pinned_to_cores(1) as cores:
        session = engine.open(file, 1, precision)
        assert session.input_shape is not None
        image = np.random.default_rng(0).standard_normal((1, *session.input_shape), dtype=np.float32)
        return measure_latency(
            lambda: session(image),
            engine=engine.title,
            batch=1,
            threads=1,
            input_shape=session.input_shape,
            sample_seconds=TIMED_SECONDS,
            precision=precision,
            cores=cores,
        )


def real_images(run: RunFolder, context: ExecutionContext) -> NDArray[np.float32]:
    """Return normalized test images ``[N, 3, S, S]`` for the parity check.

    If there are none, or they are no longer there, the check is on synthetic images alone, and a note says so.
    """
    split = run.split
    samples, reason = evenly_spaced(split.test, REAL_IMAGES), "the run has no test images"
    if samples:
        try:
            missing = open_store(split.root).missing([sample.path for sample in samples])
            reason = f"test images are no longer in {split.root}"
        except DataError as error:
            missing, reason = [split.root], str(error)
        samples = () if missing else samples
    if not samples:
        context.progress.note(f"{reason}; the file is checked on synthetic images alone")
    return images_of(run, samples)


def _lower_record(
    quantized: Quantized | None,
    subject: Exportable,
    engine: Engine,
    precision: Precision,
    file: Path,
    run: RunFolder,
) -> Export:
    """Return the record of a file of lower precision; its logit error is reported, but only its accuracy is bounded."""
    if quantized is None:
        return Export(
            file=file.name,
            engine=engine.title,
            precision=precision,
            size_bytes=size_of(file),
            images=0,
            verified=False,
            max_error=None,
            agreement=None,
        )
    real = images_of(run, evenly_spaced(run.split.test, REAL_IMAGES))
    inputs = parity_inputs(real, subject.contract.preprocessing)
    expected, actual = logits_of_model(subject.model, inputs), logits_of(engine.open(file, 1, precision), inputs, BATCH)
    scale = max(MIN_SCALE, float(np.abs(expected).max()))
    return Export(
        file=file.name,
        engine=engine.title,
        precision=precision,
        size_bytes=quantized.size_bytes,
        images=quantized.images,
        batches=(BATCH,),
        max_error=float(np.abs(actual - expected).max()) / scale,
        agreement=quantized.agreement,
    )


def _save_record(run: RunFolder, exported: Exported) -> None:
    """Add a record to the run's list of exports, in place of an earlier record of the same file.

    A list that another version of Triscale wrote is replaced: it can be made again.
    """
    file = run.exports_file
    try:
        saved = Exports.load(file).files if file.is_file() else ()
    except RecordError:
        saved = ()
    others = [item for item in saved if item.export.file != exported.export.file]
    Exports(files=(*others, exported)).save(file)
