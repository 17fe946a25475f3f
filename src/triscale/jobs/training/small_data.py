"""One warning before a training from random weights, or on few images, with the command to use instead."""

from __future__ import annotations

import statistics
from collections import Counter

from triscale.data.pipeline.split import Split
from triscale.jobs.core.run import Request
from triscale.jobs.training.published import published_for
from triscale.jobs.training.request import DEFAULT_BASELINE
from triscale.network.custom import AnyNetwork

FEW_IMAGES = 200
"""Training images per class (median) below which random weights often stay near chance level."""


def small_data_warning(request: Request, split: Split, missing: str = "") -> str | None:
    """Return a warning about random weights or few images, with what to do; None if there is nothing to warn about.

    Args:
        request: What is trained, with its initial weights.
        split: The images.
        missing: Why published weights of the network, which nobody refused, cannot be had.
    """
    usual = statistics.median(Counter(label for sample in split.train for label in sample.labels).values())
    few = usual < FEW_IMAGES
    count = f"{usual:.0f} training images per class"
    if request.start is not None:
        return (
            f"{count} are few: the accuracy will be uncertain; more images help most; to change less of the pretrained "
            "network, add --set head_epochs=3 --set layer_decay=0.8"
            if few
            else None
        )
    often = f", and with {count} the result is often little better than guessing" if few else ""
    if missing:
        return f"training starts from random weights{often}, since {missing}; then train again with another --out"
    if not few:
        return None
    return f"training starts from random weights{often}; pretrained weights help most: {_advice(request.network)}"


def _advice(baseline: AnyNetwork) -> str:
    published = published_for(baseline)
    if published:
        return f"train with --weights inherit:{published[0].title}"
    return (
        f"there are none of {baseline.name}; give --weights with a run or file, or a network that has some, such as "
        f"{DEFAULT_BASELINE}"
    )
