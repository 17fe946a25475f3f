"""A supernet trained on small images, and the evaluation of networks of its space."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
import time

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_classes
from triscale.data.images.transforms import normalize
from triscale.data.pipeline.split import Split
from triscale.data.sources.digits import write_digits
from triscale.errors import Interrupted, NetworkError, RunError, SearchError
from triscale.families import get
from triscale.jobs.core.run import RunFolder
from triscale.jobs.studies.requests import DEFAULT_STUDY, StudyRequest
from triscale.jobs.studies.supernet import Supernets, SupernetSpec, corners, digest_of, make_supernet, train_supernet
from triscale.jobs.studies.trials import SPLIT, binomial_error, prepare_split
from triscale.jobs.training.train import read_history
from triscale.network.custom import CustomNetwork
from triscale.network.spec import Basic, BatchNorm, Head, MBConv, Network, Stage, Stem
from triscale.nn.supernet import Supernet
from triscale.search.baseline.options import MENUS, Choices, Options
from triscale.search.baseline.space import Space, around, make_space
from triscale.search.study.trial import Job
from triscale.training.context import ExecutionContext
from triscale.training.recipe import Recipe
from triscale.training.state.checkpoint import Checkpoints
from triscale.training.transfer import reestimate_norms

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=2, batch=16, warmup_epochs=0.5, learning_rate=1e-2, val_share=0.25, ema_decay=0.9)
RESIDUAL = make_space(
    "residual",
    Network(
        name="skeleton",
        stem=Stem(width=16),
        stages=(Stage(block=Basic(), width=16, repeats=1), Stage(block=Basic(), width=16, repeats=1)),
        head=Head(),
        resolution=16,
        classes=3,
        norm=BatchNorm(momentum=0.1),
    ),
    # Only some members use projections: a step that samples none of these leaves them without a gradient.
    Choices(options=(Options(**MENUS["resnet"].model_dump() | {"widths": (0.5, 1.0), "layers": (0, 1)}),)),
)


DIGITS = make_space(
    "digits",
    Network(
        name="skeleton",
        stem=Stem(width=8),
        stages=(
            Stage(block=MBConv(), width=8, repeats=1),
            Stage(block=MBConv(), width=16, repeats=2, stride=2),
        ),
        head=Head(width=32),
        resolution=16,
        classes=10,
        norm=BatchNorm(momentum=0.1),
    ),
    Choices(options=(MENUS["mnasnet"],), resolutions=(16, 20)),
)


class Study(StudyRequest):
    kind_name = "study"


def execution(**changes) -> ExecutionContext:
    return ExecutionContext(device=CPU, **changes)


def weights(folder) -> bytes:
    return RunFolder(folder).weights_file.read_bytes()


def split_of(images, folder, space: Space, share: float = 1.0) -> Split:
    study = Study(images=str(images), baseline=space.skeleton, recipe=RECIPE, share=share)
    return prepare_split(study, folder, execution(), DEFAULT_STUDY)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the split of the digits."""
    folder = tmp_path_factory.mktemp("supernets")
    split_of(write_digits(folder / "images"), folder / "study", DIGITS, share=0.5)
    return folder


@pytest.fixture(scope="module")
def spec(place) -> SupernetSpec:
    return SupernetSpec(space=DIGITS, recipe=RECIPE, split=digest_of(Split.load(place / "study" / SPLIT)), samples=1)


@pytest.fixture(scope="module")
def trained(place, spec):
    folder = place / "supernet"
    train_supernet(spec, Split.load(place / "study" / SPLIT), folder, execution())
    return folder


def asking(place, trained, **changes) -> Supernets:
    return Supernets(trained, place / "study" / SPLIT, "cpu", **changes)


def job(network, seed: int = 0) -> Job:
    return Job(network, seed, 0, 1)


@pytest.mark.stress
def test_any_network_is_evaluated_deterministically(place, trained, spec, tmp_path):
    supernets = pickle.loads(pickle.dumps(asking(place, trained)))
    chance = random.Random(0)
    networks = [spec.space.network(spec.space.sample(chance)) for _ in range(3)]
    assert {network.resolution for network in networks} == {16, 20}
    first = [supernets.evaluate(job(network), tmp_path) for network in networks]
    assert [supernets.evaluate(job(network, seed=3), tmp_path) for network in reversed(networks)] == first[::-1]
    assert all(score.error == binomial_error(score.accuracy, 359) for score in first)


@pytest.mark.stress
def test_norm_statistics_are_reestimated_per_network(place, trained, spec, tmp_path, monkeypatch):
    networks = [spec.space.largest(), spec.space.smallest()]
    supernets = asking(place, trained)
    found = [supernets.evaluate(job(network), tmp_path).accuracy for network in networks]
    models = []

    def follow(model, result, preprocessing, device):
        reestimate_norms(model, result, preprocessing, device)
        models.append((model, torch.cat([normalize(batch.images, preprocessing) for batch in result])))

    monkeypatch.setattr("triscale.jobs.studies.supernet.reestimate_norms", follow)
    assert [supernets.evaluate(job(network), tmp_path).accuracy for network in networks] == found
    for model, images in models:
        assert len(images) == len(Split.load(place / "study" / SPLIT).train)
        with torch.no_grad():
            means = model.stem.conv(images).mean((0, 2, 3))
        torch.testing.assert_close(model.stem.norm.running_mean, means, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr("triscale.jobs.studies.supernet.reestimate_norms", lambda *given: None)
    without = [supernets.evaluate(job(network), tmp_path).accuracy for network in networks]
    assert min(found) > max(without) + 0.1


def test_supernet_is_trained_once_and_average_is_saved(place, trained, spec):
    before = RunFolder(trained).weights_file.stat().st_mtime_ns
    train_supernet(spec, Split.load(place / "study" / SPLIT), trained, execution(should_stop=lambda: True))
    assert RunFolder(trained).weights_file.stat().st_mtime_ns == before
    checkpoints = Checkpoints(RunFolder(trained).checkpoints)
    state = checkpoints.load(checkpoints.newest().state_file)
    kept = safetensors.torch.load(weights(trained))
    assert kept.keys() == make_supernet(spec).state_dict().keys()
    assert all(torch.equal(value, state[f"average/{name}"]) for name, value in kept.items())
    assert [epoch.epoch for epoch in read_history(RunFolder(trained))] == [1, 2]


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    """The split of a few noisy colors."""
    folder = tmp_path_factory.mktemp("colors")
    return split_of(write_classes(folder / "images", 40), folder / "study", RESIDUAL)


@pytest.fixture(scope="module")
def residual(split) -> SupernetSpec:
    return SupernetSpec(space=RESIDUAL, recipe=RECIPE, split=digest_of(split), samples=1, seed=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, split, residual) -> bytes:
    folder = tmp_path_factory.mktemp("whole")
    train_supernet(residual, split, folder, execution())
    checkpoints = Checkpoints(RunFolder(folder).checkpoints)
    manifest = checkpoints.newest()
    assert manifest.finished
    learning = {name.split("/")[1] for name in checkpoints.load(manifest.state_file) if name.startswith("optimizer/")}
    parameters = {name for name, _ in make_supernet(residual).named_parameters()}
    assert learning < parameters  # some never had a gradient
    assert any(name.startswith("projections.") for name in learning)
    return weights(folder)


@pytest.mark.parametrize("steps", [1, 5, 9])
def test_stopped_training_resumes_bitwise_identical(split, residual, whole, tmp_path, steps):
    calls = []

    def should_stop() -> bool:
        calls.append(0)
        return len(calls) > steps

    with pytest.raises(Interrupted):
        train_supernet(residual, split, tmp_path, execution(should_stop=should_stop))
    assert not RunFolder(tmp_path).weights_file.exists()
    train_supernet(residual, split, tmp_path, execution())
    assert weights(tmp_path) == whole


TRAINING = """
import sys, time
from pathlib import Path
import torch
from triscale.data.pipeline.split import Split
from triscale.jobs.studies.supernet import SupernetSpec, train_supernet
from triscale.training.context import ExecutionContext

def on_epoch():
    print("epoch", flush=True)
    time.sleep(0.3)

torch.set_num_threads(1)
spec, split, out = map(Path, sys.argv[1:])
print("begin", flush=True)
train_supernet(SupernetSpec.load(spec), Split.load(split), out, ExecutionContext(), on_epoch)
"""


@pytest.mark.process
def test_killed_training_resumes_bitwise_identical(split, residual, whole, tmp_path):
    residual.save(tmp_path / "spec.json")
    split.save(tmp_path / "split.json")
    files = (tmp_path / "spec.json", tmp_path / "split.json", tmp_path / "supernet")
    for line, seconds in (("begin", 0.2), ("epoch", 0.02)):
        with subprocess.Popen([sys.executable, "-c", TRAINING, *files], stdout=subprocess.PIPE, text=True) as process:
            assert any(found.strip() == line for found in process.stdout), f"the training ended before {line}"
            time.sleep(seconds)
            process.kill()
        assert not RunFolder(files[-1]).weights_file.exists()
    train_supernet(residual, split, files[-1], execution())
    assert weights(files[-1]) == whole


def test_invalid_training_is_rejected(trained, split, residual, tmp_path):
    with pytest.raises(RunError, match="another space"):
        train_supernet(residual, split, trained, execution())
    (tmp_path / "something").write_text("")
    with pytest.raises(RunError, match="something"):
        train_supernet(residual, split, tmp_path, execution())
    fewer = split.model_copy(update={"train": split.train[1:]})
    with pytest.raises(RunError, match="another split"):
        train_supernet(residual, fewer, tmp_path / "new", execution())
    with RunFolder(trained).lock(), pytest.raises(RunError, match="in use"):
        train_supernet(residual, split, trained, execution())


def test_invalid_requests_are_rejected(place, trained, split, tmp_path):
    with pytest.raises(RunError, match="not trained completely"):
        asking(place, tmp_path).evaluate(job(DIGITS.largest()), tmp_path)
    split.save(tmp_path / "other.json")
    with pytest.raises(RunError, match="was changed"):
        Supernets(trained, tmp_path / "other.json", "cpu").evaluate(job(DIGITS.largest()), tmp_path)
    with pytest.raises(NetworkError, match="same space"):
        asking(place, trained).evaluate(job(RESIDUAL.largest()), tmp_path)
    with pytest.raises(SearchError, match="does not support custom models"):
        asking(place, trained).evaluate(job(CustomNetwork(name="own", function="own:build")), tmp_path)


SPACES = [
    around(get("mobilenet_v2@32"), "mnasnet"),
    around(get("mobilenet_v2@32"), "small", (32, 48)),
    around(get("efficientnet_b0"), "tiny"),
    around(get("resnet50@32"), "resnet"),
    around(get("efficientnetv2_b0").replace(resolution=64), "efficientnet_v2"),
    around(get("mobilenet_v4_conv_small").replace(resolution=64), "mobilenet_v4", (64, 96)),
    # 0.95 of 23 channels is rounded to more than 23.
    make_space(
        "odd",
        DIGITS.skeleton.replace(stages=tuple(Stage(block=MBConv(), width=23, repeats=2) for _ in range(3))),
        Choices(options=(Options(operations=("mbconv",), expansions=(1, 4), widths=(0.95, 1.0)),)),
    ),
]


def empty(space: Space) -> Supernet:
    with torch.device("meta"):
        return Supernet(corners(space), draw=lambda number: space.skeleton)


EMPTY = [empty(space) for space in SPACES]


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(range(len(SPACES))), st.randoms(use_true_random=False))
def test_corners_contain_weights_of_every_network(number, chance):
    space = SPACES[number]
    network = space.network(space.sample(chance))
    assert EMPTY[number].slices(network)


def test_corners_are_networks_of_the_space():
    for space, number in zip(SPACES, (3, 1, 1, 2, 4, 5, 2), strict=True):
        found = corners(space)
        assert len(found) == number
        assert all(space.find(network) is not None for network in found)
