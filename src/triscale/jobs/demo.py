"""The demo: fit a network to the handwritten digits that scikit-learn includes."""

from __future__ import annotations

from pathlib import Path

from triscale.data.images.transforms import Augmentation
from triscale.data.sources.digits import write_digits
from triscale.families import get
from triscale.jobs.core.run import Request
from triscale.scaling.budget import Budget
from triscale.scaling.law import EFFICIENTNET
from triscale.training.recipe import SMALL

BUDGET = "3M"
EPOCHS = 16


def demo_request(images: Path, seed: int, epochs: int | None) -> Request:
    """Return the demo's request: EfficientNet-B0 scaled down to 3M MACs, without horizontal flips."""
    recipe = SMALL.replace(epochs=epochs or EPOCHS, augmentation=Augmentation(flip=False, crop_area=(0.6, 1.0)))
    return Request(
        images=str(images.resolve()),
        network=get("efficientnet_b0"),
        budget=Budget.of(BUDGET),
        law=EFFICIENTNET,
        recipe=recipe,
        seed=seed,
        test_share=0.2,
    )


def write_images(out: Path) -> Path:
    """Write the digits as a folder of images below ``out`` and return it."""
    return write_digits(out / "digits")
