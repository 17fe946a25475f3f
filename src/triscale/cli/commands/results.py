"""The commands ``evaluate``, ``explain`` and ``report`` for a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from triscale.cli.support.data_options import LIMIT_DEFAULTS, LimitFlags
from triscale.cli.support.execution import execution
from triscale.cli.support.messages import confidence_sentences, notes_on, print_guessing
from triscale.cli.support.options import Json, Offline, OptionalOut, SourceArgument, SourceImages, SourceOrFileArgument
from triscale.cli.support.terminal import console, print_json, table, visible
from triscale.errors import JobError, UserError
from triscale.network.cost import si

if TYPE_CHECKING:
    from triscale.results.explanation import Explanation
    from triscale.results.metrics import AnyMetrics, MultiLabelMetrics
    from triscale.results.run_comparison import ComparedRuns

MovedImages = Annotated[str | None, Parameter(help="Where the images of a single run are now, if they have moved.")]


def evaluate(
    source: SourceOrFileArgument,
    /,
    images: SourceImages = None,
    *,
    split: str = "test",
    device: str = "auto",
    fail_under: float | None = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Evaluate a run, weights or an exported file on images: accuracy with its interval, errors by class, calibration.

    Some of the images for weights are kept for the calibration of int8, as by triscale weights run, unless they are
    split into folders; an exported file is evaluated on all of them.

    Parameters
    ----------
    split
        Split to evaluate on: test, val or train.
    device
        auto, cpu, cuda, cuda:1 (or 1) for the second GPU, xpu (Intel) or mps (Apple). It has no effect on exported
        files.
    fail_under
        Exit with code 1 if top-1 accuracy, or mean average precision for images with any number of labels, is below
        this share, such as 0.95; for pipelines.
    """
    from triscale.results.metrics import Metrics

    if fail_under is not None and not 0 <= fail_under <= 1:
        raise UserError(f"--fail-under {fail_under:g}: give a share from 0 to 1, such as 0.95")

    metrics = _evaluate(source, images, split, device, offline=offline)
    if json:
        print_json(metrics)
    else:
        _print_metrics(metrics)
        if metrics.confidence is not None:
            for sentence in confidence_sentences(metrics, metrics.confidence):
                console.print(sentence, markup=False)
        print_guessing(metrics)
    if fail_under is not None and metrics.score < fail_under:
        name = "top-1 accuracy" if isinstance(metrics, Metrics) else "mean average precision"
        raise JobError(f"{name} {metrics.score:.4g} is below {fail_under:g} (--fail-under)")


def _evaluate(source: str, images: str | None, split: str, device: str, *, offline: bool) -> AnyMetrics:
    from triscale.jobs.inference.evaluate_file import evaluate_file
    from triscale.jobs.run_source import is_exported, open_source
    from triscale.jobs.source_jobs import evaluate_source

    with execution(device) as context:
        if is_exported(source):
            return evaluate_file(Path(source), images, context, split=split)
        with open_source(source, context, images=images, offline=offline) as opened:
            return evaluate_source(opened, context, split)


def _print_metrics(metrics: AnyMetrics) -> None:
    from triscale.results.metrics import Metrics, percent_or_dash

    if not isinstance(metrics, Metrics):
        _print_label_metrics(metrics)
        return
    table(
        ("class", "images", "precision", "recall", "F1"),
        [
            (visible(row.name), str(row.count), *map(percent_or_dash, (row.precision, row.recall, row.f1)))
            for row in metrics.per_class
        ],
    )
    top5 = "" if metrics.top5 is None else f", top-5 {metrics.top5:.2%}"
    console.print(
        f"top-1 {metrics.top1:.2%} of {metrics.count} {metrics.split} images (95% interval {metrics.top1_low:.2%} to "
        f"{metrics.top1_high:.2%}){top5}, loss {metrics.loss:.4f}, calibration error {metrics.calibration_error:.1%}"
    )
    for sentence in notes_on(metrics):
        console.print(sentence, markup=False)


def _print_label_metrics(metrics: MultiLabelMetrics) -> None:
    from triscale.results.metrics import percent_or_dash

    table(
        ("label", "images", "average precision", "threshold", "precision", "recall", "F1"),
        [
            (visible(row.name), str(row.count),
             percent_or_dash(row.average_precision), f"{row.threshold:.2f}",
             *map(percent_or_dash, (row.precision, row.recall, row.f1)))
            for row in metrics.per_class
        ],
    )  # fmt: skip
    console.print(
        f"mean average precision {metrics.mean_average_precision:.2%} on {metrics.count} {metrics.split} images (95% "
        f"interval {metrics.map_low:.2%} to {metrics.map_high:.2%}), loss {metrics.loss:.4f}, calibration error "
        f"{metrics.calibration_error:.1%}"
    )
    for sentence in notes_on(metrics):
        console.print(sentence, markup=False)


def explain(
    source: SourceArgument,
    /,
    *images: Path,
    moved: Annotated[SourceImages, Parameter(name="--images")] = None,
    out: OptionalOut = None,
    method: Literal["auto", "cam", "grad-cam"] = "auto",
    label: Annotated[str | None, Parameter(name="--class")] = None,
    curves: Annotated[bool, Parameter(negative="")] = False,
    image_limits: LimitFlags = LIMIT_DEFAULTS,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Draw class activation maps for given images, or for test images of a run or of --images.

    Parameters
    ----------
    images
        Image files or folders of images; by default misclassified and correct test images.
    out
        Folder for overlays, contact sheet and explanation.json; by default explained. Not for test images of a run,
        whose maps are written into the run.
    method
        cam: class activation maps, exact for a head of global average pooling and a linear layer; grad-cam: for any
        network.
    label
        Class to explain; by default the predicted class, which is reported in any case. Only with images.
    curves
        Compute deletion and insertion curves, which measure how faithful the map is to the model.
    """
    from triscale.jobs.inference.explain import explain_images
    from triscale.jobs.run_source import open_source
    from triscale.jobs.source_jobs import EXPLAINED, explain_source

    if images and moved is not None:
        raise UserError("--images names the images of a run or for weights; leave it out if images are given")
    if not images and (label is not None or curves):
        raise UserError("--class and --curves require images; give files or folders after the run")
    with execution() as context, open_source(source, context, images=moved, offline=offline) as opened:
        if images:
            folder, limits = out or EXPLAINED, image_limits.limits()
            explanation = explain_images(
                opened.run, images, folder, context, method=method, label=label, curves=curves, limits=limits
            )
        else:
            maps, folder = explain_source(opened, context, method, out)
    if images:
        if json:
            print_json(explanation)
        else:
            _print_explanation(explanation, folder)
        _refuse_unreadable(explanation)
        return
    if json:
        print_json(maps)
        return
    table(
        ("file", "truth", "predicted", "confidence", "map"),
        [(item.file, item.truth, item.predicted, f"{item.confidence:.1%}", item.overlay) for item in maps.images],
        left=3,
    )
    console.print(f"{len(maps.images)} maps in {folder}", markup=False)


def _print_explanation(explanation: Explanation, folder: Path) -> None:
    from triscale.report.draw.format import shorten

    rows = [row for row in explanation.images if row.error is None]
    has_curves = any(row.deletion is not None for row in rows)
    asked = any(row.explained != row.predicted for row in rows)
    table(
        (
            "file",
            "class",
            "confidence",
            *(("map of", "probability") if asked else ()),
            "peak",
            "extent",
            *(("deletion", "insertion") if has_curves else ()),
        ),
        [
            (
                shorten(Path(row.file).name, 24),
                row.predicted,
                f"{row.confidence:.1%}",
                *((row.explained, f"{row.probability:.1%}") if asked else ()),
                "-" if row.peak is None else f"{row.peak[0]:.0f}, {row.peak[1]:.0f}",
                f"{row.share:.0%}",
                *((f"{row.deletion:.3f}", f"{row.insertion:.3f}") if has_curves else ()),
            )
            for row in rows
        ],
        left=2,
    )
    for row in explanation.images:
        if row.error is not None:
            console.print(f"unreadable: {row.file}: {row.error}", markup=False, soft_wrap=True)
    if has_curves:
        areas = [[getattr(row, name) for row in rows] for name in ("deletion", "random_deletion", "insertion",
                                                                 "random_insertion")]  # fmt: skip
        means = [sum(values) / len(values) for values in areas]
        console.print(
            f"mean area under the deletion curve {means[0]:.3f} (random order {means[1]:.3f}; lower is better), "
            f"under the insertion curve {means[2]:.3f} (random order {means[3]:.3f}; higher is better)",
            markup=False,
        )
    console.print(
        "peak: position in pixels from the left and top; extent: share of the map above half of its peak", style="dim"
    )
    console.print(f"written to {folder}", markup=False, soft_wrap=True)


def _refuse_unreadable(explanation: Explanation) -> None:
    if explanation.images and all(row.error is not None for row in explanation.images):
        raise JobError(f"none of the {len(explanation.images)} files could be read as an image")


def report(*runs: Path, images: MovedImages = None, out: OptionalOut = None, json: Json = False) -> None:
    """Write the report of a run, a search or a comparison again, or a report that compares several runs.

    Parameters
    ----------
    runs
        Folder of a run, a search or a comparison; or folders of several evaluated runs to compare.
    out
        File of the report of several runs, such as runs.html.
    """
    from triscale.jobs.core.run import RunFolder
    from triscale.jobs.data.moved_images import reattach_images
    from triscale.jobs.reports.run_report import write_run_report
    from triscale.jobs.reports.study_report import is_study, write_study_report

    if not runs:
        raise UserError("nothing to report on; give the folder of a run, a search or a comparison, or several runs")
    if images is not None and (len(runs) > 1 or is_study(runs[0])):
        raise UserError("--images is for the report of a single run; leave it out")
    if len(runs) > 1:
        _report_several(runs, out, json=json)
        return
    if out is not None or json:
        raise UserError(
            "--out and --json are for several runs; the report of a single run is report.html in its folder"
        )
    if is_study(runs[0]):
        print(write_study_report(runs[0]))
        return
    opened = RunFolder.open(runs[0])
    with opened.update():
        if images is not None:
            with execution() as context:
                reattach_images(opened, images, context)
        print(write_run_report(opened))


def _report_several(runs: tuple[Path, ...], out: Path | None, *, json: bool) -> None:
    from triscale.jobs.reports.run_comparison import compare_runs
    from triscale.jobs.reports.runs_report import check_report_file, write_runs_report

    if out is None and not json:
        raise UserError("a report of several runs requires a path; give --out, for example --out runs.html")
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
            ("run", "network", "MACs", "params", "top-1", "95% interval", "behind", "latency"),
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
            "behind: percentage points behind the best run on the same images; ~: the difference is not significant",
            style="dim",
        )
    for note in compared.notes:
        console.print(f"note: {note}", markup=False, style="bold red")
