"""Core ML packages for Apple devices: written on any system, run on macOS only."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from triscale.deploy.contract import CONTRACT_KEY
from triscale.deploy.engines.optional_import import load
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.engines.session import fixed_shape
from triscale.deploy.exportable import Exportable
from triscale.deploy.graph import INPUT
from triscale.errors import ExportError, RecordError

_IMAGES, _LOGITS = INPUT, "logits"


class CoreMlSession:
    """A Core ML package, one image at a time.

    Raises:
        RecordError: The file is not a Core ML package.
        ExportError: The system is not macOS.
        UserError: coremltools is not installed.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:  # noqa: ARG002 - Core ML chooses its threads
        tools = _load()
        with quiet_process():
            try:
                self._model = tools.models.MLModel(str(file), skip_model_load=not runs_here())
            except (RuntimeError, OSError, ValueError, DecodeError) as error:
                raise RecordError(f"{file} is not a Core ML package") from error
        if not runs_here():
            raise ExportError(f"{file} runs on macOS only; export for another engine to run it here")
        self.contract_text: str | None = self._model.user_defined_metadata.get(CONTRACT_KEY)
        description = self._model.get_spec().description.input[0]
        self.input_shape = fixed_shape([int(side) for side in description.type.multiArrayType.shape][1:])
        self._input = description.name

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits for images ``[N, C, H, W]``."""
        logits = [next(iter(self._model.predict({self._input: image[None]}).values())) for image in images]
        return np.concatenate(logits)


def runs_here() -> bool:
    """Return whether this machine can run Core ML."""
    return sys.platform == "darwin"


def write(subject: Exportable, file: Path) -> None:
    """Write a model as a Core ML package for one image in float32, with its contract inside; the file is not checked.

    Raises:
        ExportError: An operation of the model cannot be converted.
        UserError: coremltools is not installed.
    """
    tools = _load()
    with converting("Core ML's tools cannot convert the model"):
        program = torch.export.export(subject.model, (torch.zeros(1, *subject.input_shape),), strict=False)
        package = tools.convert(
            program.run_decompositions({}),
            convert_to="mlprogram",
            minimum_deployment_target=tools.target.iOS16,
            compute_precision=tools.precision.FLOAT32,
            outputs=[tools.TensorType(name=_LOGITS)],
        )
        package.user_defined_metadata[CONTRACT_KEY] = subject.contract.to_json()
        package.save(str(file))


def _load() -> Any:
    with quiet_process():
        return load("coremltools", "Core ML's converter", "coreml")
