"""What a calibration is worth: temperature, prediction sets, and two values that tell images of other things apart.

For each run the test images measure what was fitted to its validation images. For each folder of other images, the
area under the ROC curve against the test images is given for the negative energy of the logits, which a calibration
uses, and for the highest probability, with or without the temperature.

    python benchmarks/confidence.py RUN ... --unknown FOLDER --unknown FOLDER ...
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

from triscale.data.images.transforms import eval_transform, normalize
from triscale.jobs.core.run import RunFolder
from triscale.jobs.inference.evaluate import measure_decision, outputs_of
from triscale.jobs.inference.predict import ImageClassifier, files_of
from triscale.nn.probabilities import negative_energy, probabilities
from triscale.training.calibration import auroc
from triscale.training.context import DEFAULT_CONTEXT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--unknown", action="append", type=Path, default=[])
    given = parser.parse_args()
    print(f"# python benchmarks/confidence.py {' '.join(sys.argv[1:])}\n")
    for folder in given.runs:
        report(RunFolder.open(folder), given.unknown)


def report(run: RunFolder, unknown: list[Path]) -> None:
    """Print what the calibration of a run is worth."""
    outcome = outputs_of(run, run.split.test, DEFAULT_CONTEXT, "evaluate")
    metrics = measure_decision(outcome, run.decision, run.spec.classes, "test")
    check = metrics.confidence
    assert check is not None
    print(f"{run.folder.name}: {run.spec.network.name}, {metrics.summary}; {len(run.split.val)} validation images")
    print(
        f"  temperature {check.temperature:.3f}: calibration error {check.calibration_error_before:.1%} -> "
        f"{metrics.calibration_error:.1%}, loss {check.loss_before:.4f} -> {metrics.loss:.4f}"
    )
    if check.coverage is not None:
        print(
            f"  sets for {check.coverage:.0%}: coverage {check.covered:.1%} ({check.covered_low:.1%} to "
            f"{check.covered_high:.1%}), {check.mean_set_size:.2f} classes"
        )
    if check.kept is not None:
        print(
            f"  called unknown {check.called_unknown:.1%} ({check.called_unknown_low:.1%} to "
            f"{check.called_unknown_high:.1%}), meant to be {1 - check.kept:.0%}"
        )
    for folder in unknown:
        compare(run, outcome.logits, folder)
    print()


def compare(run: RunFolder, known: np.ndarray, folder: Path) -> None:
    """Print how well two values of the logits separate images of a folder from test images."""
    classifier = ImageClassifier.open(run.folder)
    transform, decision = eval_transform(classifier.preprocessing), run.decision
    files = files_of((folder,))
    others = np.concatenate(
        [
            classifier.logits(normalize(transform(classifier.read(file))[None], classifier.preprocessing))
            for file in files
        ]
    )
    values = {
        "negative energy": lambda logits: negative_energy(logits, decision.link),
        "highest probability": lambda logits: probabilities(logits, decision.link).max(1).values,
        "the same, calibrated": lambda logits: probabilities(logits, decision.link, decision.temperature).max(1).values,
    }
    print(f"  {len(others)} other images in {'/'.join(folder.parts[-2:])}, AUROC (95% interval):")
    for name, value in values.items():
        of_known, of_others = (value(torch.from_numpy(logits)).numpy() for logits in (known, others))
        area, low, high = auroc(of_known, of_others)
        print(f"    {name:<22} {area:.3f} ({low:.3f} to {high:.3f})")
    limit = None if decision.confidence is None else decision.confidence.unknown_threshold
    if limit is not None:
        share = (negative_energy(torch.from_numpy(others), decision.link).numpy() < limit).mean()
        print(f"    called unknown         {share:.1%}")


if __name__ == "__main__":
    main()
