"""The losses of a tiny seeded training match a golden file; explain a change to it in the commit message.

``python tests/training/test_golden_loss.py`` rewrites the file.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent.parent / "golden" / "loss.json"
sys.path.insert(0, str(Path(__file__).parent.parent))

from training.test_distributed import train_together  # noqa: E402
from triscale.network.spec import BatchNorm, Head, MBConv, Network, Stage, Stem  # noqa: E402
from triscale.training.recipe import Recipe, RmsProp, Sgd  # noqa: E402
from triscale.training.state.checkpoint import Checkpoints  # noqa: E402

RECIPES = {
    "adamw": Recipe(epochs=4, batch=18, warmup_epochs=1),
    "rmsprop_tensorflow, 2 shards, mixup": Recipe(
        epochs=4, batch=18, micro_batches=2, warmup_epochs=1, mixup=0.2, optimizer=RmsProp(), learning_rate=0.01
    ),
    "sgd, cutmix": Recipe(epochs=4, batch=18, warmup_epochs=1, cutmix=1.0, optimizer=Sgd(), learning_rate=0.05),
}
NETWORK = Network(
    name="golden",
    stem=Stem(width=8),
    stages=(
        Stage(block=MBConv(expansion=1, se_ratio=0.25), width=8, repeats=1),
        Stage(block=MBConv(expansion=2, kernel=5, se_ratio=0.25), width=16, repeats=2, stride=2),
    ),
    head=Head(width=32),
    resolution=16,
    classes=3,
    dropout=0.1,
    drop_path=0.2,
    norm=BatchNorm(eps=1e-3, momentum=0.1),
)


def losses(recipe: Recipe, folder: Path) -> dict[str, list[float]]:
    train_together(folder, NETWORK, recipe)()
    manifest = Checkpoints(folder).newest()
    assert manifest is not None
    return {
        "train": [round(epoch.train_loss, 5) for epoch in manifest.history],
        "val": [round(epoch.val_loss, 5) for epoch in manifest.history],
    }


@pytest.mark.parametrize("name", RECIPES)
def test_losses_match_golden_file(tmp_path: Path, name: str) -> None:
    golden = json.loads(GOLDEN.read_text())[name]
    for part, values in losses(RECIPES[name], tmp_path).items():
        assert values == pytest.approx(golden[part], rel=2e-3), part


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        result = {
            name: losses(recipe, Path(folder) / str(number)) for number, (name, recipe) in enumerate(RECIPES.items())
        }
    GOLDEN.write_text(json.dumps(result, indent=1) + "\n")
