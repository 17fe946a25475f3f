"""The command ``calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from triscale.cli.support.amounts import percentage, share_of
from triscale.cli.support.execution import execution
from triscale.cli.support.messages import confidence_sentences
from triscale.cli.support.options import Json
from triscale.cli.support.terminal import console, print_json
from triscale.errors import UserError

if TYPE_CHECKING:
    from triscale.results.confidence import Calibration

TrainedRunArgument = Annotated[str, Parameter(help="Folder of a trained run.")]
MovedRunImages = Annotated[
    str | None, Parameter(name="--images", help="Where the images of the run are now, if they have moved.")
]


def calibrate(
    run: TrainedRunArgument,
    /,
    *,
    coverage: str = "90%",
    keep: str = "95%",
    unknown_images: Path | None = None,
    images: MovedRunImages = None,
    device: str = "auto",
    json: Json = False,
) -> None:
    """Calibrate a run: probabilities that agree with frequencies, prediction sets, and a threshold for unknown images.

    It uses the validation images of the run; fit and train do it with the defaults. Predictions, reports and files that
    are exported afterwards use it. The run is evaluated on its test images again.

    Parameters
    ----------
    coverage
        Share of images whose prediction set is to contain the right class, or all right labels.
    keep
        Share of images like the validation images that are not to be called unknown.
    unknown_images
        A folder of photos that show none of the classes, to measure how many are called unknown. Nothing is fitted to
        them.
    device
        auto, cpu, cuda, cuda:1 (or 1) for the second GPU, xpu (Intel) or mps (Apple).
    """
    from triscale.jobs.run_source import open_source
    from triscale.jobs.source_jobs import calibrate_source

    shares = {name: share_of(f"--{name}", text) for name, text in (("coverage", coverage), ("keep", keep))}
    for name, value in shares.items():
        if value == 0:
            raise UserError(f"--{name} 0 is not a share between 0 and 1; give one such as 90%")
    with execution(device) as context, open_source(run, context, images=images) as opened:
        calibration, metrics = calibrate_source(
            opened, context, coverage=shares["coverage"], kept=shares["keep"], unknown_images=unknown_images
        )
    if json:
        print_json(calibration)
        return
    _print_calibration(calibration)
    if metrics is None or metrics.confidence is None:
        return
    if sentences := confidence_sentences(metrics, metrics.confidence):
        console.print(f"\nOn the {metrics.count} test images:", style="bold")
    for sentence in sentences:
        console.print(sentence, markup=False)


def _print_calibration(calibration: Calibration) -> None:
    confidence, unknown = calibration.confidence, calibration.unknown
    rows = [
        ("temperature", f"{confidence.temperature:.3f}"),
        ("loss", f"{calibration.loss_before:.4f} before, {calibration.loss_after:.4f} after"),
        (
            "calibration error",
            f"{calibration.calibration_error_before:.1%} before, {calibration.calibration_error_after:.1%} after",
        ),
    ]
    if confidence.set_threshold is not None:
        rows.append(
            (
                "prediction set",
                f"classes of at least {confidence.set_threshold:.2%}, for {percentage(confidence.coverage)} of images",
            )
        )
    if confidence.unknown_threshold is not None:
        kept = percentage(confidence.kept)
        rows.append(("unknown", f"energy threshold {confidence.unknown_threshold:.3f}, which keeps {kept} of images"))
    console.print(f"Fitted to {calibration.images} validation images:", style="bold")
    for name, value in rows:
        console.print(f"{name:<18} {value}", markup=False)
    for note in calibration.notes:
        console.print(f"{note[:1].upper()}{note[1:]}.", markup=False)
    if unknown is None:
        return
    skipped = f", {unknown.unreadable} unreadable" if unknown.unreadable else ""
    console.print(f"\nOn {unknown.images} images of other things, in {unknown.folder}{skipped}:", style="bold")
    console.print(
        f"AUROC {unknown.auroc:.3f} (95% interval {unknown.auroc_low:.3f} to {unknown.auroc_high:.3f}; chance is 0.5)",
        markup=False,
    )
    if unknown.called_unknown is not None:
        console.print(
            f"called unknown {unknown.called_unknown:.1%} (95% interval {unknown.called_unknown_low:.1%} to "
            f"{unknown.called_unknown_high:.1%})",
            markup=False,
        )
