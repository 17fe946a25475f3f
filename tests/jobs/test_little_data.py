"""Fine-tuning with default settings on 20 images per class is no worse than a linear probe on the same features.

Pretrains on a subset of CIFAR-10 and fine-tunes on photographs of hands, both from the data next to the repository.
Takes some minutes.
"""

from __future__ import annotations

import importlib
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "signs.tar.gz").is_file(), reason="needs ../shared/data"),
]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("little_data")


def unpacked(name: str, to: Path) -> Path:
    with tarfile.open(DATA / f"{name}.tar.gz") as archive:
        archive.extractall(to, filter="data")
    folders = [path for path in to.iterdir() if path.is_dir()]
    return folders[0] if len(folders) == 1 else to


def test_twenty_images_per_class_match_linear_probe(bench, tmp_path):
    source = bench.pretrained(unpacked("cifar10", tmp_path / "cifar"), tmp_path)
    signs, gaps = unpacked("signs", tmp_path / "signs"), []
    for seed in (0, 1):
        images, out = tmp_path / f"few-{seed}", tmp_path / f"tuned-{seed}"
        bench.divide(signs, images, 20, seed)
        tuned = bench.tuned(source, images, out, bench.DEFAULT, seed)
        gaps.append(tuned - bench.probe(source, images, out))
    assert sum(gaps) / len(gaps) >= 0, gaps
