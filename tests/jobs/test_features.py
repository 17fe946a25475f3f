"""Embeddings of images equal a manual forward pass, and files are written atomically."""

from __future__ import annotations

import csv
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet
from sklearn.linear_model import LogisticRegression

from cli.command import refused, run
from conftest import write_classes, write_picture
from triscale.data.images.transforms import eval_transform, normalize
from triscale.errors import Interrupted
from triscale.jobs.core.run import RunFolder
from triscale.jobs.inference.feature_file import write_features
from triscale.jobs.inference.features import features_of
from triscale.training.context import ExecutionContext


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("features") / "images", 12)


@pytest.fixture
def trained(trained_run: Path) -> RunFolder:
    return RunFolder.open(trained_run)


def by_hand(trained: RunFolder, file: Path) -> dict[str, np.ndarray]:
    """Return the embeddings of one image, layer by layer."""
    model, preprocessing = trained.model(), trained.spec.preprocessing
    with torch.inference_mode():
        picture = eval_transform(preprocessing)(Image.open(file).convert("RGB"))
        maps = model.stem(normalize(picture[None], preprocessing))
        finer = maps = model.stages[0](maps)
        maps = model.stages[1](maps)
        last = model.head.maps(maps)
    return {name: value.mean((2, 3))[0].numpy() for name, value in (("2", finer), ("4", maps), ("pooled", last))}


@pytest.mark.parametrize("reduction", ["pooled", "2", "4"])
def test_files_hold_features_of_forward_pass(capsys, folder, trained, tmp_path, reduction):
    for name in ("out.parquet", "out.npy"):
        result = run(capsys, "features", trained.folder, folder, "--out", tmp_path / name, "--reduction", reduction)
        assert result.code == 0, result.err
        assert "36 images" in result.out
    table = parquet.read_table(tmp_path / "out.parquet")
    array = np.load(tmp_path / "out.npy")
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert table.column_names == ["file", "label", "split", "features"]
    assert (array.dtype, array.shape) == (np.float32, (36, {"pooled": 32, "2": 8, "4": 16}[reduction]))
    assert np.array_equal(np.stack(table.column("features").to_numpy(zero_copy_only=False)), array)
    assert table.column("file").to_pylist() == [row["file"] for row in rows]
    assert table.column("label").to_pylist() == [row["label"] for row in rows]
    assert set(table.column("split").to_pylist()) == {None}
    for place in (0, 17, 35):
        assert rows[place]["file"].startswith(rows[place]["label"])
        expected = by_hand(trained, folder / rows[place]["file"])[reduction]
        np.testing.assert_allclose(array[place], expected, rtol=1e-5, atol=1e-6)


def test_classifier_on_embeddings_gives_logits(folder, trained):
    stream = features_of(trained, folder, batch=7)
    vectors = np.concatenate([batch.vectors for batch in stream])
    model, preprocessing = trained.model(), trained.spec.preprocessing
    files = [file for batch in features_of(trained, folder, batch=36) for file in batch.files]
    transform = eval_transform(preprocessing)
    images = torch.stack([transform(Image.open(folder / file).convert("RGB")) for file in files])
    with torch.inference_mode():
        expected = model(normalize(images, preprocessing))
        given = model.head.get_submodule("classifier")(torch.from_numpy(vectors))
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def test_embeddings_of_colors_are_linearly_separable(folder, trained):
    batches = list(features_of(trained, folder))
    vectors = np.concatenate([batch.vectors for batch in batches])
    labels = [label for batch in batches for label in batch.labels]
    assert LogisticRegression(max_iter=500).fit(vectors[::2], labels[::2]).score(vectors[1::2], labels[1::2]) == 1


def test_splits_are_recorded(trained, tmp_path):
    for part, seed in (("train", 1), ("test", 2)):
        write_classes(tmp_path / "set" / part, 2, seed)
    (batch,) = features_of(trained, tmp_path / "set")
    assert batch.splits == ("train",) * 6 + ("test",) * 6
    assert batch.labels == ("blue", "blue", "green", "green", "red", "red") * 2


def test_unlabeled_folder_is_accepted_and_bad_files_are_listed(capsys, trained, tmp_path):
    for number in range(3):
        write_picture(tmp_path / "photos" / f"{number}.png", (200, 30, 30), number)
    (tmp_path / "photos" / "notes.png").write_text("no image")
    out = tmp_path / "out.npy"
    result = run(capsys, "features", trained.folder, tmp_path / "photos", "--out", out, "--json")
    made = json.loads(result.out)
    assert (made["images"], made["bad"][0]["path"]) == (3, "notes.png")
    assert (tmp_path / "out.csv").read_text() == "file,label,split\n0.png,,\n1.png,,\n2.png,,\n"
    (tmp_path / "none").mkdir()
    assert "holds no readable images" in refused(capsys, "features", trained.folder, tmp_path / "none", "--out", out)


def test_files_and_several_folders_are_accepted(capsys, folder, trained, tmp_path):
    out = tmp_path / "out.npy"
    given = (folder / "red" / "000.png", folder / "blue")
    assert run(capsys, "features", trained.folder, *given, "--out", out).code == 0
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [row["file"] for row in rows] == [
        "red/000.png",
        *(f"blue/{file.name}" for file in sorted(given[1].iterdir())),
    ]
    every = {
        file: vector
        for batch in features_of(trained, folder)
        for file, vector in zip(batch.files, batch.vectors, strict=True)
    }
    np.testing.assert_allclose(np.load(out), [every[row["file"]] for row in rows], rtol=1e-5, atol=1e-6)
    assert run(capsys, "features", trained.folder, given[0], "--out", out).code == 0
    assert np.load(out).shape[0] == 1
    assert "does not exist" in refused(capsys, "features", trained.folder, given[0], tmp_path / "no", "--out", out)
    assert "no images given" in refused(capsys, "features", trained.folder, "--out", out)


def test_relative_out_is_written_to_current_folder(capsys, folder, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("out.npy", "out.parquet"):
        assert run(capsys, "features", trained.folder, folder, "--out", name).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.npy", "out.parquet"]


def test_tables_and_shards_are_accepted(capsys, folder, trained, tmp_path):
    assert run(capsys, "data", "pack", folder, "--out", tmp_path / "shards").code == 0
    packed = np.concatenate([batch.vectors for batch in features_of(trained, tmp_path / "shards")])
    plain = np.concatenate([batch.vectors for batch in features_of(trained, folder)])
    assert np.array_equal(packed, plain)
    lines = [f"{folder}/{name}/000.png,{name}" for name in ("red", "blue")]
    (tmp_path / "table.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    (batch,) = features_of(trained, tmp_path / "table.csv")
    assert sorted(batch.labels) == ["blue", "red"]
    assert np.allclose(batch.vectors[batch.labels.index("blue")], plain[0], atol=1e-6)


@pytest.mark.parametrize("name", ["out.parquet", "out.npy"])
def test_interruption_leaves_no_files(folder, trained, tmp_path, name):
    calls = iter([False, False, False, True])
    stream = features_of(trained, folder, ExecutionContext(should_stop=lambda: next(calls)), batch=8)
    with pytest.raises(Interrupted, match="run the same command again"):
        write_features(stream, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_invalid_output_is_rejected_before_computing(capsys, folder, trained, tmp_path, monkeypatch):
    arguments = ("features", trained.folder, folder, "--out")
    assert "neither .parquet nor .npy" in refused(capsys, *arguments, tmp_path / "out.csv")
    assert "does not exist; create it" in refused(capsys, *arguments, tmp_path / "there" / "out.npy")
    assert "is inside the image folder" in refused(capsys, *arguments, folder / "out.npy")
    out = tmp_path / "out.npy"
    assert "give pooled or a whole number" in refused(capsys, *arguments, out, "--reduction", "last")
    assert "no map at reduction 8: it has maps at 2, 4" in refused(capsys, *arguments, out, "--reduction", 8)
    assert "holds no run" in refused(capsys, "features", tmp_path, folder, "--out", out)
    real = importlib.import_module

    def without(name):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", without)
    assert "triscale[parquet]" in refused(capsys, *arguments, tmp_path / "out.parquet")


OWN = """
from torch import nn


def make(depth, width, classes):
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5), nn.ReLU(),
        nn.Dropout(0.5), nn.Linear(5, classes)
    )
"""


def test_custom_network_returns_input_of_last_linear_layer(capsys, folder, tmp_path, monkeypatch):
    (tmp_path / "own_features.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ("--network", "own_features:make", "--epochs", 1, "--batch", 8, "--out", tmp_path / "run")
    assert run(capsys, "train", folder, *arguments).code == 0
    trained = RunFolder.open(tmp_path / "run")
    (batch,) = features_of(trained, folder)
    model, preprocessing = trained.model(), trained.spec.preprocessing
    picture = eval_transform(preprocessing)(Image.open(folder / batch.files[5]).convert("RGB"))
    with torch.inference_mode():
        expected = model[:-1](normalize(picture[None], preprocessing))[0].numpy()
    np.testing.assert_allclose(batch.vectors[5], expected, rtol=1e-5, atol=1e-6)
    out = tmp_path / "out.npy"
    assert "does not support custom models" in refused(
        capsys, "features", trained.folder, folder, "--out", out, "--reduction", 2
    )
