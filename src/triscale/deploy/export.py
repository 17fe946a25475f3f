"""Export a model to a file with its contract, and check the file against the model before it is kept."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from triscale.compat import sync_directory
from triscale.deploy.contract import read_contract
from triscale.deploy.engines import Engine
from triscale.deploy.engines.openvino import WEIGHTS
from triscale.deploy.exportable import Exportable
from triscale.deploy.parity import BATCHES, check_parity, logits_of_model, parity_inputs
from triscale.errors import ParityError
from triscale.results.deployment import Export


def export(subject: Exportable, engine: Engine, real: NDArray[np.float32], path: Path) -> Export:
    """Export a model for an engine and check it on 64 inputs: zeros, ones, saturated and real images.

    The file is moved to its name only after :func:`triscale.deploy.parity.check_parity` has passed.

    Args:
        subject: Model and contract.
        engine: The engine to export for.
        real: Normalized images ``[N, 3, S, S]``.
        path: The file to write.

    Raises:
        ParityError: The exported file does not match the model; no file is left behind.
        ExportError: The engine cannot convert the model.
        UserError: The engine is not installed.
    """
    subject.model.cpu().eval()
    with atomic_output(path) as draft:
        engine.write(subject, draft)
        if not engine.runs_here():
            images, verified, error, agreement = 0, False, None, None
        else:
            inputs = engine.inputs(parity_inputs(real, subject.contract.preprocessing), subject.contract)
            session = engine.open(draft, 1)
            if read_contract(session.contract_text, draft) != subject.contract:
                raise ParityError(
                    "the exported file does not contain the contract that was written to it; it was deleted"
                )
            expected = engine.outputs(logits_of_model(subject.model, inputs), subject.contract)
            parity = check_parity(session, expected, inputs)
            images, verified, error, agreement = parity.inputs, True, parity.max_error, parity.agreement
    return Export(
        file=path.name,
        engine=engine.title,
        size_bytes=size_of(path),
        images=images,
        batches=BATCHES if verified else (),
        verified=verified,
        max_error=error,
        agreement=agreement,
    )


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file, which is moved to ``path`` if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        draft = Path(folder) / path.name
        yield draft
        for part, target in zip(_parts(draft), _parts(path), strict=True):
            _sync(part)
            if target.is_dir():
                target.replace(Path(folder) / "former")
            part.replace(target)
    sync_directory(path.parent)


def copy_exported(source: Path, target: Path) -> None:
    """Copy an exported file or directory, with its weights file if it has one."""
    for part, destination in zip(_parts(source), _parts(target), strict=True):
        if part.is_dir():
            shutil.copytree(part, destination)
        else:
            shutil.copy2(part, destination)


def size_of(path: Path) -> int:
    """Return the size in bytes of an exported file or directory, including its weights file."""
    return sum(file.stat().st_size for part in _parts(path) for file in _files(part))


def remove(path: Path) -> None:
    """Remove an exported file or directory, with its weights file."""
    for part in _parts(path):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _parts(path: Path) -> list[Path]:
    """Return the files of an export; OpenVINO's weights come before the .xml that refers to them."""
    return [path.with_suffix(WEIGHTS), path] if path.suffix == ".xml" else [path]


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]


def _sync(path: Path) -> None:
    for file in _files(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
