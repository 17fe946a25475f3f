"""Compare batch-norm statistics in fine-tuning: trained, frozen, or reestimated after each epoch.

Run with: python benchmarks/finetune_norms.py IMAGES --source RUN --out DIR [--few 20] [--seeds 0 1 2]

IMAGES is a folder of class folders without splits. Each seed splits it twice: with ``--few`` training images per class,
and with four fifths for training; the others are for testing. The network and weights of RUN are fine-tuned with the
recipe ``finetune``. A linear probe (logistic regression with scikit-learn's defaults and more iterations) is fitted to
the features of the pretrained network for the same training images. A run that is already in DIR is not trained again.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from triscale.data.images.transforms import normalize
from triscale.data.pipeline.loader import eval_batches
from triscale.data.pipeline.split import Sample
from triscale.jobs.core.run import Request, RunFolder
from triscale.jobs.fit import RunOptions, train
from triscale.jobs.training.initial_weights import find_initial_weights
from triscale.nn.classifier import Classifier
from triscale.results.metrics import Metrics
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe, get_recipe

POLICIES = ("trained", "frozen", "reestimated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    source = RunFolder.open(arguments.source)
    print(f"{source.spec.network.name} of {arguments.source.name}, test accuracy in %, seeds {arguments.seeds}")
    for few in (arguments.few, None):
        amount = f"{few} images a class" if few else "four fifths of the images"
        accuracies: dict[str, list[float]] = {name: [] for name in (*POLICIES, "linear probe")}
        for seed in arguments.seeds:
            folder = arguments.out / f"images-{few or 'most'}-{seed}"
            if not folder.is_dir():
                divide(arguments.images, folder, few, seed)
            for policy in POLICIES:
                recipe = get_recipe("finetune").model_copy(update={"norm_statistics": policy})
                run = arguments.out / f"{policy}-{few or 'most'}-{seed}"
                accuracies[policy].append(tuned(source, folder, run, recipe, seed))
            accuracies["linear probe"].append(probe(source, folder, arguments.out / f"trained-{few or 'most'}-{seed}"))
        print(f"\n{amount}")
        for name, values in accuracies.items():
            listed = ", ".join(f"{100 * value:.1f}" for value in values)
            print(
                f"  {name:<13} {100 * np.mean(values):.1f} (deviation {100 * np.std(values, ddof=1):.1f}): {listed}",
                flush=True,
            )


def divide(images: Path, folder: Path, few: int | None, seed: int) -> None:
    """Copy images into train and test folders, in the order of a digest of seed and name."""
    for of_class in sorted(path for path in images.iterdir() if path.is_dir()):
        order = sorted(of_class.iterdir(), key=lambda path: hashlib.sha256(f"{seed}/{path.name}".encode()).digest())
        number = few or 4 * len(order) // 5
        for index, path in enumerate(order):
            to = folder / ("train" if index < number else "test") / of_class.name
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, to / path.name)


def tuned(source: RunFolder, images: Path, out: Path, recipe: Recipe, seed: int) -> float:
    """Fine-tune with a recipe, and return the test accuracy."""
    run = RunFolder(out)
    if not run.metrics_file.is_file():
        request = Request(
            images=str(images.resolve()),
            network=source.spec.network,
            budget=None,
            law=None,
            recipe=recipe,
            seed=seed,
            test_share=0.2,
            start=find_initial_weights(str(source.folder)),
        )
        train(request, out, ExecutionContext(), RunOptions(allow_leak=True))
    return Metrics.load(run.metrics_file).top1


def probe(source: RunFolder, images: Path, tuned_run: Path) -> float:
    """Fit a logistic regression to pretrained features of the same training images; return its test accuracy."""
    split, model = RunFolder(tuned_run).split, source.model()
    assert isinstance(model, Classifier)

    def features(samples: tuple[Sample, ...]) -> tuple[np.ndarray, np.ndarray]:
        pooled, labels = [], []
        for batch in eval_batches(samples, str(images.resolve()), source.spec.preprocessing, batch=128):
            with torch.inference_mode():
                maps = model.forward_features(normalize(batch.images, source.spec.preprocessing))
            pooled.append(maps.mean((2, 3)).numpy())
            labels.append(batch.labels.numpy())
        return np.concatenate(pooled), np.concatenate(labels)

    train_features, train_labels = features((*split.train, *split.val))
    fitted = LogisticRegression(max_iter=5000).fit(train_features, train_labels)
    test_features, test_labels = features(split.test)
    return float(fitted.score(test_features, test_labels))


if __name__ == "__main__":
    main()
