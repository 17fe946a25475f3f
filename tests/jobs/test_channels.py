"""Inference reads images with the channels that a network was trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import triscale as ts
from triscale.data.options import DataOptions
from triscale.errors import DataError, RunError
from triscale.jobs.inference.explain import explain_images
from triscale.jobs.inference.features import features_of
from triscale.jobs.inference.predict import ImageClassifier, predict
from triscale.network.contract import SOFTMAX, Preprocessing
from triscale.training.context import DEFAULT_CONTEXT

CHANNELS = (1, 2, 4, 5)
Stub = Callable[[int], SimpleNamespace]


@pytest.fixture
def stub(tiny: ts.Network, tmp_path: Path) -> Stub:
    """What inference needs of a run whose network takes a number of channels."""

    def make(channels: int) -> SimpleNamespace:
        torch.manual_seed(channels)
        network = tiny.replace(in_channels=channels, classes=2)
        model = ts.build(network).eval()
        spec = SimpleNamespace(
            network=network, classes=("oak", "pine"), preprocessing=Preprocessing.usual(network.input_shape)
        )
        return SimpleNamespace(spec=spec, decision=SOFTMAX, model=lambda: model, metrics_file=tmp_path / "metrics.json")

    return make


def classifier_of(run: SimpleNamespace) -> ImageClassifier:
    def logits(images: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(run.model()(images).numpy())

    return ImageClassifier(logits, run.spec.preprocessing, run.spec.classes)


def write(folder: Path, channels: int, number: int = 3) -> Path:
    folder.mkdir()
    for index in range(number):
        values = np.random.default_rng(index).integers(0, 256, (20, 30, channels), dtype=np.uint8)
        np.save(folder / f"{index}.npy", values)
    np.save(folder / "labels.npy", np.arange(3))
    return folder


@pytest.mark.parametrize("channels", CHANNELS)
def test_files_are_predicted_with_the_channels_of_the_training(stub, tmp_path, channels):
    images, classifier = write(tmp_path / "images", channels), classifier_of(stub(channels))
    predictions = list(predict(classifier, (images,)))
    assert [Path(one.file).name for one in predictions] == ["0.npy", "1.npy", "2.npy"]
    assert all(one.error is None and len(one.classes) == 2 for one in predictions)
    transform = ts.transforms(classifier.preprocessing)
    by_hand = torch.from_numpy(classifier.logits(transform(np.load(images / "0.npy"))[None])).softmax(1)[0]
    assert predictions[0].classes[0].probability == pytest.approx(float(by_hand.max()), abs=1e-6)


def test_files_of_other_channels_have_an_error(stub, tmp_path):
    images = write(tmp_path / "images", 4)
    Image.new("RGB", (20, 20)).save(images / "0.png")
    errors = [one.error for one in predict(classifier_of(stub(5)), (images,))]
    assert {error.partition(";")[0] for error in errors} == {"has 3 channels", "has 4 channels"}


@pytest.mark.parametrize("channels", CHANNELS)
def test_maps_are_drawn_over_the_first_channels(stub, tmp_path, channels):
    images = write(tmp_path / "images", channels)
    result = explain_images(stub(channels), [images], tmp_path / "maps", DEFAULT_CONTEXT)
    assert len(result.images) == 3
    for one in result.images:
        assert one.error is None
        with Image.open(tmp_path / "maps" / one.overlay) as overlay:
            assert overlay.mode == "RGB"


@pytest.mark.parametrize("channels", CHANNELS)
def test_embeddings_are_those_of_the_channels_of_the_training(stub, tmp_path, channels):
    run, images = stub(channels), write(tmp_path / "images", channels)
    (rows,) = list(features_of(run, images))
    inputs = ts.transforms(run.spec.preprocessing)(np.load(images / "0.npy"))[None]
    with torch.inference_mode():
        expected = run.model().forward_features(inputs).mean((2, 3))[0].numpy()
    assert rows.files == ("0.npy", "1.npy", "2.npy")
    assert np.allclose(rows.vectors[0], expected, atol=1e-5)
    with pytest.raises(RunError, match=f"trained on images of {channels} channels; .* leave --channels 3 out"):
        features_of(run, images, data=DataOptions(channels=3))


@pytest.mark.parametrize("channels", [1, 4, 5])
def test_transforms_take_arrays_of_the_channels_of_a_network(tiny, channels):
    transform = ts.transforms(tiny.replace(in_channels=channels))
    values = np.random.default_rng(0).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    assert tuple(transform(values).shape) == (channels, 16, 16)
    assert tuple(ts.transforms(tiny.replace(in_channels=channels), train=True)(values).shape) == (channels, 16, 16)
    with pytest.raises(DataError, match=r"expected uint8 from 0 to 255 of shape \[H, W"):
        transform(values.astype(np.float32))
    with pytest.raises(DataError, match=r"shape \[20, 30, 7]"):
        transform(np.zeros((20, 30, 7), np.uint8))


def test_transforms_take_pictures_with_four_channels(tiny):
    values = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    transform = ts.transforms(tiny.replace(in_channels=4))
    assert torch.equal(transform(Image.fromarray(values)), transform(values))
