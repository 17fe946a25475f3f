"""The command ``predict``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from triscale.cli.support.amounts import percentage
from triscale.cli.support.data_options import LIMIT_DEFAULTS, LimitFlags
from triscale.cli.support.execution import execution
from triscale.cli.support.options import Json, Offline, OptionalOut, SourceOrFileArgument
from triscale.cli.support.terminal import console, json_text
from triscale.errors import JobError, UserError

if TYPE_CHECKING:
    from triscale.jobs.inference.predict import ImageClassifier, Prediction
    from triscale.jobs.inference.prediction_file import PredictionWriter
    from triscale.network.contract import Decision
    from triscale.training.context import ExecutionContext

MAX_MEMBERS = 5
"""Classes of a prediction set that are printed; JSON and files have all."""
MAX_FILE, MAX_CLASS = 60, 24
"""Maximum widths of the columns of files and class names; what is longer is not cut, but shifts the rest."""


def predict(
    source: SourceOrFileArgument,
    /,
    *images: Path,
    top: int = 3,
    out: OptionalOut = None,
    image_limits: LimitFlags = LIMIT_DEFAULTS,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Classify images with a run, weights or an exported file.

    Each prediction is printed or written as soon as it is made. The exit code is 1 if no image could be read. Files
    that cannot be read are listed on standard error.

    Parameters
    ----------
    images
        Image files or folders of images; - reads their paths from standard input, one per line.
    top
        Number of classes for each image.
    out
        Write a .csv, .jsonl or .parquet file instead of printing, image by image; the same command continues it.
    """
    from triscale.jobs.inference.predict import files_of
    from triscale.jobs.inference.predict import predict as job
    from triscale.jobs.inference.prediction_file import open_prediction_file

    if not images:
        raise UserError("no images given; give files or folders after the run, or - to read them from standard input")
    if top < 1:
        raise UserError(f"--top {top}: give 1 or more classes")
    if out is not None and json:
        raise UserError("--out and --json exclude each other; give --out predictions.jsonl for JSON in a file")
    limits = image_limits.limits()
    paths = tuple(path for image in images for path in (_stdin_paths() if str(image) == "-" else (image,)))
    files = files_of(paths)
    with execution() as context, _opened(source, context, offline=offline) as classifier:
        if out is None:
            predictions = job(classifier, paths, context, top=top, limits=limits)
            explain = partial(_explain_confidence, classifier.decision, context)
            show = partial(_print_lines, files=files, classes=classifier.classes, explain=explain)
            bad, number = (_print_json if json else show)(predictions)
        else:
            file = open_prediction_file(out, top, classifier.decision)
            with file.writer() as writer:
                predictions = job(classifier, paths, context, top=top, skip=file.done, limits=limits)
                bad, number = _write(predictions, writer)
            file.finish()
    if out is not None:
        continued = f", {len(file.done)} were there already" if file.done else ""
        console.print(f"{number} predictions written to {out}{continued}", markup=False, soft_wrap=True)
    if number and bad == number:
        raise JobError(f"none of the {number} files could be read as an image")


@contextmanager
def _opened(source: str, context: ExecutionContext, *, offline: bool) -> Iterator[ImageClassifier]:
    """Provide the classifier of a run, weights or an exported file."""
    from triscale.jobs.inference.predict import ImageClassifier
    from triscale.jobs.run_source import is_exported, open_source

    if is_exported(source):
        yield ImageClassifier.open(Path(source))
        return
    with open_source(source, context, offline=offline) as opened:
        yield ImageClassifier.open(opened.run.folder)


def _stdin_paths() -> tuple[Path, ...]:
    return tuple(Path(line.rstrip("\n")) for line in sys.stdin if line.strip())


def _write(predictions: Iterable[Prediction], writer: PredictionWriter) -> tuple[int, int]:
    """Append predictions to a file; return the number of unreadable files and of all."""
    bad = number = 0
    for number, prediction in enumerate(predictions, 1):  # noqa: B007 - returned
        writer.write(prediction)
        bad += _report_unreadable(prediction)
    return bad, number


def _print_json(predictions: Iterable[Prediction]) -> tuple[int, int]:
    """Print predictions as one JSON list, which is complete also if an exception ends it early."""
    bad = number = 0
    print("[", end="")
    try:
        for number, prediction in enumerate(predictions, 1):
            print("," * (number > 1), textwrap.indent(json_text(prediction), " "), sep="\n", end="", flush=True)
            bad += prediction.error is not None
    finally:
        print("\n]" if number else "]", flush=True)
    return bad, number


def _print_lines(
    predictions: Iterable[Prediction], *, files: Sequence[Path], classes: Sequence[str], explain: Callable[[], None]
) -> tuple[int, int]:
    """Print a line per image; not a rich table, which would break file names in a narrow terminal."""
    doubtful = False
    widest = min(MAX_FILE, max(len(str(file)) for file in files))
    name_width = min(MAX_CLASS, max(map(len, classes), default=0))
    bad = number = 0
    for number, prediction in enumerate(predictions, 1):  # noqa: B007 - returned
        doubt = "" if prediction.error is not None else _doubt(prediction)
        doubtful |= bool(doubt)
        if prediction.error is not None:
            bad += _report_unreadable(prediction)
        elif prediction.labels is not None:
            probability = {guess.name: guess.probability for guess in prediction.classes}
            labels = [f"{name} {probability[name]:.1%}" if name in probability else name for name in prediction.labels]
            print(f"{prediction.file:<{widest}}  {'  '.join(labels) or '(no label)'}{doubt}", flush=True)
        else:
            shown = "  ".join(f"{guess.name:<{name_width}} {guess.probability:>6.1%}" for guess in prediction.classes)
            print(f"{prediction.file:<{widest}}  {shown}{doubt}", flush=True)
    if doubtful:
        explain()
    return bad, number


def _doubt(prediction: Prediction) -> str:
    """Return what a calibration adds to a line: a set that is not just the answer, and whether the image is unknown."""
    given = prediction.labels if prediction.labels is not None else (prediction.classes[0].name,)
    members = prediction.prediction_set
    shown = ""
    if members is not None and set(members) != set(given):
        more = f", {len(members) - MAX_MEMBERS} more" if len(members) > MAX_MEMBERS else ""
        shown = f"  set: {', '.join(members[:MAX_MEMBERS]) or 'none'}{more}"
    return shown + ("  unknown" if prediction.unknown else "")


def _explain_confidence(decision: Decision, context: ExecutionContext) -> None:
    """Say what ``set`` and ``unknown`` mean; not on standard output, where every line is an image."""
    confidence = decision.confidence
    if confidence is None:
        return
    if confidence.set_threshold is not None:
        what = "the right class" if decision.link == "softmax" else "all right labels"
        context.progress.note(
            f"set: the classes that contain {what} of {percentage(confidence.coverage)} of all images"
        )
    if confidence.unknown_threshold is not None:
        context.progress.note(
            f"unknown: the logits are lower than for {percentage(confidence.kept)} of the validation images"
        )


def _report_unreadable(prediction: Prediction) -> bool:
    """Print why a file cannot be read; return whether it cannot."""
    if prediction.error is None:
        return False
    print(f"unreadable: {prediction.file}: {prediction.error}", file=sys.stderr)
    return True
