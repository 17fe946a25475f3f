"""The options that ``fit`` and ``train`` share, as the type of their keywords."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from triscale.api.arguments import LawLike
from triscale.api.data_options import DataOptionsLike
from triscale.api.run import Run
from triscale.training.context import EngineName
from triscale.training.recipe import Recipe


class TrainingOptions(TypedDict, total=False):
    """The keywords of :func:`triscale.fit` and :func:`triscale.train`, which describe them and give their defaults.

    Type checkers read them in the two signatures of each function, with ``folds`` and without.
    """

    law: LawLike
    lite: bool
    profile: str | Path | None
    weights: str | Path | Run | None
    from_scratch: bool
    teacher: str | Path | Run | None
    keep_head: bool
    class_names: Mapping[str, str] | None
    resolution: int | str | None
    recipe: str | Path | Recipe | None
    epochs: int | None
    batch_size: int | None
    learning_rate: float | Literal["auto"] | None
    flip: bool | None
    settings: Mapping[str, Any] | None
    seed: int
    test_share: float
    val_share: float | None
    out: str | Path | None
    device: str
    workers: int | None
    threads: int | Literal["auto"] | None
    time_limit: str | float | None
    max_seconds: float | None
    compile: bool
    engine: EngineName
    log: str | Sequence[str]
    allow_leak: bool
    data: DataOptionsLike | None
    offline: bool
    progress: bool
