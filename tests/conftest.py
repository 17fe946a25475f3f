"""Small generated images and networks."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from triscale.network.spec import BatchNorm, Head, MBConv, Network, Stage, Stem

os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start: two test workers share two cores

COLORS = {"blue": (40, 60, 220), "green": (50, 200, 70), "red": (220, 50, 40)}


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    os.environ["TRISCALE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["TRISCALE_PRETRAINED"] = "0"  # no test depends on the network


def write_picture(path: Path, color: tuple[int, int, int], seed: int, side: int = 24) -> None:
    """Write one noisy picture of a color as PNG."""
    noise = np.random.default_rng(seed).normal(0, 25, (side, side, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(color) + noise).clip(0, 255).astype(np.uint8)).save(path)


def write_classes(folder: Path, number: int, seed: int = 0, colors: dict[str, tuple[int, int, int]] = COLORS) -> Path:
    """Write ``number`` pictures of each color into a folder of class folders."""
    for offset, (name, color) in enumerate(colors.items()):
        for index in range(number):
            write_picture(folder / name / f"{index:03d}.png", color, seed * 100_000 + offset * 1000 + index)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three classes with 20 pictures each, no split."""
    return write_classes(tmp_path / "images", 20)


@pytest.fixture(scope="session")
def tiny() -> Network:
    """A network that trains in a second."""
    return Network(
        name="tiny",
        stem=Stem(width=8),
        stages=(
            Stage(block=MBConv(expansion=1, se_ratio=0.25), width=8, repeats=1),
            Stage(block=MBConv(expansion=2, kernel=3, se_ratio=0.25), width=16, repeats=2, stride=2),
        ),
        head=Head(width=32),
        resolution=16,
        classes=3,
        dropout=0.1,
        drop_path=0.2,
        norm=BatchNorm(eps=1e-3, momentum=0.1),
    )


@pytest.fixture(scope="session")
def tiny_file(tiny: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny network as a JSON file."""
    path = tmp_path_factory.mktemp("networks") / "tiny.json"
    tiny.save(path)
    return path


@pytest.fixture(scope="session")
def trained_run(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the tiny network on 30 pictures of each color, with its images in ``../images``; copy it to change it.

    All workers of pytest-xdist share one run, which the first of them trains.
    """
    from triscale.cli.app import main

    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "trained"
    with FileLock(f"{root}.lock"):
        if not (root / "done").exists():
            images = write_classes(root / "images", 30)
            options = ("--epochs", "6", "--set", "batch=8", "--out", str(root / "run"))
            main(["train", str(images), "--network", str(tiny_file), *options])
            (root / "done").touch()
    return root / "run"
