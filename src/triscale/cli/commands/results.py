"""Commands on a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json
from triscale.cli.support.terminal import console, print_json, table
from triscale.errors import UserError
from triscale.network.cost import si

if TYPE_CHECKING:
    from triscale.results.explanation import Explanation
    from triscale.results.run_comparison import ComparedRuns


def evaluate(run: Path, /, *, part: str = "test", device: str = "auto", json: Json = False) -> None:
    """Evaluate a run on a part of its images: accuracy with its interval, errors by class, calibration.

    Parameters
    ----------
    run
        Folder of a run.
    part
        test, val or train.
    device
        auto, cpu or cuda.
    """
    from triscale.jobs.core.run import Run
    from triscale.jobs.inference.evaluate import evaluate_run

    opened = Run.open(run)
    with opened.update(), execution(device) as context:
        metrics = evaluate_run(opened, context, split=part)
    if json:
        print_json(metrics)
        return
    table(
        ("class", "images", "precision", "recall", "F1"),
        [
            (row.name, str(row.count), f"{row.precision:.1%}", f"{row.recall:.1%}", f"{row.f1:.1%}")
            for row in metrics.per_class
        ],
    )
    top5 = "" if metrics.top5 is None else f", top-5 {metrics.top5:.2%}"
    console.print(
        f"top-1 {metrics.top1:.2%} of {metrics.count} {metrics.split} images (95% interval {metrics.top1_low:.2%} to "
        f"{metrics.top1_high:.2%}){top5}, loss {metrics.loss:.4f}, calibration error {metrics.calibration_error:.3f}"
    )


def predict(
    source: Path,
    /,
    *images: Path,
    top: int = 3,
    json: Json = False,
) -> None:
    """Say what a run or an exported file sees in images.

    Parameters
    ----------
    source
        Folder of a run, or an exported file: .onnx, .xml, .pte, .tflite, on a Mac .mlpackage.
    images
        Image files or folders of them.
    top
        Number of classes to name for each image.
    """
    from triscale.jobs.inference.predict import predict as job

    if not images:
        raise UserError("no images given; give files or folders after the run")
    if top < 1:
        raise UserError(f"--top {top} names no class; give 1 or more")
    predictions = list(job(source, images, top=top))
    if json:
        print_json(predictions)
        return
    # Not a rich table: names of files stay whole, however narrow the terminal is.
    widest = max(len(prediction.file) for prediction in predictions)
    names = [guess.name for prediction in predictions for guess in prediction.classes]
    name_width = max(map(len, names), default=0)
    for prediction in predictions:
        shown = "  ".join(f"{guess.name:<{name_width}} {guess.probability:>6.1%}" for guess in prediction.classes)
        print(f"{prediction.file:<{widest}}  {shown or f'not read: {prediction.error}'}")


def explain(
    run: Path,
    /,
    *images: Path,
    out: Path | None = None,
    method: Literal["auto", "cam", "grad-cam"] = "auto",
    label: Annotated[str | None, Parameter(name="--class")] = None,
    curves: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Draw where a run's network looks: in its test images, or in images of your own.

    Parameters
    ----------
    run
        Folder of a run.
    images
        Image files or folders of them; without any, test images, wrong and right ones.
    out
        Folder for overlays, contact sheet and explanation.json; explained by default. With images only.
    method
        cam: class activation maps, exact where the head is a mean and a linear layer; grad-cam: for any network.
    label
        The class to explain, instead of the one that is predicted. With images only.
    curves
        Follow the probability as pixels are deleted and inserted in the order of the map: how faithful it is.
    """
    from triscale.jobs.core.run import Run
    from triscale.jobs.inference.explain import explain_images, explain_run

    opened = Run.open(run)
    if images:
        folder = out or Path("explained")
        with execution() as context:
            found = explain_images(opened, images, folder, context, method=method, label=label, curves=curves)
        if json:
            print_json(found)
        else:
            _print_explanation(found, folder)
        return
    if out is not None or label is not None or curves:
        raise UserError("--out, --class and --curves are for images of your own; give files or folders after the run")
    with opened.update(), execution() as context:
        maps = explain_run(opened, context, method)
    if json:
        print_json(maps)
        return
    table(
        ("file", "truth", "predicted", "confidence", "map"),
        [(item.file, item.truth, item.predicted, f"{item.confidence:.1%}", item.overlay) for item in maps.images],
        left=3,
    )
    console.print(f"{len(maps.images)} maps in {opened.maps_folder}", markup=False)


def _print_explanation(found: Explanation, folder: Path) -> None:
    from triscale.report.draw.format import shorten

    rows = [row for row in found.images if row.error is None]
    followed = any(row.deletion is not None for row in rows)
    table(
        ("file", "class", "confidence", "peak", "extent", *(("deletion", "insertion") if followed else ())),
        [
            (
                shorten(Path(row.file).name, 24),
                row.predicted,
                f"{row.confidence:.1%}",
                "-" if row.peak is None else f"{row.peak[0]:.0f}, {row.peak[1]:.0f}",
                f"{row.share:.0%}",
                *((f"{row.deletion:.3f}", f"{row.insertion:.3f}") if followed else ()),
            )
            for row in rows
        ],
        left=2,
    )
    for row in found.images:
        if row.error is not None:
            console.print(f"not read: {row.file}: {row.error}", markup=False, soft_wrap=True)
    if followed:
        ours = [[getattr(row, name) for row in rows] for name in ("deletion", "random_deletion", "insertion",
                                                                 "random_insertion")]  # fmt: skip
        means = [sum(values) / len(values) for values in ours]
        console.print(
            f"mean area under the deletion curve {means[0]:.3f} (pixels at random {means[1]:.3f}; less is better), "
            f"insertion {means[2]:.3f} (at random {means[3]:.3f}; more is better)",
            markup=False,
        )
    console.print("peak: pixels from the left and top; extent: share of the map from half its peak on", style="dim")
    console.print(f"written to {folder}", markup=False, soft_wrap=True)


def report(*runs: Path, out: Path | None = None, json: Json = False) -> None:
    """Write the report of a run, a search or a comparison again from its directory, or one report of several runs.

    Parameters
    ----------
    runs
        Folder of a run, a search or a comparison; or folders of several evaluated runs, to stand side by side.
    out
        File of the report of several runs, such as runs.html.
    """
    from triscale.jobs.core.run import Run
    from triscale.jobs.reports.run_report import write_run_report
    from triscale.jobs.reports.study_report import is_study, write_study_report

    if not runs:
        raise UserError("nothing to report on; give the folder of a run, a search or a comparison, or several runs")
    if len(runs) > 1:
        _report_several(runs, out, json=json)
        return
    if out is not None or json:
        raise UserError(
            "--out and --json are for several runs; the report of one is the file report.html in its folder"
        )
    if is_study(runs[0]):
        print(write_study_report(runs[0]))
        return
    opened = Run.open(runs[0])
    with opened.update():
        print(write_run_report(opened))


def _report_several(runs: tuple[Path, ...], out: Path | None, *, json: bool) -> None:
    from triscale.jobs.reports.run_comparison import compare_runs
    from triscale.jobs.reports.runs_report import check_report_file, write_runs_report

    if out is None and not json:
        raise UserError("several runs have one page of their own; say where with --out, such as --out runs.html")
    compared = compare_runs(runs)
    if out is not None:
        check_report_file(compared, out)
        write_runs_report(compared, out)
    if json:
        print_json(compared)
        return
    _print_runs(compared)
    console.print(f"written to {out}", markup=False, soft_wrap=True)


def _print_runs(compared: ComparedRuns) -> None:
    several = len(compared.test_sets) > 1
    for number, test_set in enumerate(compared.test_sets):
        rows = sorted((run for run in compared.runs if run.test_set == number), key=lambda run: -run.top1)
        table(
            ("Run", "network", "MACs", "params", "top-1", "95% interval", "behind", "latency"),
            [
                (
                    run.name,
                    run.network,
                    si(run.macs),
                    si(run.params),
                    f"{run.top1:.1%}",
                    f"{run.top1_low:.1%} - {run.top1_high:.1%}",
                    ""
                    if run.behind is None
                    else f"{100 * run.behind.share:.1f}{'' if run.behind.significant else ' ~'}",
                    "" if run.latency is None else f"{run.latency.median_ms:.3g} ms{' ?' if run.latency.noise else ''}",
                )
                for run in rows
            ],
            left=2,
            title=f"{test_set.name}, {test_set.count} test images" if several else "",
        )
    if any(run.behind is not None for run in compared.runs):
        console.print(
            "behind: percentage points to the best on the same images; ~: those images do not tell the two apart",
            style="dim",
        )
    for note in compared.notes:
        console.print(f"note: {note}", markup=False, style="bold red")
