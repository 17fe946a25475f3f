"""Twenty images a class: fine-tuning as it is by default must not end below a linear probe on the same features.

Pretrains on a part of CIFAR-10 and adapts to photographs of hands, both from the data beside the clone; some minutes.
"""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path

import pytest

from triscale.jobs.fit import Setting, train
from triscale.jobs.run import Request, Run
from triscale.jobs.watch import Silent
from triscale.network.spec import BatchNorm, Head, MBConv, Network, Stage, Stem
from triscale.training.recipe import get_recipe

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
PRETRAINED_ON = 1000
"""Images of each class of CIFAR-10."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "signs.tar.gz").is_file(), reason="needs ../shared/data"),
]


def bench():
    spec = importlib.util.spec_from_file_location("finetune_norms", ROOT / "benchmarks" / "finetune_norms.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unpacked(name: str, to: Path) -> Path:
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extractall(to, filter="data")
    folders = [path for path in to.iterdir() if path.is_dir()]
    return folders[0] if len(folders) == 1 else to


def test_with_twenty_images_a_class_the_default_keeps_up_with_a_linear_probe(tmp_path):
    import torch

    cifar, few = unpacked("cifar10", tmp_path / "cifar"), bench()
    for of_class in sorted((cifar / "train").iterdir()):
        for path in sorted(of_class.iterdir())[PRETRAINED_ON:]:
            path.unlink()
    network = Network(
        name="small",
        stem=Stem(width=16, stride=1),
        stages=(
            Stage(block=MBConv(expansion=1, se_ratio=0.25), width=16, repeats=1, stride=2),
            Stage(block=MBConv(expansion=3, se_ratio=0.25), width=24, repeats=2),
            Stage(block=MBConv(expansion=3, se_ratio=0.25), width=48, repeats=2, stride=2),
        ),
        head=Head(width=160),
        resolution=24,
        norm=BatchNorm(),
    )
    request = Request(
        images=str(cifar),
        network=network,
        budget=None,
        law=None,
        recipe=get_recipe("small").model_copy(update={"epochs": 6}),
        seed=0,
        test_share=0.2,
    )
    train(request, tmp_path / "pretrained", Setting(watcher=Silent(), device=torch.device("cpu")))
    source, signs = Run(tmp_path / "pretrained"), unpacked("signs", tmp_path / "signs")
    gaps = []
    for seed in (0, 1):
        images = tmp_path / f"few-{seed}"
        few.divide(signs, images, 20, seed)
        policy = get_recipe("finetune").norm_statistics
        tuned = few.tuned(source, images, tmp_path / f"tuned-{seed}", policy, seed)
        gaps.append(tuned - few.probe(source, images, tmp_path / f"tuned-{seed}"))
    assert sum(gaps) / len(gaps) >= 0, gaps
