"""Progressive learning: sizes and regularization of the stages, the same order of images, and exact resumption."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import triscale as ts
from conftest import write_classes
from triscale.data.checks.duplicates import Duplicates
from triscale.data.images.transforms import Augmentation
from triscale.data.pipeline.loader import TrainLoader
from triscale.data.pipeline.scan import scan
from triscale.data.pipeline.split import make_split
from triscale.jobs.core.run import RunFolder
from triscale.jobs.training.staged_loader import StagedLoader
from triscale.network.contract import Preprocessing
from triscale.nn.build import build
from triscale.training.changes import changed, unused_settings
from triscale.training.distributed.group import Group
from triscale.training.objective import Objective
from triscale.training.progressive import SIZE_STEP, Progressive
from triscale.training.recipe import Recipe, get_recipe
from triscale.training.state.state import new_state
from triscale.training.step import Stepper

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("progressive") / "images", 12)


@given(stages=st.integers(1, 8), size=st.floats(0.1, 1), epochs=st.integers(1, 40), full=st.integers(8, 400))
def test_stages_grow_to_the_full_size(stages, size, epochs, full):
    plan = Progressive(stages=stages, size=size)
    found = [plan.stage(epoch, epochs) for epoch in range(epochs)]
    assert found == sorted(found)
    assert found[0] == 0
    if stages <= epochs:
        assert set(found) == set(range(stages))
    sides = [plan.side(full, stage) for stage in range(stages)]
    assert sides == sorted(sides)
    assert sides[-1] == full
    assert all(side % SIZE_STEP == 0 or side == full for side in sides)
    if stages > 1 and full > 100:
        assert abs(sides[0] - size * full) <= SIZE_STEP


def test_published_stages_of_efficientnet_v2_s():
    """Table 6 of the paper: RandAugment 5 to 15, dropout .1 to .3, 128 to 300 pixels."""
    recipe = get_recipe("efficientnetv2_imagenet")
    plan = recipe.progressive
    assert [plan.side(300, stage) for stage in (0, 3)] == [128, 300]
    assert [plan.augmentation(recipe.augmentation, stage).magnitude for stage in (0, 3)] == pytest.approx([5, 15])
    assert [recipe.dropout * plan.grown(plan.dropout, stage) for stage in (0, 3)] == pytest.approx([0.1, 0.3])
    assert recipe.peak_learning_rate == pytest.approx(0.256)


def test_images_grow_and_their_order_stays(folder):
    split = make_split(scan(folder), duplicates=Duplicates())

    def loader(side: int) -> TrainLoader:
        return TrainLoader(split, Preprocessing(resolution=side), Augmentation(), batch=5, seed=3)

    plain = loader(32)
    with StagedLoader(lambda stage: loader((16, 24, 32)[stage]), lambda epoch: epoch // 2) as staged:
        for epoch in (0, 1, 2, 5, 0):  # 0 again, as after a rollback
            batches = list(staged.epoch(epoch))
            assert {tuple(batch.images.shape[2:]) for batch in batches} == {((16, 16), (24, 24), (32, 32))[epoch // 2]}
            expected = list(plain.epoch(epoch))
            assert [batch.indices.tolist() for batch in batches] == [batch.indices.tolist() for batch in expected]
        assert all(torch.equal(a.images, b.images) for a, b in zip(staged.epoch(4), plain.epoch(4), strict=True))
        assert (staged.num_steps, staged.count(0)) == (plain.num_steps, plain.count(0))


def test_dropout_and_mixup_follow_the_stage(tiny):
    recipe = Recipe(mixup=0.4, cutmix=1.0, progressive=Progressive(stages=3, dropout=0.5, mixup=0.0))
    model = build(tiny.replace(dropout=0.2))
    stepper = Stepper(
        state=new_state(model, recipe, CPU), forward=model, recipe=recipe, preprocessing=Preprocessing(resolution=16),
        classes=3, objective=Objective(), seed=0, device=CPU, group=Group(), on_message=print,
    )  # fmt: skip
    (dropout,) = (module for module in stepper.state.model.modules() if type(module) is nn.Dropout)
    found = []
    for stage in (0, 1, 2, 0):
        stepper.begin_stage(stage)
        found.append((round(dropout.p, 4), [round(mix._dist.concentration1.item(), 4) for mix in stepper._mix]))
    assert found == [(0.1, []), (0.15, [0.2, 0.5]), (0.2, [0.4, 1.0]), (0.1, [])]


def test_stopped_training_resumes_bitwise_over_stages(folder, tiny, tmp_path, stop_after):
    options = {
        "epochs": 4, "batch_size": 8, "seed": 0, "threads": 1, "workers": 0, "progress": False,
        "settings": {"progressive.stages": 2, "augmentation.policy": "randaugment", "mixup": 0.2},
    }  # fmt: skip
    whole = ts.train(folder, tiny, out=tmp_path / "whole", **options)
    stop_after()
    with pytest.raises(ts.Interrupted):
        ts.train(folder, tiny, out=tmp_path / "stopped", **options)
    resumed = ts.train(folder, tiny, out=tmp_path / "stopped", **options)
    options["settings"] = options["settings"] | {"progressive.stages": 1}
    plain = ts.train(folder, tiny, out=tmp_path / "plain", **options)
    weights = [(run.path / "model.safetensors").read_bytes() for run in (whole, resumed, plain)]
    assert weights[0] == weights[1] != weights[2]
    assert RunFolder(whole.path).spec.request.recipe.progressive.stages == 2


def test_stages_without_effect_are_reported(tiny):
    small = get_recipe("small")
    assert unused_settings(changed(small, ["progressive.size=0.3"]), tiny) == (
        "progressive is ignored: it has one stage; give progressive.stages, such as 4",
    )
    assert "ignored in part" in unused_settings(changed(small, ["progressive.stages=99"]), tiny)[0]
