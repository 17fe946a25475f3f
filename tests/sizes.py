"""Sizes of reliability tests: small by default, full for ``benchmarks/reliability.py``, which sets these variables.

``TRISCALE_FULL=1`` asks for the full sizes; ``TRISCALE_FIGURES`` names a file to which each figure is added as a line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from triscale.families import FAMILIES


def size(usual: int, full: int) -> int:
    """Return the number of repetitions."""
    return full if os.environ.get("TRISCALE_FULL") == "1" else usual


NEWER_FAMILIES = (
    "mobilenet_v3_small", "mobilenet_v4_conv_small", "efficientnetv2_b0", "regnety_200mf", "tinynet_e",
    "efficientnet_edgetpu_s", "resnext50_32x4d", "resnetrs50",
)  # fmt: skip
"""One member of each family whose blocks are newer than EfficientNet's."""


def stressed(*values: object) -> list[object]:
    """Return values of a parametrized test that only ``make test-all`` tries; a tuple holds several arguments."""
    return [pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.stress) for one in values]


def first_of_each_family(names: Sequence[str]) -> list[object]:
    """Return names of published networks; of each family, only ``make test-all`` tries more than the first."""
    firsts = [members[0].network.name for members in FAMILIES.values()]
    return [*(name for name in names if name in firsts), *stressed(*(name for name in names if name not in firsts))]


def figure(promise: int, what: str, result: int, of: int, **more: object) -> None:
    """Record that an event occurred in a number of cases, and the test that found it."""
    if path := os.environ.get("TRISCALE_FIGURES"):
        test = os.environ["PYTEST_CURRENT_TEST"].removesuffix(" (call)")
        line = {"promise": promise, "what": what, "found": result, "of": of, "test": test} | more
        with Path(path).open("a") as file:
            file.write(json.dumps(line) + "\n")
