"""LiteRT (TensorFlow Lite) files for phones and microcontrollers.

The converter needs an older torch than Triscale and is installed in a separate environment (``examples/litert.sh``);
the interpreter needs none. The contract is in a zip archive at the end of the file, where TensorFlow Lite stores
associated files.
"""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from triscale.deploy.contract import CONTRACT_KEY
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.engines.session import fixed_shape
from triscale.deploy.exportable import Exportable
from triscale.errors import ExportError, RecordError
from triscale.optional_import import load

_MEMBER = f"{CONTRACT_KEY}.json"


class LiteRtSession:
    """A LiteRT file on the CPU, one image at a time.

    Raises:
        RecordError: LiteRT cannot read the file.
        UserError: LiteRT is not installed.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        engine = load("ai_edge_litert.interpreter", "LiteRT", "litert")
        with quiet_process():
            try:
                self._interpreter = engine.Interpreter(model_path=str(file), num_threads=threads or None)
                self._interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                raise RecordError(f"{file} is not a file that LiteRT can read") from error
        self.contract_text = _contract(file)
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]
        self.input_shape = fixed_shape([int(side) for side in self._input["shape"][1:]])

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits for images ``[N, C, H, W]``."""
        return np.concatenate([self._one(image[None]) for image in images])

    def _one(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        self._interpreter.set_tensor(self._input["index"], np.ascontiguousarray(image))
        self._interpreter.invoke()
        logits: NDArray[np.float32] = self._interpreter.get_tensor(self._output["index"])
        return logits


def write(subject: Exportable, file: Path) -> None:
    """Write a model as a LiteRT file for one image, with its contract inside; the file is not checked.

    Raises:
        ExportError: An operation of the model cannot be converted, or LiteRT's converter is not installed.
    """
    converter: Any = _converter()
    example = (torch.zeros(1, *subject.input_shape),)
    with converting("LiteRT cannot convert the model"):
        converter.convert(subject.model, example).export(str(file))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(_MEMBER, subject.contract.to_json())


def _converter() -> Any:
    try:
        with quiet_process():
            return importlib.import_module("litert_torch")
    except ImportError:
        raise ExportError(
            "LiteRT's converter is not installed: it needs a separate environment with an older torch; "
            "examples/litert.sh creates it and exports a run in it"
        ) from None


def _contract(file: Path) -> str | None:
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.read(_MEMBER).decode() if _MEMBER in archive.namelist() else None
    except zipfile.BadZipFile:
        return None
