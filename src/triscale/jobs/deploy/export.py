"""A trained run as files for engines: exported, checked, quantized with a guard, timed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from triscale.deploy.contract import Contract
from triscale.deploy.engines import DEFAULT_ENGINE, Engine
from triscale.deploy.export import export
from triscale.deploy.exportable import Exportable
from triscale.deploy.parity import MIN_SCALE, logits_of, logits_of_model, parity_inputs
from triscale.deploy.quantize.guard import BOUND
from triscale.jobs.core.run import Run
from triscale.jobs.deploy.quantize import BATCH, CALIBRATION, QuantizationEvalCache, images_of, quantize_run, spread
from triscale.measure.latency import held_to_cores, measure_latency
from triscale.network.spec import Network
from triscale.results.deployment import Export, Exported, Exports, Quantized
from triscale.results.latency import Measurement
from triscale.training.context import ExecutionContext

Precision = Literal["float32", "int8"]
REAL_IMAGES = 59
"""With the five made ones they are 64."""
TIMED_SECONDS = 0.5


def exportable(run: Run) -> Exportable:
    """Return a run's model with what its files carry.

    Raises:
        RunError: the training has not finished.
    """
    spec = run.spec
    contract = Contract(network=spec.network.name, preprocessing=spec.preprocessing, classes=spec.classes)
    return Exportable(run.model(), contract, spec.network if isinstance(spec.network, Network) else None)


def default_file(run: Run, engine: Engine, precision: Precision) -> Path:
    """Return where a run's file for an engine lies."""
    return run.folder / f"model{'.int8' if precision == 'int8' else ''}{engine.suffix}"


def export_run(run: Run, context: ExecutionContext, path: Path | None = None) -> Export:
    """Export the weights to ONNX, checked on test images; the record stays in the run.

    Raises:
        ParityError: the file does not compute what the model does.
    """
    context.progress.begin("export")
    made = export(exportable(run), DEFAULT_ENGINE, real_images(run), path or run.onnx_file)
    made.save(run.export_file)
    return made


def export_for(
    run: Run,
    context: ExecutionContext,
    engine: Engine,
    precision: Precision = "float32",
    path: Path | None = None,
    *,
    bound: float = BOUND,
    calibration: int = CALIBRATION,
    timed: bool = True,
    exam: QuantizationEvalCache | None = None,
) -> Exported:
    """Make a file of a run for an engine, checked, and time it where the engine runs here.

    Args:
        run: trained.
        context: Progress and stop flag.
        engine: that the file is for.
        precision: float32 must compute what the model does; int8 may lose ``bound`` points of test accuracy.
        path: of the file; in the run by default, where the record of it is kept, too.
        bound: of int8, in points.
        calibration: images of the training split, for int8.
        timed: whether its latency is measured.
        exam: that int8 files sit, where several do; made of the run by default.

    Raises:
        ParityError: the file does not compute what the model does.
        QuantizationError: int8 loses more than is allowed.
        ExportError: the engine cannot convert the model.
        UserError: the engine is not installed, or there are too few images to calibrate with.
        RunError: there are no test images to judge int8 by.
        Interrupted: ``context.should_stop`` returned true.
    """
    subject, file = exportable(run), path or default_file(run, engine, precision)
    context.progress.begin(f"export for {engine.title}{', int8' if precision == 'int8' else ''}")
    quantized = None
    if precision == "float32":
        made = export(subject, engine, real_images(run), file)
        if file == run.onnx_file:
            made.save(run.export_file)
    else:
        quantized = quantize_run(
            exam or QuantizationEvalCache(run, subject, calibration, context.should_stop), engine, file, context, bound
        )
        made = _export_of(quantized, subject, engine, file, run)
    latency = time_file(engine, file, precision) if timed else None
    exported = Exported(export=made, quantized=quantized, latency=latency)
    if path is None:
        _keep(run, exported)
    return exported


def time_file(engine: Engine, file: Path, precision: Precision) -> Measurement | None:
    """Measure a file with one image on one core, briefly; None where its engine does not run here."""
    if not engine.runs_here():
        return None
    with held_to_cores(1) as cores:
        session = engine.open(file, 1)
        assert session.side is not None
        image = np.random.default_rng(0).standard_normal((1, 3, session.side, session.side), dtype=np.float32)
        return measure_latency(
            lambda: session(image),
            engine=engine.title,
            batch=1,
            threads=1,
            resolution=session.side,
            sample_seconds=TIMED_SECONDS,
            precision=precision,
            cores=cores,
        )


def real_images(run: Run) -> NDArray[np.float32]:
    """Return test images of a run, normalized, for checks."""
    return images_of(run, spread(run.split.test, REAL_IMAGES))


def _export_of(quantized: Quantized, subject: Exportable, engine: Engine, file: Path, run: Run) -> Export:
    """Return how the logits of an int8 file differ from the float model's, which is told and not bounded."""
    inputs = parity_inputs(real_images(run), subject.contract.preprocessing)
    exact, found = logits_of_model(subject.model, inputs), logits_of(engine.open(file, 1), inputs, BATCH)
    scale = max(MIN_SCALE, float(np.abs(exact).max()))
    return Export(
        file=file.name,
        engine=engine.title,
        precision="int8",
        size_bytes=quantized.size_bytes,
        images=quantized.images,
        batches=(BATCH,),
        max_error=float(np.abs(found - exact).max()) / scale,
        agreement=quantized.agreement,
    )


def _keep(run: Run, exported: Exported) -> None:
    file = run.exports_file
    known = Exports.load(file).files if file.is_file() else ()
    others = [item for item in known if item.export.file != exported.export.file]
    Exports(files=(*others, exported)).save(file)
