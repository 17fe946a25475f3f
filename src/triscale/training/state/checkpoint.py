"""Checkpoints that are written atomically and verified when read.

A checkpoint is a safetensors file and a JSON manifest, which is written last and holds the SHA-256 of the tensor files:

    step-000000120-<digest of the manifest>.json
        state-000000120.safetensors     model, average, optimizer, losses
        best-000000080.safetensors      averaged weights of the kept epoch

The two newest checkpoints are kept. Reading takes the newest one whose files match their digests.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import safetensors.torch
from torch import Tensor

from triscale.errors import RecordError
from triscale.record import Record, write_atomic
from triscale.results.history import Epoch, evaluated_epochs

KEPT = 2


class Stored(Record):
    """A tensor file of a checkpoint: name and SHA-256."""

    name: str
    sha256: str


class Manifest(Record):
    """The state of a training after ``step`` steps, and the files that hold its tensors.

    ``skipped`` are steps, counted from 0, that are left out because the losses diverged after them. ``rollbacks`` is
    how often that happened. ``initial`` is epoch 0: pretrained weights before the first step.
    """

    kind_name: ClassVar[str] = "checkpoint"
    schema_number: ClassVar[int] = 2

    recipe: str
    network: str
    seed: int
    step: int
    skipped: tuple[int, ...] = ()
    rollbacks: int = 0
    finished: bool
    initial: Epoch | None = None
    history: tuple[Epoch, ...]
    best: Epoch | None
    state_file: Stored
    best_file: Stored | None

    @property
    def evaluated(self) -> tuple[Epoch, ...]:
        """Epoch 0, if the weights are pretrained, and all finished epochs."""
        return evaluated_epochs(self.initial, self.history)


class Checkpoints:
    """The checkpoints in a folder; the caller makes sure that no other process writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def store(self, name: str, tensors: dict[str, Tensor]) -> Stored:
        """Write tensors to a file atomically and return its entry for the manifest."""
        content = safetensors.torch.save({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
        write_atomic(self.folder / name, content)
        return Stored(name=name, sha256=hashlib.sha256(content).hexdigest())

    def commit(self, manifest: Manifest) -> None:
        """Write the manifest, which makes the checkpoint valid, and remove files that are no longer needed."""
        # The digest in the name lets a reader detect a damaged manifest; zero padding sorts names by step.
        content = manifest.to_json().encode()
        write_atomic(self.folder / f"step-{manifest.step:09d}-{_digest(content)}.json", content)
        self._clean()

    def newest(self, at_most: int | None = None) -> Manifest | None:
        """Return the newest manifest whose files are undamaged, or None.

        Args:
            at_most: The latest step that the manifest may be from; None for no limit.
        """
        for path in self._manifests():
            manifest = _read(path)
            if manifest and at_most is not None and manifest.step > at_most:
                continue
            if manifest and all(self._is_good(file) for file in (manifest.state_file, manifest.best_file) if file):
                return manifest
        return None

    def undamaged(self) -> list[Manifest]:
        """Return the manifests whose files are undamaged, the newest first."""
        found = [manifest for path in self._manifests() if (manifest := _read(path))]
        return [one for one in found if all(self._is_good(file) for file in (one.state_file, one.best_file) if file)]

    def damaged(self) -> list[str]:
        """Return the names of damaged manifests, and of damaged or missing files that the others refer to."""
        read = {path.name: _read(path) for path in self._manifests()}
        files = {file for one in read.values() if one for file in (one.state_file, one.best_file) if file}
        bad = [name for name, manifest in read.items() if manifest is None]
        return sorted([*bad, *(file.name for file in files if not self._is_good(file))])

    def load(self, file: Stored) -> dict[str, Tensor]:
        """Read the tensors of a stored file.

        Raises:
            RecordError: The file was changed after it was written.
        """
        content = (self.folder / file.name).read_bytes()
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise RecordError(f"{self.folder / file.name} was damaged after it was written; restore it from a copy")
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
        return tensors

    def _manifests(self) -> list[Path]:
        """Return the manifests, the newest first."""
        return sorted(self.folder.glob("step-*.json"), reverse=True)

    def _is_good(self, file: Stored) -> bool:
        path = self.folder / file.name
        return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256

    def _clean(self) -> None:
        num_kept, referenced = 0, set()
        for path in self._manifests():
            manifest = _read(path)
            # Damaged manifests are removed, and so are all but the newest valid ones.
            if manifest is None or num_kept == KEPT:
                path.unlink()
                continue
            num_kept += 1
            referenced |= {file.name for file in (manifest.state_file, manifest.best_file) if file}
        for path in self.folder.glob("*.safetensors"):
            if path.name not in referenced:
                path.unlink()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read(path: Path) -> Manifest | None:
    """Read a manifest, or return None if it is damaged."""
    content = path.read_bytes()
    if path.stem.rpartition("-")[2] != _digest(content):
        return None
    try:
        return Manifest.from_json(content, source=str(path))
    except RecordError:
        return None
