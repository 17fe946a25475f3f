"""The command that makes a profile of this device, and what others say of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import UserError, nearest

if TYPE_CHECKING:
    from triscale.jobs.profile.device_profile import Engine


MAX_SPREAD = 0.1
"""Share by which a device may grow slower in a profile before it is said."""


def profile(
    *,
    out: Path = Path("profile.json"),
    engine: str = "onnxruntime",
    threads: int = 1,
    export: Path | None = None,
    import_: Annotated[Path | None, Parameter(name="--import")] = None,
    json: Json = False,
) -> None:
    """Time what networks are made of on this device, so that a budget can be a time: --budget 20ms --profile FILE.

    Takes two minutes or so; the same command resumes with what was begun.

    Parameters
    ----------
    out
        File of the profile.
    engine
        What is to run the networks: onnxruntime or torch.
    threads
        Threads of the engine, on as many cores.
    export
        Write a folder for another device instead: graphs, and runner.py, which needs only onnxruntime and numpy there.
    import_
        Make the profile of such a folder, after runner.py has run in it.
    """
    from triscale.jobs.profile.device_profile import make_profile
    from triscale.jobs.profile.other_device import export_plan, import_times
    from triscale.measure.profile import measurement_noise, misses

    if threads < 1:
        raise UserError(f"--threads {threads}: give 1 or more")
    chosen = _engine(engine)
    if export is not None:
        if import_ is not None or chosen != "onnxruntime":
            raise UserError("--export writes graphs for ONNX Runtime; give neither --import nor another engine with it")
        number = export_plan(export, threads)
        console.print(f"{number} graphs in {export}; on the device: python {export.name}/runner.py", markup=False)
        return
    if import_ is not None:
        made = import_times(import_, out)
    else:
        with execution() as context:
            made = make_profile(out, chosen, threads, context)
    assert made.predictor is not None
    if json:
        print_json(made.predictor)
        return
    rows = misses(made, made.predictor)
    table(
        ("held out", "measured ms", "forecast ms", "off by"),
        [(name, f"{took:.3g}", f"{predicted:.3g}", f"{predicted / took - 1:+.0%}") for name, took, predicted in rows],
    )
    console.print(f"{made.predictor}; the times are those of the thread where it is one", style="dim", markup=False)
    spread = measurement_noise(made)
    if spread > MAX_SPREAD:
        console.print(
            f"the device was {spread:.0%} slower at times while it was profiled: forecasts are for it as busy as that; "
            "profile it again when nothing else runs",
            style="bold red",
            markup=False,
        )
    console.print(f"written to {out}; use it: triscale scale NAME --budget 20ms --profile {out}", markup=False)


def _engine(text: str) -> Engine:
    from triscale.jobs.profile.device_profile import Engine as Known

    known = get_args(Known)
    if text not in known:
        raise UserError(f'there is no engine "{text}" to profile{nearest(text, known)}; give {" or ".join(known)}')
    return text  # type: ignore[return-value]
