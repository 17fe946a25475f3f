"""The command ``profile``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json, Out
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import UserError, nearest

if TYPE_CHECKING:
    from triscale.jobs.profile.device_profile import Engine


MAX_SPREAD = 0.1
"""Relative variation of the device's speed during profiling above which a warning is printed."""


def profile(
    *,
    out: Out = Path("profile.json"),
    engine: str = "onnxruntime",
    threads: int = 1,
    export: Path | None = None,
    import_: Annotated[Path | None, Parameter(name="--import")] = None,
    json: Json = False,
) -> None:
    """Profile this device, so that a budget can limit latency: --budget 20ms --profile FILE.

    Times parts of networks and fits a latency predictor. This takes about two minutes; the same command resumes an
    interrupted profile.

    Parameters
    ----------
    out
        File of the profile.
    engine
        Engine to profile: onnxruntime or torch.
    threads
        Threads of the engine, on as many cores.
    export
        Write a folder to profile another device: graphs, and a runner.py that needs only onnxruntime and numpy.
    import_
        Create the profile from such a folder, after runner.py was run in it on the device.
    """
    from triscale.jobs.profile.device_profile import make_profile
    from triscale.jobs.profile.other_device import export_plan, import_times
    from triscale.measurement.profile import held_out_predictions, measurement_noise

    if threads < 1:
        raise UserError(f"--threads {threads}: give 1 or more")
    chosen = _engine(engine)
    if export is not None:
        if import_ is not None or chosen != "onnxruntime":
            raise UserError("--export supports only ONNX Runtime; do not give --import or another engine with it")
        number = export_plan(export, threads)
        console.print(
            f"{number} graphs written to {export}; run on the device: python {export.name}/runner.py", markup=False
        )
        return
    if import_ is not None:
        result = import_times(import_, out)
    else:
        with execution() as context:
            result = make_profile(out, chosen, threads, context)
    assert result.predictor is not None
    if json:
        print_json(result.predictor)
        return
    rows = held_out_predictions(result, result.predictor)
    table(
        ("held-out network", "measured ms", "predicted ms", "error"),
        [
            (name, f"{measured:.3g}", f"{predicted:.3g}", f"{predicted / measured - 1:+.0%}")
            for name, measured, predicted in rows
        ],
    )
    console.print(f"{result.predictor}; with one thread, times are CPU times of the thread", style="dim", markup=False)
    spread = measurement_noise(result)
    if spread > MAX_SPREAD:
        console.print(
            f"the speed of the device varied by {spread:.0%} during profiling, so predictions include this load; "
            "profile it again when no other process is running",
            style="bold red",
            markup=False,
        )
    console.print(f"written to {out}; use it with: triscale scale NAME --budget 20ms --profile {out}", markup=False)


def _engine(text: str) -> Engine:
    from triscale.jobs.profile.device_profile import Engine as Known

    known = get_args(Known)
    if text not in known:
        raise UserError(f'cannot profile the engine "{text}"{nearest(text, known)}; give {" or ".join(known)}')
    return text  # type: ignore[return-value]
