"""Images of other shapes than three channels and a square, from the training to the exported file."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import triscale as ts
from cli.command import refused, run
from conftest import write_classes
from triscale.data.images.color import BadImage
from triscale.deploy.engines import open_file
from triscale.explain.cam import to_png
from triscale.jobs.core.run import RunFolder
from triscale.nn.build import build
from triscale.serve.model import ServedModel
from triscale.weights.channels import adapt_channels

SHAPE = ("--resolution", "24x12", "--channels", 5)
OPTIONS = ("--epochs", 6, "--batch", 16, "--learning-rate", 0.02, "--threads", 1, "--workers", 0)


@pytest.fixture(scope="module")
def bands(tmp_path_factory):
    """Arrays of five channels and 12 bits; which of three channels is bright decides the class."""
    folder, rng = tmp_path_factory.mktemp("bands") / "images", np.random.default_rng(0)
    for label in range(3):
        (folder / f"band{label}").mkdir(parents=True)
        for number in range(20):
            values = rng.integers(0, 1000, (14, 28, 5), dtype=np.uint16)
            values[:, :, 2 + label] += 2000
            np.save(folder / f"band{label}" / f"{number}.npy", values)
    return folder


@pytest.fixture(scope="module")
def trained(bands, tiny_file):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        return ts.train(
            bands, tiny_file, resolution="24x12", data={"channels": 5}, out=bands.parent / "run", epochs=6,
            batch_size=16, learning_rate=0.02, threads=1, workers=0, progress=False,
        )  # fmt: skip


def test_five_channels_are_learned_with_measured_moments(trained, bands):
    spec = RunFolder.open(trained.path).spec
    assert spec.network.input_shape == spec.preprocessing.input_shape == (5, 12, 24)
    assert spec.preprocessing.bit_depth == 12
    values = np.stack([np.load(file) for file in sorted(bands.rglob("*.npy"))]).astype(float) / 4095
    np.testing.assert_allclose(spec.preprocessing.mean, values.mean((0, 1, 2)), atol=0.02)
    np.testing.assert_allclose(spec.preprocessing.std, values.std((0, 1, 2)), atol=0.05)
    assert trained.metrics.top1 > 0.9


def test_predictions_of_file_array_and_exported_file_agree(trained, bands):
    file = bands / "band1" / "3.npy"
    values = np.load(file)
    (answer,) = trained.predict([file])
    assert answer.classes[0].name == "band1"
    eight_bits = np.minimum(values >> 4, 255).astype(np.uint8)
    (of_array,) = trained.predict([eight_bits])
    assert of_array.classes == answer.classes
    preprocessing = RunFolder.open(trained.path).spec.preprocessing
    inputs = np.stack([
        np.asarray(Image.fromarray(eight_bits[..., band]).resize((24, 12), Image.Resampling.BICUBIC, (0, 0, 28, 14)))
        for band in range(5)
    ])  # fmt: skip
    mean, std = (np.array(part)[:, None, None] for part in (preprocessing.mean, preprocessing.std))
    normalized = ((inputs / 255 - mean) / std)[None].astype(np.float32)
    logits = open_file(trained.path / trained.export(progress=False).export.file, 1)(normalized)[0]
    assert answer.classes[0].probability == pytest.approx(float(np.exp(logits[1]) / np.exp(logits).sum()), abs=1e-4)


def test_maps_lie_on_pictures_of_the_input_shape(trained, bands, tmp_path):
    trained.explain([bands / "band0" / "0.npy"], out=tmp_path / "maps")
    (overlay,) = [path for path in (tmp_path / "maps").glob("*.png") if path.name != "sheet.png"]
    with Image.open(overlay) as picture:
        assert picture.width == 2 * picture.height


def test_embeddings_and_evaluation_read_all_channels(capsys, trained, bands, tmp_path):
    assert run(capsys, "features", trained.path, bands, "--out", tmp_path / "f.npy").code == 0
    assert np.load(tmp_path / "f.npy").shape == (60, 32)
    again = json.loads(run(capsys, "evaluate", trained.path, "--json").out)
    assert again["top1"] == trained.metrics.top1


def test_server_reads_uploaded_arrays_with_the_channels_of_the_run(trained, bands):
    model = ServedModel(RunFolder.open(trained.path), pixels=10_000)
    file = bands / "band1" / "3.npy"
    answer = model.answer(file.read_bytes(), 3, with_map=True)
    expected = trained.predict(file).classes
    assert [(one.name, one.probability) for one in answer.classes] == [(one.name, one.probability) for one in expected]
    assert (answer.width, answer.height) == (28, 14)
    with Image.open(io.BytesIO(base64.b64decode(answer.map))) as shown:
        assert shown.mode == "RGB"
    with pytest.raises(BadImage, match="has 3 channels; expected 5"):
        model.answer(to_png(Image.new("RGB", (28, 14))), 3, with_map=False)


def test_stopped_training_on_five_channels_is_resumed_bitwise(capsys, trained, bands, tiny_file, tmp_path):
    arguments = ("train", bands, "--network", tiny_file, *SHAPE, *OPTIONS, "--out", tmp_path / "run")
    result = run(capsys, *arguments, "--max-time", "0.1s")
    assert result.code == 143, result
    assert run(capsys, *arguments).code == 0
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (trained.path / "model.safetensors").read_bytes()


def test_weights_on_colors_continue_on_gray_images(capsys, tiny_file, tmp_path):
    images = write_classes(tmp_path / "images", 12)
    colors, gray = tmp_path / "colors", tmp_path / "gray"
    base = ("--epochs", 1, "--batch", 16, "--threads", 1, "--workers", 0)
    assert run(capsys, "train", images, "--network", tiny_file, "--out", colors, *base).code == 0
    result = run(capsys, "train", images, "--weights", colors, "--channels", 1, "--out", gray, *base)
    assert result.code == 0
    assert "first convolution is adapted from 3 input channels to 1: its weights are summed" in result.err
    spec = RunFolder.open(gray).spec
    assert (spec.network.in_channels, spec.preprocessing.mean, spec.preprocessing.std) == (1, (0.449,), (0.226,))


def test_adapted_convolution_gives_the_same_maps_on_repeated_channels(tiny):
    torch.manual_seed(0)
    colors = build(tiny).eval()
    state = colors.state_dict()
    plane = torch.randn(2, 1, 16, 16)
    for channels in (1, 6):
        model = build(tiny.replace(in_channels=channels)).eval()
        model.load_state_dict(
            state | {"stem.conv.weight": adapt_channels(state["stem.conv.weight"], channels)}, strict=True
        )
        torch.testing.assert_close(model(plane.expand(-1, channels, -1, -1)), colors(plane.expand(-1, 3, -1, -1)))


def test_color_policy_on_five_channels_is_refused_before_anything_is_written(capsys, bands, tiny_file, tmp_path):
    out = tmp_path / "run"
    message = refused(
        capsys, "train", bands, "--network", tiny_file, *SHAPE, *OPTIONS, "--out", out, "--set",
        "augmentation.color_jitter=0.3",
    )  # fmt: skip
    assert "images of 5 channels have none" in message
    assert not out.exists()


def test_channels_of_the_files_are_named_when_they_are_not_asked_for(capsys, bands, tiny_file, tmp_path):
    message = refused(capsys, "train", bands, "--network", tiny_file, "--out", tmp_path / "run")
    assert "and 55 more: has 5 channels; expected 3; train on them with --channels 5" in message


def test_network_of_a_file_decides_the_channels(capsys, bands, tiny, tmp_path):
    file = tmp_path / "five.json"
    tiny.replace(in_channels=5).save(file)
    out = tmp_path / "run"
    assert run(capsys, "train", bands, "--network", file, "--epochs", 1, "--threads", 1, "--out", out).code == 0
    assert RunFolder.open(out).spec.request.data.channels == 5
    assert safetensors.torch.load_file(out / "model.safetensors")["stem.conv.weight"].shape[1] == 5


def test_size_that_is_none_is_refused(capsys, bands, tiny_file):
    for text in ("24x", "0x12", "24,12", "9999"):
        message = refused(capsys, "train", bands, "--network", tiny_file, "--resolution", text)
        assert "width x height such as 720x184" in message


@pytest.mark.stress
def test_networks_for_five_channels_are_compared(capsys, bands, tiny, tmp_path):
    file = tmp_path / "wide.json"
    tiny.replace(resolution=12, aspect_ratio=(2, 1), in_channels=5).save(file)
    options = ("--times", 2, "--epochs", 1, "--seeds", 0, "--set", "val_share=0.5", "--out", tmp_path / "out")
    result = run(capsys, "compare", bands, "--baseline", file, *options)
    assert result.code == 0, result.err
    assert "24x12" in result.out
    specs = [RunFolder.open(spec.parent).spec for spec in (tmp_path / "out").rglob("run.json")]
    assert {spec.preprocessing.channels for spec in specs} == {5}
    assert all(0.1 < value < 0.5 for spec in specs for value in spec.preprocessing.mean)


def test_studies_refuse_color_policies_on_five_channels(capsys, bands, tiny_file, tmp_path):
    policy = ("--channels", 5, "--set", "augmentation.policy=randaugment", "--out", tmp_path / "out")
    assert "5 channels have none" in refused(capsys, "compare", bands, "--baseline", tiny_file, *policy)


def test_teacher_of_other_channels_is_refused(capsys, trained, bands, tmp_path, tiny_file):
    gray = tmp_path / "gray"
    for label in range(3):
        (gray / f"band{label}").mkdir(parents=True)
        for number in range(10):
            values = np.full((14, 28), 60 * label + number, np.uint8)
            Image.fromarray(values).save(gray / f"band{label}" / f"{number}.png")
    message = refused(
        capsys, "train", gray, "--network", tiny_file, "--teacher", trained.path, "--out", tmp_path / "run"
    )
    assert "takes images of 5 channels, and the student's have 3" in message
