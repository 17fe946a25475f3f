"""Check that all hosts of a training have the same versions and images."""

from __future__ import annotations

import hashlib
from itertools import pairwise

from triscale.data.pipeline.split import Split
from triscale.data.sources.store import open_store
from triscale.errors import JobError, TriscaleError
from triscale.measurement.device import machine
from triscale.training.context import EngineName
from triscale.training.distributed.group import Group

MAX_COMPARED = 64


def computing_packages(engine: EngineName) -> tuple[str, ...]:
    """Return the packages that decode images and compute steps, on whose versions the bits of results depend."""
    return ("triscale", "torch", "torchvision", "numpy", "pillow", *(("jax",) if engine == "xla" else ()))


def check_same_versions(engine: EngineName, group: Group) -> None:
    """Check that all processes have the same versions of the packages that results depend on.

    Args:
        engine: What takes the steps.
        group: The processes.

    Raises:
        JobError: They do not; every process raises it.
    """
    if group.size == 1:
        return
    versions: list[dict[str, str]] = group.share_objects(dict(machine().packages))
    for package in computing_packages(engine):
        found = [of_process.get(package, "none") for of_process in versions]
        if len(set(found)) > 1:
            raise JobError(
                f"the processes have different versions of {package}: {', '.join(found)}; install the same on all hosts"
            )


def check_same_images(split: Split, group: Group) -> None:
    """Compare up to :data:`MAX_COMPARED` images, evenly spaced over training and validation, between the processes.

    Each process reads its own files under the root of the split. A difference would not end the training, but the
    result would depend on which host reads which image.

    Args:
        split: The same in all processes.
        group: The processes.

    Raises:
        JobError: An image differs, or a host does not have it; every process raises it.
    """
    if group.size == 1:
        return
    samples = split.train + split.val
    paths = [samples[index].path for index in range(0, len(samples), -(-len(samples) // MAX_COMPARED))]
    store = open_store(split.root)

    def digest(path: str) -> str:
        try:
            return hashlib.sha256(store.read(path)).hexdigest()
        except (OSError, TriscaleError):
            return "missing"

    digests: list[list[str]] = group.share_objects([digest(path) for path in paths])
    for rank, (first, second) in enumerate(pairwise(digests), 1):
        for path, one, other in zip(paths, first, second, strict=True):
            if one != other:
                raise JobError(
                    f"process {rank} of {group.size} has other images than process {rank - 1}, for example {path} "
                    f"under {split.root}; give all hosts the same folder, or one that they share"
                )
