"""ExecuTorch programs for phones and single-board computers, run by XNNPACK on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from triscale.deploy.contract import CONTRACT_KEY
from triscale.deploy.engines.program import program_of
from triscale.deploy.engines.quiet import converting, quiet_process
from triscale.deploy.engines.session import fixed_shape
from triscale.deploy.exportable import Exportable
from triscale.errors import RecordError
from triscale.optional_import import load

MAX_BATCH = 8
"""Maximum batch size: memory is planned when the program is lowered, and phones pass one image. Lowering fails above
15."""
_SIDE = "triscale_side"
_XNNPACK = "executorch.backends.xnnpack.partition.xnnpack_partitioner"


class ExecuTorchSession:
    """An ExecuTorch program on the CPU.

    Raises:
        RecordError: ExecuTorch cannot read the file.
        UserError: ExecuTorch is not installed.
    """

    def __init__(self, file: Path, threads: int = 0) -> None:
        with quiet_process():
            runtime = _load("executorch.runtime").Runtime.get()
            if threads:
                _load("executorch.extension.pybindings.portable_lib")._unsafe_reset_threadpool(threads)
            try:
                self._program = runtime.load_program(str(file))
                names = self._program.method_names
                self.contract_text = self._constant(CONTRACT_KEY) if CONTRACT_KEY in names else None
                self._forward = self._program.load_method("forward")
                max_batch, *shape = self._forward.metadata.input_tensor_meta(0).sizes()
                self.input_shape = fixed_shape(shape)
                # An int8 program whose first batch is neither 1 nor its maximum computes larger ones wrongly: XNNPACK
                # does not adapt its memory. The largest batch first makes all that follow right.
                self._forward.execute([torch.zeros(max_batch, *shape)])
            except (RuntimeError, OSError) as error:
                raise RecordError(f"{file} is not a file that ExecuTorch can read") from error
        self._first = True

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits for images ``[N, C, H, W]``, in batches of up to 8."""
        parts = np.split(images, range(MAX_BATCH, len(images), MAX_BATCH))
        return np.concatenate([self._part(part) for part in parts])

    def _part(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._forward.execute([torch.from_numpy(np.ascontiguousarray(images))])[0].numpy()
        return logits.copy()  # the program owns the memory and reuses it in the next call

    def _constant(self, name: str) -> Any:
        return self._program.load_method(name).execute([])[0]


def write(subject: Exportable, file: Path) -> None:
    """Write a model as an ExecuTorch program with its contract inside; the file is not checked.

    Raises:
        ExportError: An operation of the model cannot be converted.
        UserError: ExecuTorch is not installed.
    """
    _load(_XNNPACK)
    save(program_of(subject.model, subject.input_shape, MAX_BATCH), subject, file)


def save(program: torch.export.ExportedProgram, subject: Exportable, file: Path) -> None:
    """Lower a program to XNNPACK and write it.

    Raises:
        ExportError: An operation of the model cannot be converted.
    """
    exir, xnnpack = _load("executorch.exir"), _load(_XNNPACK)
    constants = {CONTRACT_KEY: subject.contract.to_json()}
    with converting("ExecuTorch cannot convert the model"):
        lowered = exir.to_edge_transform_and_lower(
            program, partitioner=[xnnpack.XnnpackPartitioner()], constant_methods=constants
        )
        content = lowered.to_executorch().buffer
    file.write_bytes(content)


def _load(module: str) -> Any:
    with quiet_process():
        return load(module, "ExecuTorch", "executorch")
