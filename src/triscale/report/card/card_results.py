"""The results and limits of a model card."""

from __future__ import annotations

from triscale.report.card.card_content import CardContent
from triscale.report.card.markdown import escaped, markdown_table, table_by_class
from triscale.report.draw.format import grouped, milliseconds, share
from triscale.results.confidence import Calibration
from triscale.results.metrics import AnyMetrics, Metrics, guessing_note, missed_classes
from triscale.results.robustness import Robustness

FEW_TEST_IMAGES = 30
"""With fewer, the 95% interval of a recall of one half is wider than 35 points."""


def results_section(content: CardContent) -> str:
    """Return what was measured: on the test images, by class, of the probabilities, and on corrupted images."""
    metrics, run = content.run.metrics, content.run
    if metrics is None:
        return "## Results\n\nThe network has not been evaluated."
    parts = [
        f"## Results\n\nOn {grouped(metrics.count)} {metrics.split} images" + _independence(content, metrics),
        markdown_table(("metric", "value", "95% interval"), _rows(metrics)),
    ]
    if guessing := guessing_note(metrics):
        parts.append(f"**{guessing}**")
    parts.append("### By class\n\n" + _by_class(content, metrics))
    if run.calibration is not None:
        parts.append("### Probabilities\n\n" + _probabilities(run.calibration, metrics))
    if run.robustness is not None:
        parts.append("### Corrupted images\n\n" + _robustness(run.robustness))
    if run.latency:
        first = run.latency[0]
        parts.append(
            f"### Latency\n\n{milliseconds(first.median_ms)} per call (95% interval {milliseconds(first.low_ms)} to "
            f"{milliseconds(first.high_ms)}) with {escaped(first.engine)}, batch size {first.batch}, "
            f"{first.threads} {'thread' if first.threads == 1 else 'threads'}, {escaped(first.machine.processor)}."
        )
    return "\n\n".join(parts)


def _independence(content: CardContent, metrics: AnyMetrics) -> str:
    if metrics.split != "test" or not content.trains:
        return "."
    if content.run.warnings:
        return "; some of them are, or may be, copies of training images: see the warnings about the data."
    return ", which had no part in the training."


def _rows(metrics: AnyMetrics) -> list[tuple[str, str, str]]:
    low, high = metrics.interval
    if isinstance(metrics, Metrics):
        rows = [
            ("top-1 accuracy", share(metrics.top1), _interval(low, high)),
            ("balanced accuracy", share(metrics.mean_class_accuracy), ""),
        ]
        rows += [] if metrics.top5 is None else [("top-5 accuracy", share(metrics.top5), "")]
        if metrics.majority_share is not None:
            rows.append(("for comparison: always the most frequent class", share(metrics.majority_share), ""))
    else:
        rows = [
            ("mean average precision", share(metrics.mean_average_precision), _interval(low, high)),
            ("micro F1", share(metrics.micro_f1), ""),
            ("macro F1", share(metrics.macro_f1), ""),
            ("exactly the right labels", share(metrics.exact_match),
             _interval(metrics.exact_match_low, metrics.exact_match_high)),
            ("for comparison: mean average precision of guessing", share(metrics.chance), ""),
        ]  # fmt: skip
    return [*rows, ("cross-entropy", f"{metrics.loss:.4f}", ""), (
        "expected calibration error", share(metrics.calibration_error), ""
    )]  # fmt: skip


def _by_class(content: CardContent, metrics: AnyMetrics) -> str:
    rows = [
        (escaped(row.name), grouped(row.count), share(row.precision), share(row.recall), _interval(*interval),
         share(row.f1))
        for row, interval in zip(metrics.per_class, content.recalls, strict=True)
        if row.count
    ]  # fmt: skip
    return table_by_class(("class", f"{metrics.split} images", "precision", "recall", "its 95% interval", "F1"), rows)


def _probabilities(calibration: Calibration, metrics: AnyMetrics) -> str:
    fitted, check, unknown = calibration.confidence, metrics.confidence, calibration.unknown
    how = f"fitted to {grouped(calibration.images)} validation images"
    sentences = [f"They are calibrated: logits are divided by {fitted.temperature:.3f}, {how}."]
    if check is not None:
        sentences.append(
            f"The calibration error on the {metrics.split} images is {share(metrics.calibration_error)}; without the "
            f"temperature it is {share(check.calibration_error_before)}."
        )
        if check.coverage is not None and check.covered is not None:
            sentences.append(
                f"Prediction sets, meant to contain the right answer for {share(check.coverage)} of the images, do for "
                f"{share(check.covered)} (95% interval {_interval(check.covered_low, check.covered_high)})."
            )
        if check.kept is not None:
            sentences.append(
                f"{share(check.called_unknown)} of the {metrics.split} images are called unknown (95% interval "
                f"{_interval(check.called_unknown_low, check.called_unknown_high)}); {share(1 - check.kept)} was "
                "intended."
            )
    if unknown is not None:
        sentences.append(
            f"Of {grouped(unknown.images)} images of other things ({escaped(unknown.folder)}), "
            f"{share(unknown.called_unknown)} are called unknown (95% interval "
            f"{_interval(unknown.called_unknown_low, unknown.called_unknown_high)}); AUROC {unknown.auroc:.3f} "
            f"({unknown.auroc_low:.3f} to {unknown.auroc_high:.3f})."
        )
    return " ".join(sentences)


def _robustness(result: Robustness) -> str:
    means = zip(result.kinds, result.all_classes.corrupted, strict=True)
    rows = [(kind, share(mean.value), _interval(mean.low, mean.high)) for kind, mean in means]
    if (clean := result.all_classes.clean) is not None:
        rows.insert(0, ("none", share(clean.value), _interval(clean.low, clean.high)))
    text = f"Mean over five strengths, on {grouped(result.images)} of {grouped(result.available)} test images."
    return f"{text}\n\n{markdown_table(('corruption', 'top-1 accuracy', '95% interval'), rows)}"


def limits_section(content: CardContent) -> str:
    """Return what the results do not show."""
    return "## Limits\n\n" + "\n".join(f"- {sentence}" for sentence in _limits(content))


def _limits(content: CardContent) -> list[str]:
    run, metrics = content.run, content.run.metrics
    limits = []
    if content.link == "softmax":
        named = run.calibration is not None and run.calibration.confidence.unknown_threshold is not None
        measured = run.calibration is not None and run.calibration.unknown is not None
        or_not = ", unless it is called unknown" if named else ""
        limits.append(
            f"Every image is given one of the {len(content.classes):,} classes, also one that shows none of them"
            f"{or_not}." + ("" if measured else " How well such images are recognized has not been measured.")
        )
    limits.append(
        "The results are for images like those of the data set. Other cameras, places, times or groups of people have "
        "not been measured, and nothing here says how the network does on them."
    )
    if metrics is not None:
        limits += _limits_of(metrics)
    if run.robustness is None:
        limits.append("The effect of blur, noise, darkness, compression and rotation has not been measured.")
    if (deployed := run.deployed) is not None and deployed.quantized is not None:
        limits.append(f"`{deployed.file}` has lower precision: {deployed.quantized.loss}.")
    return limits


def _limits_of(metrics: AnyMetrics) -> list[str]:
    present = sorted((row for row in metrics.per_class if row.count), key=lambda row: row.count)
    absent = len(metrics.per_class) - len(present)
    few = [row for row in present if row.count < FEW_TEST_IMAGES]
    limits = []
    if absent:
        limits.append(f"{absent:,} classes have no {metrics.split} images, so nothing is known about them.")
    if few:
        limits.append(
            f"{len(few):,} of {len(present):,} classes have fewer than {FEW_TEST_IMAGES} {metrics.split} images (the "
            f"fewest, {few[0].count}, {escaped(few[0].name)}): their figures are rough, as the intervals show."
        )
    if isinstance(metrics, Metrics) and metrics.is_imbalanced:
        limits.append(
            f"Classes are imbalanced: {escaped(present[-1].name)} has {present[-1].count:,} {metrics.split} images, "
            f"{escaped(present[0].name)} {present[0].count:,}. Accuracy is mostly that of the frequent classes; "
            "balanced accuracy gives each class the same weight."
        )
    if missed := missed_classes(metrics):
        limits.append(f"No {metrics.split} image of these classes is recognized: {', '.join(map(escaped, missed))}.")
    return limits


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{share(low)} to {share(high)}"
