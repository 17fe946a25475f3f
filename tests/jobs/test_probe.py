"""A new classifier starts as a linear probe, equal to scikit-learn's on the same features."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from cli.command import run
from conftest import COLORS, write_classes
from triscale.data.images.decode import decode
from triscale.data.images.transforms import eval_transform, normalize
from triscale.data.pipeline.order import num_batches
from triscale.data.pipeline.split import Sample, Split
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.linear_probe import fit_probe, init_head_from_linear_probe
from triscale.jobs.training.train import repeat_small_dataset
from triscale.nn.build import build
from triscale.training.changes import changed, find_recipe
from triscale.training.recipe import Recipe

SPLIT = Split(root="", classes=("a",), train=(), val=(), test=(), seed=0, how="")


@pytest.mark.parametrize("classes", [2, 4])
def test_probe_probabilities_match_logistic_regression(classes):
    rng = np.random.default_rng(0)
    labels = np.arange(120) % classes
    features = rng.normal(size=(120, 7)) * np.logspace(-2, 2, 7) + labels[:, None]
    weight, bias = fit_probe(features, labels)
    assert weight.shape == (classes, 7)
    logits = torch.from_numpy(features @ weight.T + bias)
    scaled = (features - features.mean(0)) / features.std(0)
    expected = LogisticRegression(max_iter=1000).fit(scaled, labels).predict_proba(scaled)
    np.testing.assert_allclose(logits.softmax(1).numpy(), expected, atol=1e-6)


def test_constant_feature_is_ignored():
    features = np.concatenate([np.random.default_rng(0).normal(size=(40, 3)), np.ones((40, 1))], axis=1)
    weight, bias = fit_probe(features, np.arange(40) % 2)
    assert np.isfinite(weight).all()
    assert np.isfinite(bias).all()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, tiny_file):
    from triscale.cli import main

    folder = tmp_path_factory.mktemp("probe")
    images, out = write_classes(folder / "images", 20), folder / "run"
    main(["train", str(images), "--network", str(tiny_file), "--epochs", "2", "--set", "batch=16", "--out", str(out)])
    return RunFolder.open(out)


@pytest.mark.stress
def test_fine_tuning_starts_from_probe_reproducibly(capsys, pretrained, tmp_path):
    others = {f"new {name}": color for name, color in COLORS.items()}
    images = write_classes(tmp_path / "others", 20, seed=1, colors=others)
    command = ("train", images, "--weights", pretrained.folder, "--epochs", 1, "--set", "batch=16", "--set",
               "min_steps=20")  # fmt: skip
    result = run(capsys, *command, "--out", tmp_path / "a")
    assert result.code == 0, result.err
    assert "the classifier is initialized from a linear probe on" in result.err
    run(capsys, *command, "--out", tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
    by_chance = run(capsys, *command, "--set", "head_init=random", "--out", tmp_path / "c")
    assert "as a linear probe" not in by_chance.err

    split, spec = RunFolder.open(tmp_path / "a").split, pretrained.spec
    model = build(spec.network)
    model.load_state_dict(pretrained.model().state_dict())
    assert init_head_from_linear_probe(model, split, spec.preprocessing, 0, torch.device("cpu")) == len(split.train)
    transform = eval_transform(spec.preprocessing)
    right = 0
    for sample in split.train:
        with torch.inference_mode():
            picture = decode((tmp_path / "others" / sample.path).read_bytes())
            logits = model.eval()(normalize(transform(picture)[None], spec.preprocessing))
        right += int(logits.argmax()) == sample.label
    assert right / len(split.train) > 0.8


def test_class_without_images_disables_probe(pretrained):
    split = pretrained.split
    alone = split.model_copy(update={"train": tuple(one for one in split.train if one.label != 0)})
    assert (
        init_head_from_linear_probe(pretrained.model(), alone, pretrained.spec.preprocessing, 0, torch.device("cpu"))
        is None
    )


@pytest.mark.parametrize(
    ("images", "least", "times"), [(20, 0, 1), (20, 200, 7), (20, 30, 1), (20, 31, 2), (640, 30, 1)]
)
def test_small_datasets_are_repeated(pretrained, images, least, times):
    split = pretrained.split
    split = split.model_copy(update={"train": (split.train[0],) * images})
    recipe = changed(find_recipe("finetune"), ("epochs=15", "batch=10", f"min_steps={least}"))
    assert len(repeat_small_dataset(split, recipe).train) == times * images


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.integers(1, 64), st.integers(1, 40), st.integers(0, 400))
@example(images=336, batch=64, epochs=3, least=200)  # took 189 steps
def test_small_datasets_have_the_minimum_of_steps(images, batch, epochs, least):
    recipe = Recipe(epochs=epochs, batch=batch, min_steps=least)
    split = SPLIT.model_copy(update={"train": (Sample(path="a.png", label=0),) * images})
    repeated = len(repeat_small_dataset(split, recipe).train)
    assert epochs * num_batches(repeated, batch) >= least
    # No more often than needed.
    assert repeated == images or epochs * num_batches(repeated - images, batch) < least
